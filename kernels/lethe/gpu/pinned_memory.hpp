/// Host memory that copies reach at the full speed of the link: one allocation, cut into blocks.
#pragma once

#include <cstddef>
#include <limits>
#include <span>

#include "lethe/config.hpp"
#include "lethe/gpu/status.hpp"
#include "lethe/gpu/transfer_calls.hpp"

namespace lethe::gpu {

/// Settings of PinnedMemory.
struct PinnedMemoryConfig {
  /// Host blocks: BlockTablesConfig's.
  std::size_t blocks = 0;
  /// Bytes of one block, all arrays of a layer together.
  std::size_t block_bytes = 0;

  bool operator==(const PinnedMemoryConfig&) const = default;
};

/// Owns the host tier's blocks; who has which is the block tables' affair. Pinning takes the system
/// about as long as writing the memory would, so it is done once. Pages lie on the memory node of
/// the thread that constructs: the device's own is the one to run it on.
template <TransferCalls Calls>
class PinnedMemory {
 public:
  using Config = PinnedMemoryConfig;

  /// calls: outlives the memory. Throws std::invalid_argument for counts of 0 and for more bytes
  /// than can be counted; when the system has not so much to pin, status() says so.
  PinnedMemory(const Config& config, Calls& calls) : config_(checked(config)), calls_(&calls) {
    const int code = calls_->allocate_pinned(memory_, size());
    if (code != 0) status_ = {code, "cudaHostAlloc", "blocks: pin fewer of them"};
    if (code != 0) memory_ = nullptr;
  }
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  /// After the copier whose copies reach it.
  ~PinnedMemory() {
    if (memory_ != nullptr) calls_->free_pinned(memory_);
  }

  /// Whether there is memory; blocks may be asked for only then.
  [[nodiscard]] const Status& status() const { return status_; }
  [[nodiscard]] std::size_t blocks() const { return config_.blocks; }
  /// All of it, for a BlockArray. Empty where status() is not ok.
  [[nodiscard]] std::span<std::byte> bytes() const {
    return {memory_, memory_ != nullptr ? size() : 0};
  }
  /// index < blocks().
  [[nodiscard]] std::span<std::byte> block(std::size_t index) const {
    LETHE_ASSERT(memory_ != nullptr && index < config_.blocks);
    return {memory_ + index * config_.block_bytes, config_.block_bytes};
  }

 private:
  static const Config& checked(const Config& config) {
    using lethe::detail::require;
    require(config.blocks >= 1, "blocks", config.blocks, "pin at least 1 block");
    require(config.block_bytes >= 1, "block_bytes", config.block_bytes, "give a block's bytes");
    require(config.blocks <= std::numeric_limits<std::size_t>::max() / config.block_bytes, "blocks",
            config.blocks, "pin fewer: their bytes cannot be counted");
    return config;
  }
  [[nodiscard]] std::size_t size() const { return config_.blocks * config_.block_bytes; }

  Config config_;
  Calls* calls_;
  std::byte* memory_ = nullptr;
  Status status_{};
};

}  // namespace lethe::gpu
