// What docs/gpu.md shows of an engine with flash attention, compiled.
#include <cuda_runtime.h>

#include <cstdint>

#include "lethe/gpu/compact.cuh"
#include "lethe/gpu/deferred.cuh"
#include "lethe/gpu/observe.cuh"
#include "lethe/gpu/round_compaction.hpp"

namespace {

using namespace lethe;

/// An engine whose attention hands out queries and their log-sum-exps, and no probabilities.
struct FlashEngine {
  gpu::State state;
  gpu::PlanBuffers plans;
  gpu::Batch batch;
  gpu::QueryWeight* weights;
  gpu::PageArray keys, values;
  gpu::DeviceTables tables;
  // [deferred_members]
  gpu::QueryRing<BFloat16> ring;  // place_ring; start_rings beside start_sequences
  gpu::BatchObservation<Queries<BFloat16>> queries;  // a step's, rotated, and their log-sum-exps
  // [deferred_members]

  void attend(std::uint32_t layer, cudaStream_t stream);
  gpu::Status pack(cudaStream_t stream) const;
  gpu::Status step(const gpu::Round& round, cudaStream_t stream);
};

void FlashEngine::attend(std::uint32_t, cudaStream_t) {}

gpu::Status FlashEngine::pack(cudaStream_t stream) const {
  gpu::Compaction compaction = gpu::compaction_of(state, plans, batch);
  compaction.pages[compaction.page_count++] = keys;
  compaction.pages[compaction.page_count++] = values;
  compaction.tables = tables;
  return gpu::compact(compaction, stream);
}

// [deferred_step]
gpu::Status FlashEngine::step(const gpu::Round& round, cudaStream_t stream) {
  const gpu::Flush<BFloat16> flush{
      .ring = ring, .pages = keys, .tables = tables, .step_queries = 1};
  gpu::Status status = gpu::plan_round(round, flush, stream);  // scores first, where it has to
  if (status.ok()) status = pack(stream);
  if (status.ok()) status = gpu::append(state, batch, 1, stream);
  for (std::uint32_t layer = 0; status.ok() && layer < state.shape.layers; ++layer) {
    attend(layer, stream);  // writes the layer's queries and log-sum-exps
    status = gpu::push_queries({state, batch, layer, weights}, ring, queries, stream);
  }
  return status;
}
// [deferred_step]

}  // namespace

namespace gpu_test {

/// Instantiates all of the above.
int build_flash_engine(cudaStream_t stream) {
  FlashEngine engine{};
  return engine.step({.state = engine.state, .batch = engine.batch, .plans = engine.plans}, stream)
      .code;
}

}  // namespace gpu_test
