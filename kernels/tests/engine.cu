// What docs/gpu.md shows of an engine, compiled.
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "lethe/gpu/compact.cuh"
#include "lethe/gpu/observe.cuh"
#include "lethe/gpu/policies.hpp"
#include "lethe/gpu/prune_graph.hpp"
#include "lethe/gpu/round.cuh"
#include "lethe/gpu/round_compaction.hpp"
#include "lethe/gpu/runtime_calls.hpp"

namespace {

using namespace lethe;

/// An engine whose attention hands out logits and their log-sum-exp.
struct Engine {
  // [members]
  gpu::State state;           // place_state, start_sequences
  gpu::PlanBuffers plans;     // place_plans
  gpu::Batch batch;           // slot_of_row on the device; -1 is padding
  gpu::QueryWeight* weights;  // on the device, one a row, from each sequence's gpu::RasrWeights
  gpu::PageArray keys, values;
  gpu::DeviceTables tables;  // block tables, and the list of blocks that a round frees
  // [members]
  gpu::BatchObservation<Logits<BFloat16>> attention;

  void attend(std::uint32_t layer, cudaStream_t stream);
  gpu::Status make_room(std::uint32_t tokens, cudaStream_t stream) const;
  gpu::Status step(cudaStream_t stream);
  gpu::Status replay_round(std::uint64_t step, cudaStream_t stream);

  gpu::RuntimeCalls calls{};
  gpu::PruneGraph<gpu::RuntimeCalls> rounds{calls};
};

void Engine::attend(std::uint32_t, cudaStream_t) {}

// [make_room]
gpu::Status Engine::make_room(std::uint32_t tokens, cudaStream_t stream) const {
  gpu::Round round{.state = state, .batch = batch, .plans = plans};
  round.settings = {.capacity = state.shape.capacity, .step_tokens = tokens};
  round.settings.policy = {.retention = {.first_tokens = 4, .recent_ratio = 0.1f},
                           .first_threshold = 512};
  round.settings.block_tokens = tables.block_tokens;
  const gpu::Status planned = gpu::plan_round(round, stream);
  if (!planned.ok()) return planned;
  gpu::Compaction compaction = gpu::compaction_of(state, plans, batch);
  compaction.pages[compaction.page_count++] = keys;
  compaction.pages[compaction.page_count++] = values;
  compaction.tables = tables;
  return gpu::compact(compaction, stream);
}
// [make_room]

// [policy]
/// SnapKV: settings of every round, and a state with room for its window.
gpu::Status place_snap_kv(gpu::PlanSettings& settings, gpu::State& state, void* memory,
                          std::size_t& bytes) {
  settings = gpu::policies::snap_kv({.budget = 1024});
  settings.capacity = 2048;
  return gpu::place_state(gpu::shape_for(settings, 32, 64, 2048), memory, bytes, state);
}
// [policy]

// [step]
gpu::Status Engine::step(cudaStream_t stream) {
  gpu::Status status = make_room(1, stream);
  if (status.ok()) status = gpu::append(state, batch, 1, stream);
  for (std::uint32_t layer = 0; status.ok() && layer < state.shape.layers; ++layer) {
    attend(layer, stream);  // appends the layer's key and value, then attends
    status = gpu::observe({state, batch, layer, weights}, attention, stream);
  }
  return status;
}
// [step]

// [graph]
gpu::Status Engine::replay_round(std::uint64_t step, cudaStream_t stream) {
  constexpr std::uint32_t cadence = 64;  // steps, of one token each
  if (step % cadence != 0) return {};
  if (!rounds.recorded()) {
    const gpu::Status recorded =
        rounds.record(stream, [&](cudaStream_t on) { return make_room(cadence, on); });
    if (!recorded.ok()) return recorded;
  }
  return rounds.replay(stream);
}
// [graph]

// [sink]
/// The last step of an attention kernel: mass[head][token] of a row's heads, normalised, lies in
/// shared or global memory; one block a row.
__global__ void record_mass(gpu::ObservedLayer layer, const float* mass, std::uint32_t heads,
                            std::uint32_t columns) {
  const gpu::MassSink sink(layer, 1, blockIdx.x);
  const float* row = mass + std::size_t{blockIdx.x} * heads * columns;
  for (std::uint32_t token = threadIdx.x; token < sink.tokens(); token += blockDim.x) {
    float sum = 0.0f;
    for (std::uint32_t head = 0; head < heads; ++head) sum += row[head * columns + token];
    sink(token, 0, sum);
  }
}
// [sink]

/// One tensor-parallel rank of an engine that sums over ranks by its own communicator:
/// ncclAllReduce in an engine, in place and on the round's stream.
struct Rank {
  void (*sum)(float* numbers, std::size_t count, cudaStream_t stream);
  void (*largest)(std::uint32_t* numbers, std::size_t count, cudaStream_t stream);
  float* scores;  // score_count(state.shape, batch.rows) floats

  gpu::Status plan_one_set(gpu::Round round, cudaStream_t stream) const;
  gpu::Status plan_own_sets(gpu::Round round, std::uint32_t first_set, cudaStream_t stream) const;
};

// [summed_scores]
/// All ranks keep the same tokens, those that the mass of all heads says.
gpu::Status Rank::plan_one_set(gpu::Round round, cudaStream_t stream) const {
  const gpu::Status gathered = gpu::gather_scores(round.state, round.batch, scores, stream);
  if (!gathered.ok()) return gathered;
  sum(scores, gpu::score_count(round.state.shape, round.batch.rows), stream);
  round.scores = scores;
  return gpu::plan_round(round, stream);
}
// [summed_scores]

// [agreed_counts]
/// Each rank keeps its own tokens, equally many on all ranks. first_set: the kept sets of a layer
/// on the ranks before this one.
gpu::Status Rank::plan_own_sets(gpu::Round round, std::uint32_t first_set,
                                cudaStream_t stream) const {
  round.first_set = first_set;
  const gpu::Status counted = gpu::plan_counts(round, stream);
  if (!counted.ok()) return counted;
  largest(round.plans.claims, gpu::claim_count(round.state.shape), stream);
  return gpu::plan_kept(round, stream);
}
// [agreed_counts]

// [head_state]
/// Each of a rank's KV heads keeps its own tokens: the shape says so, for all that is placed by it.
gpu::StateShape per_head(std::uint32_t layers, std::uint32_t slots, std::uint32_t capacity,
                         std::uint32_t kv_heads) {
  return {.layers = layers,
          .slots = slots,
          .capacity = capacity,
          .groups = kv_heads,
          .scope = Scope::head};
}
// [head_state]

}  // namespace

namespace gpu_test {

/// Instantiates all of the above.
int build_engine(cudaStream_t stream) {
  Engine engine{};
  record_mass<<<1, 128, 0, stream>>>({engine.state, engine.batch, 0, engine.weights}, nullptr, 1,
                                     1);
  gpu::PlanSettings settings;
  std::size_t bytes = 0;
  const gpu::Status placed = place_snap_kv(settings, engine.state, nullptr, bytes);
  if (!placed.ok()) return placed.code;
  const gpu::Round round{.state = {.shape = per_head(1, 1, 1, 1)}};
  const Rank rank{};
  return engine.step(stream).code + engine.replay_round(0, stream).code +
         rank.plan_one_set(round, stream).code + rank.plan_own_sets(round, 1, stream).code;
}

}  // namespace gpu_test
