/// One pass over a layer's scores by one thread block: the host's summary, bit for bit.
#pragma once

#include <cstdint>

#include "lethe/gpu/block.cuh"
#include "lethe/sparsity.hpp"

namespace lethe::gpu::detail {

/// Shared memory of a summary.
struct SummaryShared {
  lethe::detail::SummaryLanes lanes;
  MassSummary summary;
};

/// Summarises scores in the host's 16 lanes: each is one thread's, from the first token to the
/// last.
template <ThreadBlock Block, class Scores>
[[nodiscard]] LETHE_BLOCK_CODE MassSummary summarise(const Block& block, SummaryShared& shared,
                                                     const Scores& scores, std::uint32_t tokens) {
  constexpr unsigned lanes = lethe::detail::summary_lanes;
  block.lanes([&](unsigned lane) {
    if (lane >= lanes) return;
    double sum = 0;
    double square = 0;
    float maximum = scores[0];
    std::uint32_t odd_bits = 0;
    for (std::uint32_t slot = lane; slot < tokens; slot += lanes) {
      lethe::detail::add_to_lane(sum, square, maximum, odd_bits, scores[slot]);
    }
    shared.lanes.sum[lane] = sum;
    shared.lanes.square[lane] = square;
    shared.lanes.maximum[lane] = maximum;
    shared.lanes.odd_bits[lane] = odd_bits;
  });
  block.lanes([&](unsigned lane) {
    if (lane == 0) shared.summary = lethe::detail::fold(shared.lanes, tokens);
  });
  return block.read(shared.summary);
}

}  // namespace lethe::gpu::detail
