/// The scores of a sequence whose layers keep one set: each layer's divided by their sum, and added
/// up in the order of layers, as on the host.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/gpu/block.cuh"
#include "lethe/gpu/plan.cuh"
#include "lethe/gpu/round_block.cuh"
#include "lethe/gpu/score_rows.cuh"
#include "lethe/gpu/summary.cuh"
#include "lethe/planner.hpp"

namespace lethe::gpu {

namespace detail {

/// The layers of a sequence together: whether a round examines any, and whether they are equally
/// long.
struct SequenceLayers {
  bool due = false;
  bool equal = true;
};

/// O(layers), in every thread: they read the same few numbers.
[[nodiscard]] LETHE_BLOCK_CODE inline SequenceLayers layers_of(const State& state,
                                                               const PlanSettings& settings,
                                                               std::uint32_t slot) {
  SequenceLayers found;
  const std::uint32_t tokens = state.lengths[slot];
  for (std::uint32_t layer = 0; layer < state.shape.layers; ++layer) {
    const std::size_t number = state.number(layer, slot);
    found.due |= is_due(settings, state.lengths[number], state.cadences[number]);
    found.equal &= state.lengths[number] == tokens;
  }
  return found;
}

/// Whether a row of the batch names a sequence that is summed; its slot.
[[nodiscard]] LETHE_BLOCK_CODE inline bool is_summed(const Round& round, std::uint32_t row,
                                                     std::uint32_t& slot) {
  if (!slot_of_row(round.batch, round.state.shape.slots, row, slot)) return false;
  const SequenceLayers layers = layers_of(round.state, round.settings, slot);
  return layers.due && layers.equal && round.state.lengths[slot] != 0;
}

}  // namespace detail

/// A block of the first pass: what one layer of one row is multiplied by.
template <ThreadBlock Block>
LETHE_BLOCK_CODE void factor_block(const Block& block, detail::SummaryShared& shared,
                                   const Round& round, std::uint32_t layer, std::uint32_t row) {
  detail::SetPlace place{layer, row};
  if (!detail::is_summed(round, row, place.slot)) return;
  const State& state = round.state;
  const detail::ScoreSource source = detail::source_of(round);
  detail::sum_groups(block, source, place);
  const std::size_t number = state.number(layer, place.slot);
  const MassSummary summary =
      detail::summarise(block, shared, source.row(place), state.lengths[number]);
  block.lanes([&](unsigned lane) {
    if (lane == 0) round.plans.factors[number] = lethe::detail::share_factor(summary.sum);
  });
}

/// A block of the second: tokens from tile x Block::threads on, one a lane, of one row.
template <ThreadBlock Block>
LETHE_BLOCK_CODE void share_block(const Block& block, const Round& round, std::uint32_t tile,
                                  std::uint32_t row) {
  detail::SetPlace place{0, row};
  if (!detail::is_summed(round, row, place.slot)) return;
  const State& state = round.state;
  const detail::ScoreSource source = detail::source_of(round);
  block.lanes([&](unsigned lane) {
    const std::uint32_t token = tile * Block::threads + lane;
    if (token >= state.lengths[place.slot]) return;
    float sum = 0.0f;
    for (std::uint32_t layer = 0; layer < state.shape.layers; ++layer) {
      const float score = source.row({layer, row, 0, place.slot})[token];
      const double factor = round.plans.factors[state.number(layer, place.slot)];
      sum = lethe::detail::with_share(sum, score, factor);
    }
    round.plans.shares[std::size_t{place.slot} * state.shape.capacity + token] = sum;
  });
}

}  // namespace lethe::gpu
