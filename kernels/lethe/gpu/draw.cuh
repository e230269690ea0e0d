/// Scores that no attention is read for: drawn at random, or all the same. No memory is kept.
#pragma once

#include <cstdint>

#include "lethe/gpu/block.cuh"
#include "lethe/numeric.hpp"
#include "lethe/score/random.hpp"

namespace lethe::gpu::detail {

/// In the place of a row of scores: the host's RandomScore, or NoScore.
class DrawnScores {
 public:
  /// positions: of each slot. drawn: false where every token scores 0.
  LETHE_BLOCK_CODE DrawnScores(const Position* positions, std::uint64_t stream, bool drawn)
      : positions_(positions), stream_(stream), drawn_(drawn) {}

  [[nodiscard]] LETHE_BLOCK_CODE float operator[](std::uint32_t slot) const {
    return drawn_ ? lethe::detail::drawn_score(stream_, positions_[slot]) : 0.0f;
  }

 private:
  const Position* positions_;
  std::uint64_t stream_;
  bool drawn_;
};

/// Whether scores come of attention, so that sparsity and lost mass mean something.
template <class Scores>
inline constexpr bool of_mass = true;
template <>
inline constexpr bool of_mass<DrawnScores> = false;

}  // namespace lethe::gpu::detail
