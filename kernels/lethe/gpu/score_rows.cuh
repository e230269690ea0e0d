/// The scores that a round plans from, a row for each kept set: a group's own, its layer's groups
/// summed, or what tensor-parallel ranks have summed over all of them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/gpu/block.cuh"
#include "lethe/gpu/state.hpp"
#include "lethe/gpu/status.hpp"

namespace lethe::gpu {

/// Floats that gather_scores writes: row (layer x rows + row) x sets + set of `capacity` of them.
/// rows: of the batch, padding included.
[[nodiscard]] inline std::size_t score_count(const StateShape& shape, std::uint32_t rows) {
  return std::size_t{shape.layers} * rows * shape.sets() * shape.capacity;
}

namespace detail {

/// A kept set of a layer in a batch, and its state slot.
struct SetPlace {
  std::uint32_t layer = 0;
  std::uint32_t row = 0;
  std::uint32_t set = 0;
  std::uint32_t slot = 0;
};

/// A token's score, its layer's groups one after another, as on the host.
[[nodiscard]] LETHE_BLOCK_CODE LETHE_EXACT inline float sum_of_groups(const State& state,
                                                                      std::size_t number,
                                                                      std::uint32_t token) {
  LETHE_EXACT_BODY
  const float* scores = state.score_row(number, 0) + token;
  float sum = *scores;
  for (std::uint32_t group = 1; group < state.shape.groups; ++group) {
    sum = sum + scores[std::size_t{group} * state.shape.capacity];
  }
  return sum;
}

/// A set's row of what gather_scores writes.
[[nodiscard]] LETHE_BLOCK_CODE inline std::size_t gathered_row(const StateShape& shape,
                                                               std::uint32_t rows,
                                                               const SetPlace& place) {
  const std::size_t row = std::size_t{place.layer} * rows + place.row;
  return (row * shape.sets() + place.set) * shape.capacity;
}

/// Where a round's scores come from: `given`, of gather_scores' layout, where it is not null; else
/// the state, its groups summed into `sums`.
struct ScoreSource {
  const State& state;
  const float* given = nullptr;
  /// Of the batch.
  std::uint32_t rows = 0;
  float* sums = nullptr;

  [[nodiscard]] LETHE_BLOCK_CODE bool sums_groups() const {
    return given == nullptr && state.shape.groups != state.shape.sets();
  }
  /// A set's row, which holds its scores once sum_groups has run where groups are summed.
  [[nodiscard]] LETHE_BLOCK_CODE const float* row(const SetPlace& place) const {
    if (given != nullptr) return given + gathered_row(state.shape, rows, place);
    const std::size_t number = state.number(place.layer, place.slot);
    return sums_groups() ? sums + number * state.shape.capacity
                         : state.score_row(number, place.set);
  }
};

/// Sums a layer's groups, which no other block of the launch does for it.
template <ThreadBlock Block>
LETHE_BLOCK_CODE void sum_groups(const Block& block, const ScoreSource& source,
                                 const SetPlace& place) {
  if (!source.sums_groups()) return;
  const State& state = source.state;
  const std::size_t number = state.number(place.layer, place.slot);
  float* const row = source.sums + number * state.shape.capacity;
  const std::uint32_t tokens = state.lengths[number];
  block.lanes([&](unsigned lane) {
    for (std::uint32_t token = lane; token < tokens; token += Block::threads) {
      row[token] = sum_of_groups(state, number, token);
    }
  });
}

}  // namespace detail

/// What the host can tell of gather_scores before its launch.
[[nodiscard]] inline Status check(const State& state, const Batch& batch, const float* gathered) {
  const char* fault = detail::fault_of_state(state);
  if (fault == nullptr) fault = detail::fault_of_batch(batch, state.shape.slots);
  if (fault == nullptr && !state.shape.scores) {
    fault = "scores: the state keeps none, so there is nothing to gather";
  }
  if (fault == nullptr && state.shape.window != 0) {
    fault = "window: its scores are made in the round itself; place a state without one";
  }
  if (fault == nullptr && gathered == nullptr) fault = "gathered: give score_count floats";
  return fault == nullptr ? Status{} : refused("gather_scores", fault);
}

/// A block of gather_scores: one kept set of one row of the batch. Behind its tokens, and for
/// padding, it writes zeros.
template <ThreadBlock Block>
LETHE_BLOCK_CODE void gather_block(const Block& block, const State& state, const Batch& batch,
                                   float* gathered, std::uint32_t layer, std::uint32_t row,
                                   std::uint32_t set) {
  detail::SetPlace place{layer, row, set};
  const bool named = detail::slot_of_row(batch, state.shape.slots, row, place.slot);
  const std::size_t number = named ? state.number(layer, place.slot) : 0;
  const std::uint32_t tokens = named ? state.lengths[number] : 0;
  const bool alone = state.shape.groups == state.shape.sets();
  float* const target = gathered + detail::gathered_row(state.shape, batch.rows, place);
  block.lanes([&](unsigned lane) {
    for (std::uint32_t i = lane; i < state.shape.capacity; i += Block::threads) {
      target[i] = i >= tokens ? 0.0f
                  : alone     ? state.score_row(number, set)[i]
                              : detail::sum_of_groups(state, number, i);
    }
  });
}

}  // namespace lethe::gpu
