/// Rounds on the device: whole, or in halves between which tensor-parallel ranks agree.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "lethe/gpu/block.cuh"
#include "lethe/gpu/launch.cuh"
#include "lethe/gpu/round_block.cuh"
#include "lethe/gpu/round_sets.cuh"
#include "lethe/gpu/score_rows.cuh"
#include "lethe/gpu/sequence_scores.cuh"

namespace lethe::gpu {

namespace detail {

/// 1,024 lanes hold 8,192 tokens' keys in registers.
inline constexpr unsigned plan_threads = 1024;

/// A template, so that it may stand in several translation units. One block a multiprocessor: for
/// two of them nvcc would halve the registers.
template <unsigned Threads>
__global__ void __launch_bounds__(Threads, 1) plan_kernel(const __grid_constant__ Round round) {
  with_shared<Threads, PlanShared>([&](const auto& block, PlanShared& shared) {
    plan_block(block, shared, round, blockIdx.y, blockIdx.x);
  });
}

template <unsigned Threads>
__global__ void __launch_bounds__(Threads, 1) count_kernel(const __grid_constant__ Round round) {
  with_shared<Threads, PlanShared>([&](const auto& block, PlanShared& shared) {
    count_block(block, shared, round, blockIdx.y, blockIdx.x, blockIdx.z);
  });
}

template <unsigned Threads>
__global__ void __launch_bounds__(Threads, 1) keep_kernel(const __grid_constant__ Round round) {
  with_shared<Threads, PlanShared>([&](const auto& block, PlanShared& shared) {
    keep_block(block, shared, round, blockIdx.y, blockIdx.x, blockIdx.z);
  });
}

/// Lanes of the passes that prepare scores. No source: not measured yet.
inline constexpr unsigned score_threads = 256;

template <unsigned Threads>
__global__ void __launch_bounds__(Threads) factor_kernel(const __grid_constant__ Round round) {
  with_shared<Threads, SummaryShared>([&](const auto& block, SummaryShared& shared) {
    factor_block(block, shared, round, blockIdx.y, blockIdx.x);
  });
}

template <unsigned Threads>
__global__ void __launch_bounds__(Threads) share_kernel(const __grid_constant__ Round round) {
  __shared__ typename DeviceBlock<Threads>::Storage storage;
  share_block(DeviceBlock<Threads>(storage), round, blockIdx.x, blockIdx.y);
}

template <unsigned Threads>
__global__ void __launch_bounds__(Threads)
    gather_kernel(const __grid_constant__ State state, const __grid_constant__ Batch batch,
                  float* gathered) {
  __shared__ typename DeviceBlock<Threads>::Storage storage;
  gather_block(DeviceBlock<Threads>(storage), state, batch, gathered, blockIdx.y, blockIdx.x,
               blockIdx.z);
}

/// One block a kept set: with Scope::sequence a row of the batch, else one of its layers' sets.
[[nodiscard]] inline dim3 grid_of_sets(const Round& round) {
  const StateShape& shape = round.state.shape;
  const bool whole = shape.scope == Scope::sequence;
  return dim3(round.batch.rows, whole ? 1 : shape.layers, shape.sets());
}

/// The scores of sequences whose layers keep one set.
[[nodiscard]] inline Status sum_layers(const Round& round, cudaStream_t stream) {
  const StateShape& shape = round.state.shape;
  const Status status =
      launch_blocks("factor_kernel", factor_kernel<score_threads>,
                    dim3(round.batch.rows, shape.layers), score_threads, stream, round);
  if (!status.ok()) return status;
  const unsigned tiles = (shape.capacity + score_threads - 1) / score_threads;
  return launch_blocks("share_kernel", share_kernel<score_threads>, dim3(tiles, round.batch.rows),
                       score_threads, stream, round);
}

}  // namespace detail

/// The first half of a round: what each kept set asks of its layer, claim_count(shape) numbers from
/// plans.claims on. Tensor-parallel ranks that keep sets of their own, equally many tokens each,
/// take the largest over all ranks, number by number (ncclMax of ncclUint32), before the second
/// half. One launch, three with Scope::sequence; what check_half() refuses is refused before the
/// first, else as plan_round.
[[nodiscard]] inline Status plan_counts(const Round& round, cudaStream_t stream) {
  Status status = check_half("plan_counts", round);
  if (!status.ok() || round.batch.rows == 0) return status;
  if (round.state.shape.scope == Scope::sequence) status = detail::sum_layers(round, stream);
  if (!status.ok()) return status;
  return detail::launch_blocks("count_kernel", detail::count_kernel<detail::plan_threads>,
                               detail::grid_of_sets(round), detail::plan_threads, stream, round);
}

/// The second half, of the same round: each set's best tokens, as many as the largest claim of its
/// layer says. One launch; nothing but claims may have changed since plan_counts.
[[nodiscard]] inline Status plan_kept(const Round& round, cudaStream_t stream) {
  const Status status = check_half("plan_kept", round);
  if (!status.ok() || round.batch.rows == 0) return status;
  return detail::launch_blocks("keep_kernel", detail::keep_kernel<detail::plan_threads>,
                               detail::grid_of_sets(round), detail::plan_threads, stream, round);
}

/// Plans every layer of every row of the batch: due ones are examined, and their kept slots,
/// counts and first moves written for compact() to carry out. On the caller's stream: no
/// allocation, no synchronisation, capturable in a graph. What check() refuses is refused before
/// the first launch. One launch where a layer is a kept set; else plan_counts and plan_kept.
/// O(tokens).
[[nodiscard]] inline Status plan_round(const Round& round, cudaStream_t stream) {
  const StateShape& shape = round.state.shape;
  Status status = check(round);
  if (!status.ok() || round.batch.rows == 0) return status;
  if (shape.scope == Scope::sequence || shape.sets() != 1) {
    status = plan_counts(round, stream);
    return status.ok() ? plan_kept(round, stream) : status;
  }
  return detail::launch_blocks("plan_kernel", detail::plan_kernel<detail::plan_threads>,
                               dim3(round.batch.rows, shape.layers), detail::plan_threads, stream,
                               round);
}

/// Writes the scores that a round would plan from, score_count(shape, rows) floats without gaps, so
/// that tensor-parallel ranks can add theirs up (ncclSum of ncclFloat) for Round::scores. The
/// state's own scores stay each rank's: they are added to step by step, and would be counted anew
/// in the next sum. A state without scores, or with a window, is refused. One launch; O(layers x
/// rows x groups x capacity).
[[nodiscard]] inline Status gather_scores(const State& state, const Batch& batch, float* gathered,
                                          cudaStream_t stream) {
  const Status status = check(state, batch, gathered);
  if (!status.ok() || batch.rows == 0) return status;
  const dim3 grid(batch.rows, state.shape.layers, state.shape.sets());
  return detail::launch_blocks("gather_kernel", detail::gather_kernel<detail::score_threads>, grid,
                               detail::score_threads, stream, state, batch, gathered);
}

}  // namespace lethe::gpu
