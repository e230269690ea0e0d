/// How much of a layer's score a plan gives up, by one thread block: the bits of the host's sum.
#pragma once

#include <cstdint>

#include "lethe/gpu/block.cuh"
#include "lethe/gpu/select.cuh"
#include "lethe/lost_mass.hpp"
#include "lethe/sparsity.hpp"

namespace lethe::gpu::detail {

static_assert(radix_bins % lethe::detail::kept_lanes == 0, "a tile begins with the first lane");

/// The share lost when `count` slots stay. All lanes fetch a tile of scores, then one lane for each
/// of the host's adds its own, one after another.
template <ThreadBlock Block, class Scores>
[[nodiscard]] LETHE_BLOCK_CODE double lost_share(const Block& block, SelectShared& shared,
                                                 lethe::detail::KeptLanes& lanes,
                                                 const MassSummary& summary, const Scores& scores,
                                                 const Slot* kept, std::uint32_t count) {
  block.lanes([&](unsigned lane) {
    if (lane < lethe::detail::kept_lanes) lanes.sum[lane] = 0;
  });
  for (std::uint32_t begin = 0; begin < count; begin += radix_bins) {
    const std::uint32_t held = count - begin < radix_bins ? count - begin : radix_bins;
    block.lanes([&](unsigned lane) {
      for (std::uint32_t i = lane; i < held; i += Block::threads) {
        shared.bins[i] = lethe::detail::bit_cast<std::uint32_t>(scores[kept[begin + i]]);
      }
    });
    block.lanes([&](unsigned lane) {
      if (lane >= lethe::detail::kept_lanes) return;
      double sum = lanes.sum[lane];
      for (std::uint32_t i = lane; i < held; i += lethe::detail::kept_lanes) {
        lethe::detail::add_kept(sum, lethe::detail::bit_cast<float>(shared.bins[i]));
      }
      lanes.sum[lane] = sum;
    });
  }
  return lethe::detail::lost_share(summary, block.read(lanes));
}

/// The fewest tokens that lose no more than a plan may, by halving (Planner::select_guarded): goes
/// on from what the budget keeps to what a round may.
class LostMassSearch {
 public:
  LETHE_BLOCK_CODE LostMassSearch(std::uint32_t tokens, std::uint32_t limit)
      : tokens_(tokens), low_(tokens), high_(limit) {}

  /// Told what share tokens() lose; whether others are to be selected.
  [[nodiscard]] LETHE_BLOCK_CODE bool goes_on(double lost, float most) {
    const bool enough = lost <= static_cast<double>(most);
    const bool stands = !begun_ && (enough || low_ >= high_);
    if (stands || last_) return false;
    if (begun_) (enough ? high_ : low_) = tokens_;
    begun_ = true;
    last_ = low_ + 1 >= high_;
    tokens_ = last_ ? high_ : low_ + (high_ - low_) / 2;
    return true;
  }
  [[nodiscard]] LETHE_BLOCK_CODE std::uint32_t tokens() const { return tokens_; }
  /// Found: whole blocks may be kept instead.
  [[nodiscard]] LETHE_BLOCK_CODE bool is_last() const { return last_; }

 private:
  std::uint32_t tokens_;
  std::uint32_t low_;
  std::uint32_t high_;
  bool begun_ = false;
  bool last_ = false;
};

}  // namespace lethe::gpu::detail
