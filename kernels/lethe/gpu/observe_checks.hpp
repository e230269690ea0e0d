/// What the host can tell of an observation before anything is launched.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "lethe/attention.hpp"
#include "lethe/gpu/observe_block.cuh"
#include "lethe/gpu/state.hpp"
#include "lethe/gpu/status.hpp"

namespace lethe::gpu {

namespace detail {

template <class Element>
[[nodiscard]] const char* fault_of_lse(const Probabilities<Element>&) {
  return nullptr;
}
template <class Element>
[[nodiscard]] const char* fault_of_lse(const Logits<Element>& logits) {
  return logits.lse != nullptr ? nullptr : "lse: give the rows' log-sum-exp";
}

/// With the strides filled in that were 0.
template <class Element>
[[nodiscard]] BatchObservation<Probabilities<Element>> packed(
    BatchObservation<Probabilities<Element>> seen) {
  seen.first = lethe::detail::packed(seen.first);
  if (seen.row_stride == 0) seen.row_stride = seen.first.heads * seen.first.head_stride;
  return seen;
}
template <class Element>
[[nodiscard]] BatchObservation<Logits<Element>> packed(BatchObservation<Logits<Element>> seen) {
  seen.first = lethe::detail::packed(seen.first);
  if (seen.first.lse_head_stride == 0) seen.first.lse_head_stride = seen.first.queries;
  if (seen.row_stride == 0) seen.row_stride = seen.first.heads * seen.first.head_stride;
  if (seen.lse_row_stride == 0) seen.lse_row_stride = seen.first.heads * seen.first.queries;
  return seen;
}

template <class Element>
[[nodiscard]] BatchObservation<Queries<Element>> packed(BatchObservation<Queries<Element>> seen) {
  Queries<Element>& first = seen.first;
  first = lethe::detail::packed(first);
  if (first.lse_head_stride == 0) first.lse_head_stride = first.queries;
  if (seen.row_stride == 0) seen.row_stride = first.heads * first.head_stride;
  if (seen.lse_row_stride == 0) seen.lse_row_stride = first.heads * first.queries;
  if (first.scale == 0.0f) first.scale = 1.0f / std::sqrt(static_cast<float>(first.head_dimension));
  return seen;
}

template <class Observation>
[[nodiscard]] const char* fault_of_observation(const Observation& seen, std::uint32_t groups) {
  if (seen.data == nullptr) return "data: give the attention's device memory";
  if (seen.heads == 0) return "heads: give at least 1";
  if (seen.queries == 0 || seen.queries > most_rows) return "queries: give 1 to 65535";
  if (seen.columns == 0) return "columns: give the tokens that a row covers";
  if (seen.first_query != 0) return "first_query: give all queries of the step at once";
  if (seen.heads % groups != 0) return "heads: give as many of each of the state's groups";
  if (seen.first_group != 0 || (seen.group_count != 0 && seen.group_count != groups)) {
    return "group_count: give the heads of all groups at once";
  }
  return fault_of_lse(seen);
}

}  // namespace detail

/// The status names the field and the remedy.
[[nodiscard]] inline Status check(const char* call, const State& state, const Batch& batch) {
  const char* fault = detail::fault_of_state(state);
  if (fault == nullptr) fault = detail::fault_of_batch(batch, state.shape.slots);
  return fault == nullptr ? Status{} : refused(call, fault);
}

template <class Observation>
[[nodiscard]] Status check(const ObservedLayer& layer, const BatchObservation<Observation>& seen) {
  const Status status = check("observe", layer.state, layer.batch);
  if (!status.ok()) return status;
  const char* fault = detail::fault_of_observation(seen.first, layer.state.shape.groups);
  if (layer.layer >= layer.state.shape.layers) fault = "layer: choose one of the state's";
  const bool weighs = layer.state.shape.window == 0;
  if (weighs && layer.weights == nullptr) fault = "weights: give one a row and query";
  if (!layer.state.shape.scores) fault = "scores: the state keeps none, so observe nothing";
  return fault == nullptr ? Status{} : refused("observe", fault);
}

}  // namespace lethe::gpu
