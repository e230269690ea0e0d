/// From a round to the compaction that carries it out.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/gpu/compaction.hpp"
#include "lethe/gpu/state.hpp"

namespace lethe::gpu {

namespace detail {

/// One 4-byte value a token, in the layout of a state.
template <class T>
[[nodiscard]] inline StripArray strip_of(T* values, const StateShape& shape) {
  static_assert(sizeof(T) == 4);
  const std::size_t slot_stride = std::size_t{shape.capacity} * sizeof(T);
  return {.base = reinterpret_cast<std::byte*>(values),
          .row_bytes = sizeof(T),
          .token_stride = sizeof(T),
          .slot_stride = slot_stride,
          .layer_stride = slot_stride * shape.slots};
}

}  // namespace detail

/// What carries out the plans of a round: the state's scores, positions and lengths are in it; add
/// the cache's arrays behind them, strips[strip_count++] and pages[page_count++], before compact().
[[nodiscard]] inline Compaction compaction_of(const State& state, const PlanBuffers& plans,
                                              const Batch& batch) {
  Compaction compaction{};
  compaction.plans = {.kept = plans.kept,
                      .counts = plans.counts,
                      .first_moves = plans.first_moves,
                      .lengths = state.lengths,
                      .layers = state.shape.layers,
                      .slots = state.shape.slots,
                      .heads = 1,
                      .capacity = state.shape.capacity};
  compaction.strips[0] = detail::strip_of(state.scores, state.shape);
  compaction.strips[1] = detail::strip_of(state.positions, state.shape);
  compaction.strip_count = 2;
  compaction.batch = batch;
  return compaction;
}

}  // namespace lethe::gpu
