/// Queries that wait on the device until they are scored against the keys: sizes and layout.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/gpu/rasr_weights.hpp"
#include "lethe/gpu/state.hpp"
#include "lethe/gpu/status.hpp"

namespace lethe::gpu {

/// Sizes of a ring; a state has one for each (layer, state slot).
struct RingShape {
  /// Most queries that wait: 16 fill the side of a tensor core's tile, and share one read of the
  /// keys.
  std::uint32_t queries = 16;
  std::uint32_t heads = 0;
  /// A KV head serves heads / kv_heads query heads that follow each other.
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dimension = 0;
};

/// What is kept of a query beside its channels and log-sum-exps.
struct WaitingQuery {
  QueryWeight weight{};
  /// Tokens of the layer that it attended to.
  std::uint32_t limit = 0;
  /// Of a logit, as in lethe::Queries.
  float scale = 1;
  float softcap = 0;
};

/// Pointers into one piece of device memory; number as in State. Element: float, Half or BFloat16,
/// that of the queries.
template <class Element>
struct QueryRing {
  RingShape shape{};
  std::uint32_t layers = 0;
  std::uint32_t slots = 0;
  /// Channels at [number][head][query].
  Element* channels = nullptr;
  /// Base e, at [number][head][query].
  float* lse = nullptr;
  /// At [number][query].
  WaitingQuery* waiting = nullptr;
  /// Queries that wait, by number.
  std::uint32_t* counts = nullptr;
  /// Queries that came to a ring without room since its sequence started, by number: not 0 means
  /// that a flush was left out, and that scores lack those queries.
  std::uint32_t* lost = nullptr;

  /// Where a query's head lies in lse; its channels at head_dimension times that.
  [[nodiscard]] LETHE_HOST_DEVICE std::size_t row(std::size_t number, std::uint32_t head,
                                                  std::uint32_t query) const {
    return (number * shape.heads + head) * shape.queries + query;
  }
};

namespace detail {

/// Weights of all that wait are worked out in shared memory.
inline constexpr std::uint32_t most_waiting = 256;

[[nodiscard]] constexpr const char* fault_of_shape(const RingShape& shape) {
  if (shape.queries == 0 || shape.queries > most_waiting) return "queries: give 1 to 256";
  if (shape.heads == 0 || shape.heads > most_rows) return "heads: give 1 to 65535";
  if (shape.kv_heads == 0 || shape.heads % shape.kv_heads != 0) {
    return "kv_heads: give a divisor of heads";
  }
  const std::uint64_t channels = std::uint64_t{shape.queries} * shape.heads * shape.head_dimension;
  const bool counted = channels != 0 && channels < std::uint64_t{1} << 31;
  return counted ? nullptr : "head_dimension: give at least 1, and a ring below 2^31 channels";
}

template <class Element>
[[nodiscard]] inline std::size_t carve(const StateShape& state, const RingShape& shape,
                                       void* memory, QueryRing<Element>& ring) {
  const std::size_t rings = std::size_t{state.layers} * state.slots;
  const std::size_t rows = rings * shape.queries * shape.heads;
  Carver carver(memory);
  carver.take(ring.channels, rows * shape.head_dimension);
  carver.take(ring.lse, rows);
  carver.take(ring.waiting, rings * shape.queries);
  carver.take(ring.counts, rings);
  carver.take(ring.lost, rings);
  return carver.bytes();
}

template <class Element>
[[nodiscard]] const char* fault_of_ring(const QueryRing<Element>& ring, const StateShape& state) {
  if (ring.channels == nullptr) return "ring: give it memory by place_ring";
  if (state.window != 0) return "window: waiting queries become scores; place a state without one";
  if (!state.scores) return "scores: waiting queries become scores; place a state that keeps them";
  if (state.groups != 1)
    return "groups: waiting queries are scored into one row a layer, so give 1";
  const bool fits = ring.layers == state.layers && ring.slots == state.slots;
  return fits ? nullptr : "ring: place it for the layers and slots of the state";
}

}  // namespace detail

/// With a null pointer writes the bytes of device memory that the rings of a state of shape `state`
/// take; else lays them out in `memory`, of `bytes` bytes, which start_rings must set before use.
/// Nothing is allocated.
template <class Element>
[[nodiscard]] Status place_ring(const StateShape& state, const RingShape& shape, void* memory,
                                std::size_t& bytes, QueryRing<Element>& ring) {
  const char* fault = detail::fault_of_shape(state);
  if (fault == nullptr) fault = detail::fault_of_shape(shape);
  if (fault != nullptr) return refused("place_ring", fault);
  QueryRing<Element> placed{.shape = shape, .layers = state.layers, .slots = state.slots};
  const std::size_t needed = detail::carve(state, shape, nullptr, placed);
  const Status status = detail::size_query("place_ring", memory, needed, bytes);
  if (!status.ok() || memory == nullptr) return status;
  static_cast<void>(detail::carve(state, shape, memory, placed));
  ring = placed;
  return status;
}

}  // namespace lethe::gpu
