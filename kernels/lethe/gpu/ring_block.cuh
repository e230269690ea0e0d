/// Queries that come to a ring and leave it, by blocks of threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/attention.hpp"
#include "lethe/gpu/block.cuh"
#include "lethe/gpu/flush.hpp"
#include "lethe/gpu/observe_block.cuh"
#include "lethe/gpu/query_ring.hpp"

namespace lethe::gpu {

namespace detail {

/// A step's queries of one row of the batch, on their way to ring `number`.
template <class Element>
struct IncomingQueries {
  QueryRing<Element> ring;
  BatchObservation<Queries<Element>> seen;
  std::size_t number;
  std::uint32_t row;
  /// Queries that wait already.
  std::uint32_t waiting;

  [[nodiscard]] LETHE_BLOCK_CODE std::uint32_t queries() const {
    return static_cast<std::uint32_t>(seen.first.queries);
  }

  /// What one lane of `threads` copies.
  LETHE_BLOCK_CODE void copy(const ObservedLayer& layer, const MassSink& sink, unsigned lane,
                             unsigned threads) const {
    const std::uint32_t lines = queries() * ring.shape.heads;
    const std::uint32_t channels = lines * ring.shape.head_dimension;
    for (std::uint32_t item = lane; item < channels; item += threads) copy_channel(item);
    for (std::uint32_t line = lane; line < lines; line += threads) copy_lse(line);
    for (std::uint32_t query = lane; query < queries(); query += threads) {
      ring.waiting[number * ring.shape.queries + waiting + query] = {
          .weight = layer.weights[std::size_t{row} * queries() + query],
          .limit = sink.limit(query),
          .scale = seen.first.scale,
          .softcap = seen.first.softcap};
    }
  }

 private:
  LETHE_BLOCK_CODE void copy_channel(std::uint32_t item) const {
    const Queries<Element>& first = seen.first;
    const std::uint32_t channel = item % ring.shape.head_dimension;
    const std::uint32_t line = item / ring.shape.head_dimension;
    const std::uint32_t query = line % queries();
    const std::uint32_t head = line / queries();
    ring.channels[ring.row(number, head, waiting + query) * ring.shape.head_dimension + channel] =
        first.data[row * seen.row_stride + head * first.head_stride + query * first.query_stride +
                   channel];
  }

  LETHE_BLOCK_CODE LETHE_EXACT void copy_lse(std::uint32_t line) const {
    LETHE_EXACT_BODY
    const Queries<Element>& first = seen.first;
    const std::uint32_t query = line % queries();
    const std::uint32_t head = line / queries();
    const float lse = first.lse[row * seen.lse_row_stride + head * first.lse_head_stride +
                                query * first.lse_query_stride];
    ring.lse[ring.row(number, head, waiting + query)] =
        first.base == LogBase::two ? LETHE_PRODUCT(lse, lethe::detail::natural_log_of_two) : lse;
  }
};

}  // namespace detail

/// A block of push_queries: one row's queries of a step, behind those that wait; all or none.
template <ThreadBlock Block, class Element>
LETHE_BLOCK_CODE void push_block(const Block& block, const ObservedLayer& layer,
                                 const QueryRing<Element>& ring,
                                 const BatchObservation<Queries<Element>>& seen,
                                 std::uint32_t row) {
  std::uint32_t slot = 0;
  if (!detail::slot_of_row(layer.batch, layer.state.shape.slots, row, slot)) return;
  const std::size_t number = layer.state.number(layer.layer, slot);
  const std::uint32_t waiting = block.read(ring.counts[number]);
  const detail::IncomingQueries<Element> incoming{ring, seen, number, row, waiting};
  const std::uint32_t queries = incoming.queries();
  const bool room = queries <= ring.shape.queries - waiting;
  const MassSink sink(layer, queries, row);
  block.lanes([&](unsigned lane) {
    if (room) incoming.copy(layer, sink, lane, Block::threads);
    if (lane != 0) return;
    if (room) {
      ring.counts[number] = waiting + queries;
    } else {
      ring.lost[number] += queries;
    }
  });
}

/// A block of start_rings: nothing waits in any layer of one row's slot.
template <ThreadBlock Block, class Element>
LETHE_BLOCK_CODE void start_rings_block(const Block& block, const QueryRing<Element>& ring,
                                        const Batch& batch, std::uint32_t row) {
  std::uint32_t slot = 0;
  if (!detail::slot_of_row(batch, ring.slots, row, slot)) return;
  block.lanes([&](unsigned lane) {
    for (std::uint32_t layer = lane; layer < ring.layers; layer += Block::threads) {
      ring.counts[std::size_t{layer} * ring.slots + slot] = 0;
      ring.lost[std::size_t{layer} * ring.slots + slot] = 0;
    }
  });
}

namespace detail {

/// Whether a ring is to be scored: it is not empty, and lacks room or its layer is due.
template <class Element, class Key>
[[nodiscard]] LETHE_BLOCK_CODE bool is_flushed(const Flush<Element, Key>& flush,
                                               std::size_t number) {
  const std::uint32_t waiting = flush.ring.counts[number];
  if (waiting == 0) return false;
  if (flush.step_queries > flush.ring.shape.queries - waiting) return true;
  return flush.before_round &&
         is_due(flush.settings, flush.state.lengths[number], flush.state.cadences[number]);
}

}  // namespace detail

/// A block of the launch behind a flush: the rings of one row that it has scored are empty.
template <ThreadBlock Block, class Element, class Key>
LETHE_BLOCK_CODE void empty_rings_block(const Block& block, const Flush<Element, Key>& flush,
                                        std::uint32_t row) {
  std::uint32_t slot = 0;
  if (!detail::slot_of_row(flush.batch, flush.ring.slots, row, slot)) return;
  block.lanes([&](unsigned lane) {
    for (std::uint32_t layer = lane; layer < flush.ring.layers; layer += Block::threads) {
      if (flush.layer != every_layer && flush.layer != layer) continue;
      const std::size_t number = flush.state.number(layer, slot);
      if (detail::is_flushed(flush, number)) flush.ring.counts[number] = 0;
    }
  });
}

}  // namespace lethe::gpu
