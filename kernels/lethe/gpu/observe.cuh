/// Sequences that start, tokens that are appended, attention that is observed: on the device.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "lethe/gpu/block.cuh"
#include "lethe/gpu/launch.cuh"
#include "lethe/gpu/observe_block.cuh"
#include "lethe/gpu/observe_checks.hpp"

namespace lethe::gpu {

namespace detail {

/// No source: not measured yet.
inline constexpr unsigned observe_threads = 256;
inline constexpr unsigned state_threads = 128;

template <unsigned Threads, class Observation>
__global__ void __launch_bounds__(Threads)
    observe_kernel(const __grid_constant__ ObservedLayer layer,
                   const __grid_constant__ BatchObservation<Observation> seen) {
  __shared__ typename DeviceBlock<Threads>::Storage storage;
  observe_block(DeviceBlock<Threads>(storage), layer, seen, blockIdx.x, blockIdx.y, blockIdx.z);
}

template <unsigned Threads>
__global__ void __launch_bounds__(Threads)
    append_kernel(const __grid_constant__ State state, const __grid_constant__ Batch batch,
                  std::uint32_t tokens) {
  __shared__ typename DeviceBlock<Threads>::Storage storage;
  append_block(DeviceBlock<Threads>(storage), state, batch, tokens, blockIdx.x);
}

template <unsigned Threads>
__global__ void __launch_bounds__(Threads)
    start_kernel(const __grid_constant__ State state, const __grid_constant__ Batch batch,
                 std::uint32_t threshold) {
  __shared__ typename DeviceBlock<Threads>::Storage storage;
  start_block(DeviceBlock<Threads>(storage), state, batch, threshold, blockIdx.x);
}

}  // namespace detail

/// Empties the slots of a batch's rows for new sequences. threshold: the length at which a layer is
/// first examined (PolicySettings::first_threshold), 0: only at the bound.
[[nodiscard]] inline Status start_sequences(const State& state, const Batch& batch,
                                            std::uint32_t threshold, cudaStream_t stream) {
  const Status status = check("start_sequences", state, batch);
  if (!status.ok() || batch.rows == 0) return status;
  return detail::launch_blocks("start_kernel", detail::start_kernel<detail::state_threads>,
                               dim3(batch.rows), detail::state_threads, stream, state, batch,
                               std::min(threshold, state.shape.capacity));
}

/// Gives the step's tokens, as many of each row, the next slots of every layer. What passes the
/// capacity is not counted: a round before made room, unless it left the layer alone
/// (LayerPlan::outcome).
[[nodiscard]] inline Status append(const State& state, const Batch& batch, std::uint32_t tokens,
                                   cudaStream_t stream) {
  const Status status = check("append", state, batch);
  if (!status.ok() || batch.rows == 0) return status;
  return detail::launch_blocks("append_kernel", detail::append_kernel<detail::state_threads>,
                               dim3(batch.rows), detail::state_threads, stream, state, batch,
                               tokens);
}

/// Adds one layer's attention to its scores: Probabilities or Logits with their log-sum-exp, of
/// float, Half or BFloat16. Call it once a layer and step, with all heads, after append. One launch
/// on the caller's stream: no allocation, no synchronisation. O(rows x heads x queries x columns).
template <class Observation>
[[nodiscard]] Status observe(const ObservedLayer& layer, const BatchObservation<Observation>& seen,
                             cudaStream_t stream) {
  const Status status = check(layer, seen);
  if (!status.ok() || layer.batch.rows == 0) return status;
  constexpr unsigned threads = detail::observe_threads;
  const unsigned tiles = (layer.state.shape.capacity + threads - 1) / threads;
  return detail::launch_blocks("observe_kernel", detail::observe_kernel<threads, Observation>,
                               dim3(tiles, layer.batch.rows, layer.state.shape.groups), threads,
                               stream, layer, detail::packed(seen));
}

}  // namespace lethe::gpu
