/// A few numbers from the device, read without waiting: lengths after a round, lists of freed
/// blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "lethe/config.hpp"
#include "lethe/gpu/pinned_memory.hpp"
#include "lethe/gpu/status.hpp"
#include "lethe/gpu/transfer_calls.hpp"

namespace lethe::gpu {

/// One read-back at a time: begun behind the kernels whose outcome it reads, taken when it is
/// there. What it tells has then passed on the device, so blocks it lists as freed may be used by
/// what the host enqueues from then on, on any stream. Nothing is allocated after construction.
template <TransferCalls Calls>
class ReadBack {
 public:
  using Stream = typename Calls::Stream;
  using Event = typename Calls::Event;
  using Numbers = std::span<const std::uint32_t>;

  /// numbers: most of one read-back. calls: outlives the object. Throws std::invalid_argument for
  /// 0 numbers; status() tells when memory or the event cannot be had.
  ReadBack(std::size_t numbers, Calls& calls)
      : calls_(&calls),
        memory_({.blocks = numbers, .block_bytes = sizeof(std::uint32_t)}, calls),
        status_(memory_.status()) {
    if (!status_.ok()) return;
    const int code = calls_->create_event(event_);
    if (code != 0) status_ = {code, "cudaEventCreateWithFlags"};
    has_event_ = code == 0;
  }
  ReadBack(const ReadBack&) = delete;
  ReadBack& operator=(const ReadBack&) = delete;
  /// Waits for what is under way: its memory goes.
  ~ReadBack() {
    if (!has_event_) return;
    while (under_way_ && calls_->not_ready(calls_->wait_for_event(event_))) {
    }
    calls_->destroy_event(event_);
  }

  [[nodiscard]] const Status& status() const { return status_; }
  [[nodiscard]] bool under_way() const { return under_way_; }

  /// Enqueues the copies of ranges of device memory on the stream, to lie one behind another.
  /// Refused while another read-back is under way, and for more numbers than there is room for.
  /// After an error poll never gives numbers, and begin is refused until what was enqueued has
  /// passed. O(ranges).
  [[nodiscard]] Status begin(std::span<const Numbers> ranges, Stream stream) noexcept {
    if (!status_.ok()) return status_;
    if (under_way_) return refused("read_back", "ranges: take the read-back before it first");
    std::size_t numbers = 0;
    for (const Numbers& range : ranges) numbers += range.size();
    if (numbers > memory_.blocks())
      return refused("read_back", "ranges: more than there is room for");
    size_ = numbers;
    const Status copied = enqueue(ranges, stream);
    const int code = calls_->record_event(event_, stream);
    under_way_ = true;
    broken_ = !copied.ok() || code != 0;
    // Without its event only the stream tells; it is asked once, here, for this hardly happens.
    if (code != 0) calls_->wait_for_stream(stream);
    if (!copied.ok() || code == 0) return copied;
    return {code, "cudaEventRecord"};
  }

  /// The numbers of all ranges, valid until the next begin; none while they are not there. One
  /// question to the runtime, which does not block.
  [[nodiscard]] std::optional<Numbers> poll() noexcept {
    if (!under_way_) return std::nullopt;
    const int code = calls_->query_event(event_);
    if (calls_->not_ready(code)) return std::nullopt;
    under_way_ = false;
    if (code != 0 || broken_) return std::nullopt;
    return Numbers{reinterpret_cast<const std::uint32_t*>(memory_.bytes().data()), size_};
  }

 private:
  [[nodiscard]] Status enqueue(std::span<const Numbers> ranges, Stream stream) {
    std::byte* target = memory_.bytes().data();
    for (const Numbers& range : ranges) {
      if (range.empty()) continue;
      const auto* source = reinterpret_cast<const std::byte*>(range.data());
      const int code = calls_->copy(target, source, range.size_bytes(), stream);
      if (code != 0) return {code, "cudaMemcpyAsync"};
      target += range.size_bytes();
    }
    return {};
  }

  Calls* calls_;
  PinnedMemory<Calls> memory_;
  Status status_;
  Event event_{};
  bool has_event_ = false;
  bool under_way_ = false;
  bool broken_ = false;
  std::size_t size_ = 0;
};

}  // namespace lethe::gpu
