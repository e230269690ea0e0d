#include "device_runner.hpp"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "device_memory.hpp"
#include "device_state.hpp"
#include "launches.hpp"
#include "lethe/gpu/claims.cuh"
#include "lethe/gpu/prune_graph.hpp"
#include "lethe/gpu/round_compaction.hpp"
#include "lethe/gpu/runtime_calls.hpp"
#include "lethe/gpu/score_rows.cuh"

namespace gpu_test {
struct DeviceRunner::Device : DeviceState {
  using DeviceState::DeviceState;

  [[nodiscard]] lethe::gpu::Round round_of(const lethe::gpu::Batch& batch,
                                           const lethe::gpu::PlanSettings& settings) const {
    return {.state = state, .batch = batch, .settings = settings, .plans = plans};
  }

  [[nodiscard]] lethe::gpu::Status compact(const lethe::gpu::Batch& batch) const {
    return launches::compact(lethe::gpu::compaction_of(state, plans, batch), stream);
  }

  /// Enqueues a whole round.
  [[nodiscard]] lethe::gpu::Status round(const lethe::gpu::Round& round) const {
    const lethe::gpu::Status planned = launches::plan_round(round, stream);
    return planned.ok() ? compact(round.batch) : planned;
  }
};

std::string device_name() {
  cudaDeviceProp properties{};
  naive::succeed(cudaGetDeviceProperties(&properties, 0));
  return properties.name;
}

Planned plan_on_device(const PlanCase& given) {
  const Buffer state_memory(state_bytes(given.shape()));
  const Buffer plan_memory(plan_bytes(given.shape()));
  const Uploaded<std::uint32_t> budgets(table_budgets, given.settings.table.entries);
  const Buffer decisions(given.layers * sizeof(lethe::gpu::LayerPlan));
  lethe::gpu::Round round{.batch = {nullptr, 1}, .settings = given.settings};
  round.settings.table.budgets = budgets.get();
  std::size_t bytes = state_memory.bytes();
  require(lethe::gpu::place_state(given.shape(), state_memory.get(), bytes, round.state));
  bytes = plan_memory.bytes();
  require(lethe::gpu::place_plans(given.shape(), plan_memory.get(), bytes, round.plans));
  round.decisions = static_cast<lethe::gpu::LayerPlan*>(decisions.get());
  fill(given, round.state, copy);
  require(launches::plan_round(round, nullptr));
  Planned planned;
  copy(&planned.plan, round.decisions + given.layer, sizeof(planned.plan));
  if (!drops(planned.plan.outcome)) return planned;
  planned.kept.resize(planned.plan.kept);
  copy(planned.kept.data(), round.plans.kept + std::size_t{given.layer} * given.capacity(),
       planned.kept.size() * sizeof(lethe::Slot));
  return planned;
}

DeviceRunner::DeviceRunner(const lethe::gpu::StateShape& shape, std::uint64_t)
    : host_(shape), device_(std::make_unique<Device>(shape)) {}
DeviceRunner::~DeviceRunner() = default;

void DeviceRunner::start(const std::vector<std::int32_t>& batch, std::uint32_t threshold) {
  const UploadedRows rows(batch);
  require(launches::start_sequences(device_->state, rows.batch(), threshold, device_->stream));
  device_->finish();
}

void DeviceRunner::make_room(const std::vector<std::int32_t>& batch,
                             const lethe::gpu::PlanSettings& settings) {
  const UploadedRows rows(batch);
  require(device_->round(device_->round_of(rows.batch(), settings)));
  device_->finish();
}

std::vector<float> DeviceRunner::gather(const std::vector<std::int32_t>& batch) {
  const UploadedRows rows(batch);
  std::vector<float> gathered(lethe::gpu::score_count(device_->state.shape, rows.batch().rows));
  const Buffer there(gathered.size() * sizeof(float));
  require(launches::gather_scores(device_->state, rows.batch(), static_cast<float*>(there.get()),
                                  device_->stream));
  device_->finish();
  copy(gathered.data(), there.get(), there.bytes());
  return gathered;
}

void DeviceRunner::make_room(const std::vector<std::int32_t>& batch,
                             const lethe::gpu::PlanSettings& settings,
                             const std::vector<float>& scores) {
  const UploadedRows rows(batch);
  const Uploaded<float> scores_there(scores);
  lethe::gpu::Round round = device_->round_of(rows.batch(), settings);
  round.scores = scores_there.get();
  require(device_->round(round));
  device_->finish();
}

std::vector<std::uint32_t> DeviceRunner::count(const std::vector<std::int32_t>& batch,
                                               const lethe::gpu::PlanSettings& settings,
                                               std::uint32_t first_set) {
  const UploadedRows rows(batch);
  lethe::gpu::Round round = device_->round_of(rows.batch(), settings);
  round.first_set = first_set;
  require(launches::plan_counts(round, device_->stream));
  device_->finish();
  std::vector<std::uint32_t> claims(lethe::gpu::claim_count(device_->state.shape));
  copy(claims.data(), round.plans.claims, claims.size() * sizeof(claims[0]));
  return claims;
}

void DeviceRunner::keep(const std::vector<std::int32_t>& batch,
                        const lethe::gpu::PlanSettings& settings,
                        const std::vector<std::uint32_t>& claims) {
  const UploadedRows rows(batch);
  copy(device_->plans.claims, claims.data(), claims.size() * sizeof(claims[0]));
  require(launches::plan_kept(device_->round_of(rows.batch(), settings), device_->stream));
  require(device_->compact(rows.batch()));
  device_->finish();
}

/// A graph, and the rows that it reads.
struct ReplayRunner::Recorded {
  static constexpr std::uint32_t rows = 8;

  Buffer slots{rows * sizeof(std::int32_t)};
  lethe::gpu::RuntimeCalls calls{};
  lethe::gpu::PruneGraph<lethe::gpu::RuntimeCalls> graph{calls};
  std::size_t step_tokens = 0;
};

ReplayRunner::ReplayRunner(const lethe::gpu::StateShape& shape, std::uint64_t seed)
    : DeviceRunner(shape, seed), recorded_(std::make_unique<Recorded>()) {}
ReplayRunner::~ReplayRunner() = default;

void ReplayRunner::make_room(const std::vector<std::int32_t>& batch,
                             const lethe::gpu::PlanSettings& settings) {
  std::vector<std::int32_t> rows(Recorded::rows, -1);
  std::copy(batch.begin(), batch.end(), rows.begin());
  copy(recorded_->slots.get(), rows.data(), rows.size() * sizeof(rows[0]));
  if (settings.step_tokens != recorded_->step_tokens) record(settings);
  require(recorded_->graph.replay(device_->stream));
  device_->finish();
}

void ReplayRunner::record(const lethe::gpu::PlanSettings& settings) {
  const lethe::gpu::Batch rows{static_cast<const std::int32_t*>(recorded_->slots.get()),
                               Recorded::rows};
  require(recorded_->graph.record(device_->stream, [&](cudaStream_t) {
    return device_->round(device_->round_of(rows, settings));
  }));
  recorded_->step_tokens = settings.step_tokens;
}

void DeviceRunner::append(const std::vector<std::int32_t>& batch, std::uint32_t tokens) {
  const UploadedRows rows(batch);
  require(launches::append(device_->state, rows.batch(), tokens, device_->stream));
  device_->finish();
}

namespace {

template <class Element>
void point_to_lse(lethe::Probabilities<Element>&, const float*) {}
template <class Element>
void point_to_lse(lethe::Logits<Element>& logits, const float* lse) {
  logits.lse = lse;
}

}  // namespace

template <class Observation>
void DeviceRunner::observe_bytes(const std::vector<std::int32_t>& batch, std::uint32_t layer,
                                 const std::vector<lethe::gpu::QueryWeight>& weights,
                                 std::size_t bytes, const std::vector<float>& lse,
                                 lethe::gpu::BatchObservation<Observation> given) {
  const UploadedRows rows(batch);
  const Uploaded<lethe::gpu::QueryWeight> weights_there(weights);
  const Uploaded<float> lse_there(lse);
  const Buffer data(bytes);
  copy(data.get(), given.first.data, bytes);
  given.first.data = static_cast<decltype(given.first.data)>(data.get());
  point_to_lse(given.first, lse_there.get());
  const lethe::gpu::ObservedLayer observed{device_->state, rows.batch(), layer,
                                           weights_there.get()};
  require(launches::observe(observed, given, device_->stream));
  device_->finish();
}

const HostState& DeviceRunner::read() {
  copy(host_.memory(), device_->state_memory.get(), device_->state_memory.bytes());
  return host_;
}

#define LETHE_INSTANTIATE(Observation)                                                       \
  template void DeviceRunner::observe_bytes(const std::vector<std::int32_t>&, std::uint32_t, \
                                            const std::vector<lethe::gpu::QueryWeight>&,     \
                                            std::size_t, const std::vector<float>&,          \
                                            lethe::gpu::BatchObservation<lethe::Observation>)
LETHE_INSTANTIATE(Probabilities<float>);
LETHE_INSTANTIATE(Probabilities<lethe::BFloat16>);
LETHE_INSTANTIATE(Logits<float>);
LETHE_INSTANTIATE(Logits<lethe::BFloat16>);
#undef LETHE_INSTANTIATE

}  // namespace gpu_test
