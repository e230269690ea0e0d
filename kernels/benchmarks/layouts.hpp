/// The cache in each layout that a compaction is measured in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bench.hpp"
#include "lethe/gpu/compaction.hpp"

namespace gpu_bench {

/// [layer][sequence][token][head][channel], or heads before tokens.
void add_strips(const Bench& bench, bool heads_first, lethe::gpu::Compaction& compaction);

/// Blocks of 16 tokens in a pool for each layer, in an order that is drawn; [token][head][channel]
/// in each block.
class Pages {
 public:
  explicit Pages(const Bench& bench);

  void add_to(lethe::gpu::Compaction& compaction) const;
  /// The tables as they were made; enqueued.
  void restore(const Bench& bench) const;
  /// Where a token's key of head 0 lies, by the tables as they were made, or as they are.
  [[nodiscard]] const std::byte* key(std::size_t number, std::uint32_t token, bool made) const;
  [[nodiscard]] std::vector<std::uint32_t> read_tables() const { return tables_.read(); }
  [[nodiscard]] std::vector<std::uint32_t> read_entries() const { return entries_.read(); }

  static constexpr std::uint32_t block_tokens = 16;

 private:
  [[nodiscard]] lethe::gpu::PageArray array(std::byte* base) const;
  [[nodiscard]] std::uint32_t blocks() const { return bench_->sizes().tokens / block_tokens; }
  [[nodiscard]] std::size_t numbers() const {
    return std::size_t{bench_->sizes().layers} * bench_->sizes().batch;
  }

  const Bench* bench_;
  std::vector<std::uint32_t> made_;
  Items<std::uint32_t> saved_;
  Items<std::uint32_t> tables_;
  Items<std::uint32_t> saved_entries_;
  Items<std::uint32_t> entries_;
  Items<std::uint32_t> freed_;
  Items<std::uint32_t> workspace_;
  /// Counts of freed and of fresh blocks, and first rows written, one after another.
  Items<std::uint32_t> told_;
};

}  // namespace gpu_bench
