/// The calls of lethe::gpu that launch kernels, compiled once for all programs, so that of these
/// nvcc compiles nothing else.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "lethe/gpu/compaction.hpp"
#include "lethe/gpu/flush.hpp"
#include "lethe/gpu/observe_block.cuh"
#include "lethe/gpu/round_block.cuh"
#include "lethe/gpu/status.hpp"

namespace launches {

[[nodiscard]] lethe::gpu::Status plan_round(const lethe::gpu::Round& round, cudaStream_t stream);
[[nodiscard]] lethe::gpu::Status plan_counts(const lethe::gpu::Round& round, cudaStream_t stream);
[[nodiscard]] lethe::gpu::Status plan_kept(const lethe::gpu::Round& round, cudaStream_t stream);
[[nodiscard]] lethe::gpu::Status gather_scores(const lethe::gpu::State& state,
                                               const lethe::gpu::Batch& batch, float* gathered,
                                               cudaStream_t stream);
[[nodiscard]] lethe::gpu::Status compact(const lethe::gpu::Compaction& compaction,
                                         cudaStream_t stream);
[[nodiscard]] lethe::gpu::Status start_sequences(const lethe::gpu::State& state,
                                                 const lethe::gpu::Batch& batch,
                                                 std::uint32_t threshold, cudaStream_t stream);
[[nodiscard]] lethe::gpu::Status append(const lethe::gpu::State& state,
                                        const lethe::gpu::Batch& batch, std::uint32_t tokens,
                                        cudaStream_t stream);

/// Probabilities and Logits of float and BFloat16.
template <class Observation>
[[nodiscard]] lethe::gpu::Status observe(const lethe::gpu::ObservedLayer& layer,
                                         const lethe::gpu::BatchObservation<Observation>& seen,
                                         cudaStream_t stream);

/// Queries of float, Half and BFloat16, and keys of the same.
template <class Element>
[[nodiscard]] lethe::gpu::Status start_rings(const lethe::gpu::QueryRing<Element>& ring,
                                             const lethe::gpu::Batch& batch, cudaStream_t stream);
template <class Element>
[[nodiscard]] lethe::gpu::Status push_queries(
    const lethe::gpu::ObservedLayer& layer, const lethe::gpu::QueryRing<Element>& ring,
    const lethe::gpu::BatchObservation<lethe::Queries<Element>>& seen, cudaStream_t stream);
template <class Element>
[[nodiscard]] lethe::gpu::Status flush_queries(const lethe::gpu::Flush<Element>& flush,
                                               cudaStream_t stream);
template <class Element>
[[nodiscard]] lethe::gpu::Status plan_round(const lethe::gpu::Round& round,
                                            const lethe::gpu::Flush<Element>& flush,
                                            cudaStream_t stream);

}  // namespace launches
