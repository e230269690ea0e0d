/// Compaction on the device: kernels, and the one call that launches them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "lethe/gpu/block.cuh"
#include "lethe/gpu/compact_block.cuh"
#include "lethe/gpu/compaction.hpp"
#include "lethe/gpu/launch.cuh"
#include "lethe/gpu/status.hpp"

namespace lethe::gpu {

namespace detail {

/// Lanes of a packing block: 256 x 8 chunks of 16 bytes under way. No source: not measured yet.
inline constexpr unsigned pack_threads = 256;

template <unsigned Threads>
__global__ void __launch_bounds__(Threads)
    compact_kernel(const __grid_constant__ Compaction compaction) {
  __shared__ typename DeviceBlock<Threads>::Storage storage;
  compact_block(DeviceBlock<Threads>(storage), compaction, blockIdx.x, blockIdx.y, blockIdx.z);
}

template <unsigned Threads>
__global__ void __launch_bounds__(Threads)
    plan_pages_kernel(const __grid_constant__ Compaction compaction) {
  __shared__ typename DeviceBlock<Threads>::Storage storage;
  plan_pages_block(DeviceBlock<Threads>(storage), compaction, blockIdx.x, blockIdx.y);
}

template <unsigned Threads>
__global__ void __launch_bounds__(Threads)
    publish_pages_kernel(const __grid_constant__ Compaction compaction) {
  __shared__ typename DeviceBlock<Threads>::Storage storage;
  publish_pages_block(DeviceBlock<Threads>(storage), compaction, blockIdx.x, blockIdx.y);
}

}  // namespace detail

/// Carries out plans that lie on the device: packs the rows of every array to the left, in place,
/// and with paged arrays works out the tables, moves rows into the leading blocks and lists the
/// freed ones. Three launches with paged arrays, one without, on the caller's stream: no
/// allocation, no synchronisation, capturable in a graph. Arguments that check() refuses are
/// refused before any launch. Rows of a batch name different slots; kept slots are those of a
/// checked plan.
///
/// A freed block may be written again only by what comes later on this stream, or behind an event
/// recorded on it (StreamCopier::follow). O(bytes that move).
[[nodiscard]] inline Status compact(const Compaction& compaction, cudaStream_t stream) {
  constexpr unsigned threads = detail::pack_threads;
  Status status = check(compaction);
  if (!status.ok() || compaction.batch.rows == 0) return status;
  const std::uint32_t layers = compaction.plans.layers;
  const dim3 tables(compaction.batch.rows, layers);
  const bool paged = compaction.page_count != 0;
  if (paged) {
    status = detail::launch_blocks("plan_pages_kernel", detail::plan_pages_kernel<threads>, tables,
                                   threads, stream, compaction);
    if (!status.ok()) return status;
  }
  const dim3 strips(strips_of(compaction), compaction.batch.rows, layers);
  status = detail::launch_blocks("compact_kernel", detail::compact_kernel<threads>, strips, threads,
                                 stream, compaction);
  if (!status.ok() || !paged) return status;
  return detail::launch_blocks("publish_pages_kernel", detail::publish_pages_kernel<threads>,
                               tables, threads, stream, compaction);
}

}  // namespace lethe::gpu
