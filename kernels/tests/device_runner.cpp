#include "device_runner.hpp"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <stdexcept>

#include "launches.hpp"
#include "lethe/gpu/prune_graph.hpp"
#include "lethe/gpu/round_compaction.hpp"
#include "lethe/gpu/runtime_calls.hpp"

namespace gpu_test {
namespace {

void require(const lethe::gpu::Status& status) {
  if (status.ok()) return;
  const char* error = cudaGetErrorString(static_cast<cudaError_t>(status.code));
  throw std::runtime_error(std::string(status.call) + ": " + error + " " + status.remedy);
}

void require(cudaError_t error, const char* call) {
  require(lethe::gpu::Status{static_cast<int>(error), call});
}

/// Device memory, poisoned.
class Buffer {
 public:
  explicit Buffer(std::size_t bytes) : bytes_(bytes) {
    require(cudaMalloc(&memory_, bytes), "cudaMalloc");
    require(cudaMemset(memory_, 0xAB, bytes), "cudaMemset");
  }
  ~Buffer() { static_cast<void>(cudaFree(memory_)); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  [[nodiscard]] void* get() const { return memory_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  void* memory_ = nullptr;
  std::size_t bytes_;
};

void copy(void* target, const void* source, std::size_t bytes) {
  require(cudaMemcpy(target, source, bytes, cudaMemcpyDefault), "cudaMemcpy");
}

/// A copy on the device of what lies on the host.
template <class T>
class Uploaded {
 public:
  Uploaded(const T* data, std::size_t count) : buffer_(count * sizeof(T)) {
    copy(buffer_.get(), data, count * sizeof(T));
  }
  explicit Uploaded(const std::vector<T>& data) : Uploaded(data.data(), data.size()) {}
  [[nodiscard]] T* get() const { return static_cast<T*>(buffer_.get()); }

 private:
  Buffer buffer_;
};

[[nodiscard]] std::size_t state_bytes(const lethe::gpu::StateShape& shape) {
  std::size_t bytes = 0;
  lethe::gpu::State state;
  require(lethe::gpu::place_state(shape, nullptr, bytes, state));
  return bytes;
}

[[nodiscard]] std::size_t plan_bytes(const lethe::gpu::StateShape& shape) {
  std::size_t bytes = 0;
  lethe::gpu::PlanBuffers plans;
  require(lethe::gpu::place_plans(shape, nullptr, bytes, plans));
  return bytes;
}

}  // namespace

/// A state and a round's buffers on the device.
struct DeviceRunner::Device {
  explicit Device(const lethe::gpu::StateShape& shape)
      : state_memory(state_bytes(shape)), plan_memory(plan_bytes(shape)) {
    std::size_t bytes = state_memory.bytes();
    require(lethe::gpu::place_state(shape, state_memory.get(), bytes, state));
    bytes = plan_memory.bytes();
    require(lethe::gpu::place_plans(shape, plan_memory.get(), bytes, plans));
    require(cudaStreamCreate(&stream), "cudaStreamCreate");
  }
  ~Device() { static_cast<void>(cudaStreamDestroy(stream)); }

  /// Enqueues a whole round.
  [[nodiscard]] lethe::gpu::Status round(const lethe::gpu::Batch& batch,
                                         const lethe::gpu::PlanSettings& settings) const {
    const lethe::gpu::Status planned = launches::plan_round(
        {.state = state, .batch = batch, .settings = settings, .plans = plans}, stream);
    if (!planned.ok()) return planned;
    return launches::compact(lethe::gpu::compaction_of(state, plans, batch), stream);
  }

  /// Waits, so that memory of the call may go.
  void finish() const { require(cudaStreamSynchronize(stream), "cudaStreamSynchronize"); }

  Buffer state_memory;
  Buffer plan_memory;
  lethe::gpu::State state{};
  lethe::gpu::PlanBuffers plans{};
  cudaStream_t stream = nullptr;
};

std::string device_name() {
  int count = 0;
  cudaDeviceProp properties{};
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return {};
  return cudaGetDeviceProperties(&properties, 0) == cudaSuccess ? properties.name : "";
}

lethe::gpu::LayerPlan plan_on_device(const lethe::gpu::PlanSettings& settings,
                                     const lethe::gpu::LayerInput& input,
                                     std::vector<lethe::Slot>& kept) {
  const lethe::gpu::StateShape shape{1, 1, static_cast<std::uint32_t>(settings.capacity)};
  const Buffer state_memory(state_bytes(shape));
  const Buffer plan_memory(plan_bytes(shape));
  const Buffer decision(sizeof(lethe::gpu::LayerPlan));
  lethe::gpu::Round round{.batch = {nullptr, 1}, .settings = settings};
  std::size_t bytes = state_memory.bytes();
  require(lethe::gpu::place_state(shape, state_memory.get(), bytes, round.state));
  bytes = plan_memory.bytes();
  require(lethe::gpu::place_plans(shape, plan_memory.get(), bytes, round.plans));
  round.decisions = static_cast<lethe::gpu::LayerPlan*>(decision.get());
  copy(round.state.scores, input.scores, input.tokens * sizeof(float));
  copy(round.state.positions, input.positions, input.tokens * sizeof(lethe::Position));
  copy(round.state.lengths, &input.tokens, sizeof(input.tokens));
  copy(round.state.cadences, &input.cadence, sizeof(input.cadence));
  copy(round.state.pinned, &input.pinned, sizeof(input.pinned));
  require(launches::plan_round(round, nullptr));
  lethe::gpu::LayerPlan plan;
  copy(&plan, decision.get(), sizeof(plan));
  kept.resize(input.tokens);
  copy(kept.data(), round.plans.kept, kept.size() * sizeof(lethe::Slot));
  return plan;
}

DeviceRunner::DeviceRunner(const lethe::gpu::StateShape& shape, std::uint64_t)
    : host_(shape), device_(std::make_unique<Device>(shape)) {}
DeviceRunner::~DeviceRunner() = default;

void DeviceRunner::start(const std::vector<std::int32_t>& batch, std::uint32_t threshold) {
  const Uploaded<std::int32_t> slots(batch);
  const auto rows = static_cast<std::uint32_t>(batch.size());
  require(
      launches::start_sequences(device_->state, {slots.get(), rows}, threshold, device_->stream));
  device_->finish();
}

void DeviceRunner::make_room(const std::vector<std::int32_t>& batch,
                             const lethe::gpu::PlanSettings& settings) {
  const Uploaded<std::int32_t> slots(batch);
  require(device_->round({slots.get(), static_cast<std::uint32_t>(batch.size())}, settings));
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
  require(recorded_->graph.record(device_->stream,
                                  [&](cudaStream_t) { return device_->round(rows, settings); }));
  recorded_->step_tokens = settings.step_tokens;
}

void DeviceRunner::append(const std::vector<std::int32_t>& batch, std::uint32_t tokens) {
  const Uploaded<std::int32_t> slots(batch);
  const auto rows = static_cast<std::uint32_t>(batch.size());
  require(launches::append(device_->state, {slots.get(), rows}, tokens, device_->stream));
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
  const Uploaded<std::int32_t> slots(batch);
  const Uploaded<lethe::gpu::QueryWeight> weights_there(weights);
  const Uploaded<float> lse_there(lse);
  const Buffer data(bytes);
  copy(data.get(), given.first.data, bytes);
  given.first.data = static_cast<decltype(given.first.data)>(data.get());
  point_to_lse(given.first, lse_there.get());
  const lethe::gpu::ObservedLayer observed{device_->state,
                                           {slots.get(), static_cast<std::uint32_t>(batch.size())},
                                           layer,
                                           weights_there.get()};
  require(launches::observe(observed, given, device_->stream));
  device_->finish();
}

const HostState& DeviceRunner::read() {
  copy(host_.state.scores, device_->state_memory.get(), device_->state_memory.bytes());
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
