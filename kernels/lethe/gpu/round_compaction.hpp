/// From a round to the compaction that carries it out.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/gpu/compaction.hpp"
#include "lethe/gpu/state.hpp"

namespace lethe::gpu {

namespace detail {

/// One 4-byte value a token and head, in the layout of a state.
template <class T>
[[nodiscard]] inline StripArray strip_of(T* values, const StateShape& shape, std::uint32_t heads) {
  static_assert(sizeof(T) == 4);
  const std::size_t head_stride = std::size_t{shape.capacity} * sizeof(T);
  const std::size_t slot_stride = head_stride * heads;
  return {.base = reinterpret_cast<std::byte*>(values),
          .row_bytes = sizeof(T),
          .heads = heads,
          .token_stride = sizeof(T),
          .head_stride = head_stride,
          .slot_stride = slot_stride,
          .layer_stride = slot_stride * shape.slots};
}

/// The rows of a state's windows: a window's lie side by side, as heads do.
[[nodiscard]] inline StripArray window_strip_of(const State& state) {
  StripArray strip = strip_of(state.window_rows, state.shape, 1);
  strip.heads = state.shape.window;
  strip.head_stride = strip.slot_stride;
  strip.slot_stride *= state.shape.window;
  strip.layer_stride *= state.shape.window;
  return strip;
}

}  // namespace detail

/// What carries out the plans of a round: the state's scores, window, positions and lengths are in
/// it; add the cache's arrays behind them, strips[strip_count++] and pages[page_count++], before
/// compact(); with Scope::head each of them has as many heads as the state has groups.
[[nodiscard]] inline Compaction compaction_of(const State& state, const PlanBuffers& plans,
                                              const Batch& batch) {
  Compaction compaction{};
  compaction.plans = {.kept = plans.kept,
                      .counts = plans.counts,
                      .first_moves = plans.first_moves,
                      .lengths = state.lengths,
                      .equal_counts = true,
                      .layers = state.shape.layers,
                      .slots = state.shape.slots,
                      .heads = state.shape.sets(),
                      .capacity = state.shape.capacity};
  StripArray* strips = compaction.strips;
  std::uint32_t& count = compaction.strip_count;
  // A window's scores are of the round that is being carried out: the next one writes others.
  if (state.shape.window != 0) {
    strips[count++] = detail::window_strip_of(state);
  } else if (state.scores != nullptr) {
    strips[count++] = detail::strip_of(state.scores, state.shape, state.shape.groups);
  }
  strips[count++] = detail::strip_of(state.positions, state.shape, state.shape.sets());
  compaction.batch = batch;
  return compaction;
}

}  // namespace lethe::gpu
