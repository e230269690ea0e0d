/// From a window of mass to a layer's scores, by one thread block: the host's WindowMass.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/gpu/block.cuh"
#include "lethe/gpu/window.hpp"
#include "lethe/numeric.hpp"
#include "lethe/score/window.hpp"

namespace lethe::gpu {

/// One layer of one sequence whose window is to be summed.
struct WindowInput {
  MassWindow mass{};
  const Position* positions = nullptr;
  std::uint32_t tokens = 0;
  /// Queries that the sequence has seen.
  std::uint32_t seen = 0;
  /// Positions ascend with slots.
  bool ordered = true;
};

namespace detail {

/// Scores by rank, kept as bits in what is later a list of slots.
struct RankedBits {
  const Slot* bits;
  [[nodiscard]] LETHE_HOST_DEVICE float operator[](std::size_t rank) const {
    return lethe::detail::bit_cast<float>(bits[rank]);
  }
};

/// How many tokens are older than that in `slot`.
[[nodiscard]] LETHE_BLOCK_CODE inline std::uint32_t rank_of(const WindowInput& input,
                                                            std::uint32_t slot) {
  if (input.ordered) return slot;
  const Position own = input.positions[slot];
  std::uint32_t rank = 0;
  for (std::uint32_t i = 0; i < input.tokens; ++i) rank += input.positions[i] < own ? 1u : 0u;
  return rank;
}

[[nodiscard]] LETHE_BLOCK_CODE inline float window_sum(const WindowInput& input,
                                                       std::uint32_t slot) {
  return input.mass.sum(slot, input.positions[slot], input.seen);
}

}  // namespace detail

/// Writes one score a token. config: its window is that of the mass. scratch: as many entries as
/// tokens; left alone where nothing is pooled. O(tokens x (window + pool)); O(tokens^2) more where
/// slots are out of order and neighbours are pooled.
template <ThreadBlock Block>
LETHE_BLOCK_CODE void window_scores(const Block& block, const WindowInput& input,
                                    const WindowMassConfig& config, float* scores, Slot* scratch) {
  const bool pools = config.pool != 1;
  block.lanes([&](unsigned lane) {
    for (std::uint32_t slot = lane; slot < input.tokens; slot += Block::threads) {
      const float sum = detail::window_sum(input, slot);
      if (!pools) scores[slot] = sum;
      if (pools) scratch[detail::rank_of(input, slot)] = lethe::detail::bit_cast<Slot>(sum);
    }
  });
  if (!pools) return;
  const float share = 1.0f / static_cast<float>(config.pool);
  block.lanes([&](unsigned lane) {
    for (std::uint32_t slot = lane; slot < input.tokens; slot += Block::threads) {
      scores[slot] =
          lethe::detail::pooled_score(detail::RankedBits{scratch}, detail::rank_of(input, slot),
                                      input.tokens, config.pool, config.pooling, share);
    }
  });
}

}  // namespace lethe::gpu
