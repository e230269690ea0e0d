/// A round on the device: one call, one launch.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "lethe/gpu/block.cuh"
#include "lethe/gpu/launch.cuh"
#include "lethe/gpu/round_block.cuh"

namespace lethe::gpu {

namespace detail {

/// 1,024 lanes hold 8,192 tokens' keys in registers.
inline constexpr unsigned plan_threads = 1024;

/// A template, so that it may stand in several translation units. One block a multiprocessor: for
/// two of them nvcc would halve the registers.
template <unsigned Threads>
__global__ void __launch_bounds__(Threads, 1) plan_kernel(const __grid_constant__ Round round) {
  __shared__ typename DeviceBlock<Threads>::Storage storage;
  // Raw, since shared memory may have no initialisers.
  __shared__ alignas(PlanShared) unsigned char shared[sizeof(PlanShared)];
  plan_block(DeviceBlock<Threads>(storage), reinterpret_cast<PlanShared&>(shared), round,
             blockIdx.y, blockIdx.x);
}

}  // namespace detail

/// Plans every layer of every row of the batch: due ones are examined, and their kept slots,
/// counts and first moves written for compact() to carry out. One launch on the caller's stream: no
/// allocation, no synchronisation, capturable in a graph. What check() refuses is refused before
/// it. O(tokens).
[[nodiscard]] inline Status plan_round(const Round& round, cudaStream_t stream) {
  const Status status = check(round);
  if (!status.ok() || round.batch.rows == 0) return status;
  return detail::launch_blocks("plan_kernel", detail::plan_kernel<detail::plan_threads>,
                               dim3(round.batch.rows, round.state.shape.layers),
                               detail::plan_threads, stream, round);
}

}  // namespace lethe::gpu
