#include "deferred_runner.hpp"

#include <cuda_runtime_api.h>

#include "device_state.hpp"
#include "launches.hpp"
#include "lethe/gpu/prune_graph.hpp"
#include "lethe/gpu/runtime_calls.hpp"

namespace gpu_test {
namespace {

template <class Element>
[[nodiscard]] std::size_t ring_bytes(const lethe::gpu::RingShape& shape) {
  std::size_t bytes = 0;
  lethe::gpu::QueryRing<Element> ring;
  require(lethe::gpu::place_ring(deferred_state, shape, nullptr, bytes, ring));
  return bytes;
}

}  // namespace

/// A state, its rings and its keys on the device.
template <class Element>
struct DeferredDeviceRunner<Element>::Device : DeviceState {
  Device(const DeferredCase& given, const KeyPlace& place)
      : DeviceState(deferred_state),
        ring_memory(ring_bytes<Element>(given.ring)),
        keys(place.bytes()),
        numbers(place.numbers),
        first_entry(numbers.get() + 3 * place.entries()),
        full(place.rings(), KeyPlace::blocks) {
    std::size_t bytes = ring_memory.bytes();
    flush.state = state;
    flush.exact = given.exact;
    require(
        lethe::gpu::place_ring(deferred_state, given.ring, ring_memory.get(), bytes, flush.ring));
    place.describe(static_cast<std::byte*>(keys.get()), numbers.get(), flush);
    // No key: a row that is read without having been written shows.
    require(cudaMemset(keys.get(), 0xFF, keys.bytes()), "cudaMemset");
  }

  Buffer ring_memory;
  Buffer keys;
  Uploaded<std::uint32_t> numbers;
  std::uint32_t* first_entry;
  std::vector<std::uint32_t> full;
  lethe::gpu::Flush<Element> flush;
  /// Every other round is recorded and replayed.
  bool replays = false;
  lethe::gpu::RuntimeCalls calls{};
  lethe::gpu::PruneGraph<lethe::gpu::RuntimeCalls> graph{calls};
};

template <class Element>
DeferredDeviceRunner<Element>::DeferredDeviceRunner(const DeferredCase& given,
                                                    const KeyPlace& place, std::uint64_t)
    : host_(deferred_state), device_(std::make_unique<Device>(given, place)) {}
template <class Element>
DeferredDeviceRunner<Element>::~DeferredDeviceRunner() = default;

template <class Element>
void DeferredDeviceRunner<Element>::start(const Rows& batch, std::uint32_t threshold) {
  const UploadedRows rows(batch);
  require(launches::start_sequences(device_->state, rows.batch(), threshold, device_->stream));
  require(launches::start_rings(device_->flush.ring, rows.batch(), device_->stream));
  device_->finish();
}

template <class Element>
void DeferredDeviceRunner<Element>::make_room(const Rows& batch,
                                              const lethe::gpu::PlanSettings& settings) {
  const UploadedRows rows(batch);
  const lethe::gpu::Round round{.state = device_->state,
                                .batch = rows.batch(),
                                .settings = settings,
                                .plans = device_->plans};
  device_->flush.step_queries = static_cast<std::uint32_t>(settings.step_tokens);
  copy(device_->first_entry, device_->full.data(), device_->full.size() * sizeof(std::uint32_t));
  const auto prune = [&](cudaStream_t stream) {
    const lethe::gpu::Status planned = launches::plan_round(round, device_->flush, stream);
    if (!planned.ok()) return planned;
    return launches::compact(compaction_with_keys(round, device_->flush), stream);
  };
  device_->replays = !device_->replays;
  if (device_->replays) {
    require(device_->graph.record(device_->stream, prune));
    require(device_->graph.replay(device_->stream));
  } else {
    require(prune(device_->stream));
  }
  device_->finish();
}

template <class Element>
void DeferredDeviceRunner<Element>::append(const Rows& batch, std::uint32_t tokens) {
  const UploadedRows rows(batch);
  require(launches::append(device_->state, rows.batch(), tokens, device_->stream));
  device_->finish();
}

template <class Element>
void DeferredDeviceRunner<Element>::put_key(std::size_t offset, const std::vector<Element>& row) {
  copy(static_cast<std::byte*>(device_->keys.get()) + offset, row.data(),
       row.size() * sizeof(Element));
}

template <class Element>
void DeferredDeviceRunner<Element>::push(const Rows& batch, std::uint32_t layer,
                                         const std::vector<lethe::gpu::QueryWeight>& weights,
                                         const StepAttention<Element>& attention) {
  const UploadedRows rows(batch);
  const Uploaded<lethe::gpu::QueryWeight> weights_there(weights);
  const Uploaded<Element> data(attention.data);
  const Uploaded<float> lse(attention.lse);
  auto seen = attention.seen;
  seen.first.data = data.get();
  seen.first.lse = lse.get();
  require(
      launches::push_queries<Element>({device_->state, rows.batch(), layer, weights_there.get()},
                                      device_->flush.ring, seen, device_->stream));
  device_->finish();
}

template <class Element>
void DeferredDeviceRunner<Element>::flush(const Rows& batch) {
  const UploadedRows rows(batch);
  auto flush = device_->flush;
  flush.batch = rows.batch();
  flush.step_queries = lethe::gpu::any_queries;
  require(launches::flush_queries(flush, device_->stream));
  device_->finish();
}

template <class Element>
const HostState& DeferredDeviceRunner<Element>::read() {
  copy(host_.state.scores, device_->state_memory.get(), device_->state_memory.bytes());
  return host_;
}

template class DeferredDeviceRunner<float>;
template class DeferredDeviceRunner<lethe::Half>;
template class DeferredDeviceRunner<lethe::BFloat16>;

}  // namespace gpu_test
