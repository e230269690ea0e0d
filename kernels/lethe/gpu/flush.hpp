/// What a flush of the waiting queries is told, and what the host refuses beforehand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "lethe/gpu/compaction.hpp"
#include "lethe/gpu/observe_checks.hpp"
#include "lethe/gpu/query_ring.hpp"
#include "lethe/gpu/round_block.cuh"
#include "lethe/gpu/state.hpp"
#include "lethe/gpu/status.hpp"

namespace lethe::gpu {

/// Flush::layer: every layer.
inline constexpr std::uint32_t every_layer = 0xFFFFFFFFu;
/// Flush::step_queries: more than any ring has room for.
inline constexpr std::uint32_t any_queries = 0xFFFFFFFFu;

/// Scores the waiting queries of a batch's rows against the cached keys, of type Key.
template <class Element, class Key = Element>
struct Flush {
  State state{};
  Batch batch{};
  QueryRing<Element> ring{};
  /// The keys as they enter attention (rotated), in one of the two; the other has no base. heads
  /// are the KV heads, row_bytes those of a key.
  StripArray strips{};
  PageArray pages{};
  /// With pages: tables, capacity and block_tokens are read.
  DeviceTables tables{};
  /// One layer alone, for caches whose layers lie in memories of their own.
  std::uint32_t layer = every_layer;
  /// A ring is scored when it lacks room for so many more queries: those of the coming step.
  std::uint32_t step_queries = any_queries;
  /// Also when a round with these settings would examine the layer.
  bool before_round = false;
  PlanSettings settings{};
  /// In the host's order of sums, without tensor cores.
  bool exact = false;
};

namespace detail {

template <class Array>
[[nodiscard]] const char* fault_of_keys(const Array& keys, const RingShape& shape,
                                        std::size_t element_bytes) {
  if (keys.heads != shape.kv_heads) return "heads: give the keys of all KV heads of the ring";
  const bool whole = keys.row_bytes == shape.head_dimension * element_bytes;
  return whole ? nullptr : "row_bytes: a key has the ring's channels";
}

[[nodiscard]] inline const char* fault_of_key_tables(const DeviceTables& tables) {
  if (tables.tables == nullptr) return "tables: give the block tables";
  if (tables.block_tokens == 0) return "block_tokens: give a block's tokens";
  return tables.capacity != 0 ? nullptr : "capacity: give the most blocks of a table";
}

/// All addresses of keys are multiples of the powers of two that divide it.
template <class Element, class Key>
[[nodiscard]] std::size_t key_alignment(const Flush<Element, Key>& flush) {
  const StripArray& strips = flush.strips;
  const PageArray& pages = flush.pages;
  return reinterpret_cast<std::uintptr_t>(strips.base) | strips.token_stride | strips.head_stride |
         strips.slot_stride | strips.layer_stride | reinterpret_cast<std::uintptr_t>(pages.base) |
         pages.token_stride | pages.head_stride | pages.block_stride | pages.layer_stride;
}

template <class Element, class Key>
[[nodiscard]] const char* fault_of_keys(const Flush<Element, Key>& flush) {
  const bool paged = flush.pages.base != nullptr;
  if (paged == (flush.strips.base != nullptr)) return "base: give the keys as strips or as pages";
  if (key_alignment(flush) % sizeof(Key) != 0) return "base: align keys to their elements";
  if (!paged) return fault_of_keys(flush.strips, flush.ring.shape, sizeof(Key));
  const char* fault = fault_of_keys(flush.pages, flush.ring.shape, sizeof(Key));
  return fault != nullptr ? fault : fault_of_key_tables(flush.tables);
}

/// Most channels of a head whose tile of keys is held in registers.
inline constexpr std::uint32_t most_tile_channels = 256;

}  // namespace detail

/// Whether flush_queries scores with tensor cores: queries and keys of one 16-bit type, heads of at
/// most 256 channels, every key at a multiple of 16 bytes.
template <class Element, class Key>
[[nodiscard]] bool scores_in_tiles(const Flush<Element, Key>& flush) {
  if constexpr (std::is_same_v<Element, Key> && sizeof(Element) == 2) {
    return !flush.exact && flush.ring.shape.head_dimension <= detail::most_tile_channels &&
           (detail::key_alignment(flush) | flush.strips.row_bytes | flush.pages.row_bytes) % 16 ==
               0;
  } else {
    return false;
  }
}

/// What the host can tell before anything is launched; the status names the field and the remedy.
/// O(1).
template <class Element, class Key>
[[nodiscard]] Status check(const Flush<Element, Key>& flush) {
  const Status status = check("flush_queries", flush.state, flush.batch);
  if (!status.ok()) return status;
  const StateShape& shape = flush.state.shape;
  const char* fault = detail::fault_of_ring(flush.ring, shape);
  if (fault == nullptr) fault = detail::fault_of_keys(flush);
  if (flush.layer != every_layer && flush.layer >= shape.layers) {
    fault = "layer: choose one of the state's, or every_layer";
  }
  return fault == nullptr ? Status{} : refused("flush_queries", fault);
}

/// The flush that a round needs before it, whole or layer by layer.
template <class Element, class Key>
[[nodiscard]] Flush<Element, Key> before(const Round& round, Flush<Element, Key> flush) {
  flush.state = round.state;
  flush.batch = round.batch;
  flush.settings = round.settings;
  flush.before_round = true;
  return flush;
}

/// What the host can tell of a round behind a flush of its layers.
template <class Element, class Key>
[[nodiscard]] Status check(const Round& round, const Flush<Element, Key>& flush) {
  const Status status = check(round);
  if (!status.ok()) return status;
  if (flush.layer != every_layer) {
    return refused("plan_round", "layer: flush layers one by one with before(), then plan alone");
  }
  // What was gathered before the flush lacks the queries that it scores.
  if (round.scores != nullptr) {
    return refused("plan_round",
                   "scores: flush_queries(before(round, flush)), then gather_scores, then "
                   "plan_round(round)");
  }
  return check(before(round, flush));
}

/// What the host can tell of rings on their own.
template <class Element>
[[nodiscard]] Status check(const QueryRing<Element>& ring, const Batch& batch) {
  const char* fault = detail::fault_of_batch(batch, ring.slots);
  if (ring.channels == nullptr) fault = "ring: give it memory by place_ring";
  return fault == nullptr ? Status{} : refused("start_rings", fault);
}

/// And of a step's queries on their way into the ring.
template <class Element>
[[nodiscard]] Status check(const ObservedLayer& layer, const QueryRing<Element>& ring,
                           const BatchObservation<Queries<Element>>& seen) {
  const Status status = check("push_queries", layer.state, layer.batch);
  if (!status.ok()) return status;
  const Queries<Element>& first = seen.first;
  const char* fault = detail::fault_of_ring(ring, layer.state.shape);
  if (fault == nullptr && layer.layer >= ring.layers) fault = "layer: choose one of the state's";
  if (layer.weights == nullptr) fault = "weights: give one a row and query";
  if (first.data == nullptr) fault = "data: give the queries' device memory";
  if (first.lse == nullptr) fault = "lse: give the rows' log-sum-exp";
  if (first.heads != ring.shape.heads) fault = "heads: give those of the ring";
  if (first.head_dimension != ring.shape.head_dimension) {
    fault = "head_dimension: give that of the ring";
  }
  if (first.queries == 0 || first.queries > ring.shape.queries) {
    fault = "queries: give at least 1, and place a ring of at least those of one step";
  }
  if (first.first_query != 0) fault = "first_query: give all queries of the step at once";
  return fault == nullptr ? Status{} : refused("push_queries", fault);
}

}  // namespace lethe::gpu
