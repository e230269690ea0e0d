#include "launches.hpp"
#include "lethe/gpu/compact.cuh"
#include "lethe/gpu/round.cuh"

namespace launches {

lethe::gpu::Status plan_round(const lethe::gpu::Round& round, cudaStream_t stream) {
  return lethe::gpu::plan_round(round, stream);
}

lethe::gpu::Status plan_counts(const lethe::gpu::Round& round, cudaStream_t stream) {
  return lethe::gpu::plan_counts(round, stream);
}

lethe::gpu::Status plan_kept(const lethe::gpu::Round& round, cudaStream_t stream) {
  return lethe::gpu::plan_kept(round, stream);
}

lethe::gpu::Status gather_scores(const lethe::gpu::State& state, const lethe::gpu::Batch& batch,
                                 float* gathered, cudaStream_t stream) {
  return lethe::gpu::gather_scores(state, batch, gathered, stream);
}

lethe::gpu::Status compact(const lethe::gpu::Compaction& compaction, cudaStream_t stream) {
  return lethe::gpu::compact(compaction, stream);
}

}  // namespace launches
