/// Deferred scoring on the device: queries are kept while attention goes on, and scored in one pass
/// over the keys before anything moves.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "lethe/gpu/block.cuh"
#include "lethe/gpu/flush_block.cuh"
#include "lethe/gpu/flush_tiles.cuh"
#include "lethe/gpu/launch.cuh"
#include "lethe/gpu/observe_checks.hpp"
#include "lethe/gpu/ring_block.cuh"
#include "lethe/gpu/round.cuh"

namespace lethe::gpu {

namespace detail {

/// No source: not measured yet.
inline constexpr unsigned push_threads = 256;
inline constexpr unsigned ring_threads = 128;
/// Four warps, so that a tile is 128 tokens, and registers hold 256 channels of its keys.
inline constexpr unsigned flush_threads = 128;

template <unsigned Threads, class Element>
__global__ void __launch_bounds__(Threads)
    push_kernel(const __grid_constant__ ObservedLayer layer,
                const __grid_constant__ QueryRing<Element> ring,
                const __grid_constant__ BatchObservation<Queries<Element>> seen) {
  __shared__ typename DeviceBlock<Threads>::Storage storage;
  push_block(DeviceBlock<Threads>(storage), layer, ring, seen, blockIdx.x);
}

template <unsigned Threads, class Element>
__global__ void __launch_bounds__(Threads)
    start_rings_kernel(const __grid_constant__ QueryRing<Element> ring,
                       const __grid_constant__ Batch batch) {
  __shared__ typename DeviceBlock<Threads>::Storage storage;
  start_rings_block(DeviceBlock<Threads>(storage), ring, batch, blockIdx.x);
}

template <unsigned Threads, class Element, class Key>
__global__ void __launch_bounds__(Threads)
    empty_rings_kernel(const __grid_constant__ Flush<Element, Key> flush) {
  __shared__ typename DeviceBlock<Threads>::Storage storage;
  empty_rings_block(DeviceBlock<Threads>(storage), flush, blockIdx.x);
}

template <class Rows, class Element, class Key>
__global__ void __launch_bounds__(flush_threads)
    flush_exact_kernel(const __grid_constant__ Flush<Element, Key> flush) {
  with_shared<flush_threads, ExactShared>([&](const auto& block, ExactShared& shared) {
    flush_exact_block<Rows>(block, shared, flush, blockIdx.x, blockIdx.y, blockIdx.z);
  });
}

template <class Rows, unsigned Chunks, class Element>
__global__ void __launch_bounds__(flush_threads)
    flush_tiles_kernel(const __grid_constant__ Flush<Element> flush) {
  using Shared = TileShared<flush_threads>;
  with_shared<flush_threads, Shared>([&](const auto& block, Shared& shared) {
    flush_tiles_block<Rows, TensorProduct<Element>, Chunks>(block, shared, flush, blockIdx.x,
                                                            blockIdx.y, blockIdx.z);
  });
}

/// A block for each tile of so many tokens that a layer can hold.
template <class Element, class Key>
[[nodiscard]] Status launch_flush(const char* name, void (*kernel)(Flush<Element, Key>),
                                  unsigned tokens, const Flush<Element, Key>& flush,
                                  cudaStream_t stream) {
  const std::uint32_t tiles = (flush.state.shape.capacity - 1) / tokens + 1;
  const std::uint32_t layers = flush.layer == every_layer ? flush.state.shape.layers : 1;
  return launch_blocks(name, kernel, dim3(tiles, flush.batch.rows, layers), flush_threads, stream,
                       flush);
}

template <class Rows, class Element>
[[nodiscard]] Status launch_tiles(const Flush<Element>& flush, cudaStream_t stream) {
  const std::uint32_t channels = flush.ring.shape.head_dimension;
  auto kernel = flush_tiles_kernel<Rows, most_tile_channels / chunk_channels, Element>;
  if (channels <= 128) kernel = flush_tiles_kernel<Rows, 4, Element>;
  if (channels <= 64) kernel = flush_tiles_kernel<Rows, 2, Element>;
  return launch_flush("flush_tiles_kernel", kernel, flush_threads, flush, stream);
}

template <class Rows, class Element, class Key>
[[nodiscard]] Status launch_masses(const Flush<Element, Key>& flush, cudaStream_t stream) {
  if constexpr (std::is_same_v<Element, Key> && sizeof(Element) == 2) {
    if (scores_in_tiles(flush)) return launch_tiles<Rows>(flush, stream);
  }
  return launch_flush("flush_exact_kernel", flush_exact_kernel<Rows, Element, Key>, exact_tokens,
                      flush, stream);
}

}  // namespace detail

/// Empties the rings of a batch's rows, for new sequences: call it beside start_sequences.
template <class Element>
[[nodiscard]] Status start_rings(const QueryRing<Element>& ring, const Batch& batch,
                                 cudaStream_t stream) {
  const Status status = check(ring, batch);
  if (!status.ok() || batch.rows == 0) return status;
  constexpr unsigned threads = detail::ring_threads;
  return detail::launch_blocks("start_rings_kernel", detail::start_rings_kernel<threads, Element>,
                               dim3(batch.rows), threads, stream, ring, batch);
}

/// Keeps one layer's queries of a step, as they enter attention, with their log-sum-exps and
/// weights; seen: as in observe, of lethe::Queries in device memory. Call it once a layer and step,
/// after append. A ring without room keeps none of them and counts them in `lost`. One launch on
/// the caller's stream: no allocation, no synchronisation, capturable in a graph.
/// O(rows x queries x heads x channels).
template <class Element>
[[nodiscard]] Status push_queries(const ObservedLayer& layer, const QueryRing<Element>& ring,
                                  const BatchObservation<Queries<Element>>& seen,
                                  cudaStream_t stream) {
  const Status status = check(layer, ring, seen);
  if (!status.ok() || layer.batch.rows == 0) return status;
  constexpr unsigned threads = detail::push_threads;
  return detail::launch_blocks("push_kernel", detail::push_kernel<threads, Element>,
                               dim3(layer.batch.rows), threads, stream, layer, ring,
                               detail::packed(seen));
}

/// Scores the waiting queries of those rings that Flush names, and empties them. Rows of keys must
/// lie where they lay when the queries attended to them: so before a round, and before its
/// compaction. Two launches on the caller's stream: no allocation, no synchronisation, capturable
/// in a graph. What check() refuses is refused before them. O(queries x heads x tokens x channels).
template <class Element, class Key>
[[nodiscard]] Status flush_queries(const Flush<Element, Key>& flush, cudaStream_t stream) {
  Status status = check(flush);
  if (!status.ok() || flush.batch.rows == 0) return status;
  status = flush.pages.base != nullptr ? detail::launch_masses<PageRows>(flush, stream)
                                       : detail::launch_masses<StripRows>(flush, stream);
  if (!status.ok()) return status;
  constexpr unsigned threads = detail::ring_threads;
  return detail::launch_blocks("empty_rings_kernel",
                               detail::empty_rings_kernel<threads, Element, Key>,
                               dim3(flush.batch.rows), threads, stream, flush);
}

/// A round whose scores are up to date: rings of layers that it examines are scored before it, and
/// those without room for flush.step_queries more. The flush's state, batch and settings are the
/// round's. Two launches more than plan_round(round, stream).
template <class Element, class Key>
[[nodiscard]] Status plan_round(const Round& round, const Flush<Element, Key>& flush,
                                cudaStream_t stream) {
  Status status = check(round, flush);
  if (status.ok()) status = flush_queries(before(round, flush), stream);
  return status.ok() ? plan_round(round, stream) : status;
}

}  // namespace lethe::gpu
