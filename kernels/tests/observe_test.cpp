#include "lethe/gpu/observe_block.cuh"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "catch.hpp"
#include "decode_cases.hpp"
#include "emulation.hpp"
#include "host_state.hpp"
#include "lethe/gpu/observe_checks.hpp"

namespace {

constexpr std::uint32_t capacity = gpu_test::decode_capacity;
constexpr std::size_t heads = gpu_test::decode_heads;
using lethe::gpu::BatchObservation;
using lethe::gpu::HostBlock;
using lethe::gpu::QueryWeight;

template <class Observation>
void decodes_as_the_host(std::uint64_t seed, Observation kind, float decay) {
  gpu_test::Decode<Observation, gpu_test::Emulation> decode(seed, kind, decay);
  CHECK(decode.run(250) == "");
  CHECK(decode.pruned > 5);
}

}  // namespace

TEST_CASE("a batch decodes as the host library does, from probabilities") {
  decodes_as_the_host(1, lethe::Probabilities<float>{}, 0.98f);
  decodes_as_the_host(2, lethe::Probabilities<lethe::BFloat16>{}, 1.0f);
  // Scales are renewed every 60 queries.
  decodes_as_the_host(3, lethe::Probabilities<float>{}, 0.5f);
}

TEST_CASE("a batch decodes as the host library does, from logits") {
  decodes_as_the_host(4, lethe::Logits<float>{.scale = 0.7f}, 0.98f);
  decodes_as_the_host(5, lethe::Logits<lethe::BFloat16>{.base = lethe::LogBase::two}, 0.9f);
}

TEST_CASE("the mass sink makes the same scores as a batch's probabilities") {
  Samples samples(8);
  const gpu_test::HostState whole({1, 2, capacity});
  const gpu_test::HostState fused({1, 2, capacity});
  const std::vector<std::int32_t> batch{1, -1};
  const std::vector<QueryWeight> weights{{0.5f, 1.0f}, {7.0f, 1.0f}};
  for (const gpu_test::HostState* host : {&whole, &fused}) {
    lethe::gpu::start_block(HostBlock<32>(), host->state, {batch.data(), 2}, 64, 0);
    lethe::gpu::append_block(HostBlock<32>(), host->state, {batch.data(), 2}, 100, 0);
  }
  const auto seen = gpu_test::random_attention<float>(samples, 2, 1, false);
  const auto given = lethe::gpu::detail::packed(BatchObservation<lethe::Probabilities<float>>{
      gpu_test::of_row(seen, 0, lethe::Probabilities<float>{})});
  for (std::uint32_t tile = 0; tile < capacity / 32; ++tile) {
    lethe::gpu::observe_block(HostBlock<32>(3), {whole.state, {batch.data(), 2}, 0, weights.data()},
                              given, tile, 0);
  }
  const lethe::gpu::ObservedLayer layer{fused.state, {batch.data(), 2}, 0, weights.data()};
  const lethe::gpu::MassSink sink(layer, 1, 0);
  CHECK(sink.tokens() == 100);
  CHECK(lethe::gpu::MassSink(layer, 1, 1).tokens() == 0);
  for (std::uint32_t token = 0; token < sink.tokens(); ++token) {
    float mass = 0;
    for (std::size_t head = 0; head < heads; ++head) mass += seen.data[head * capacity + token];
    sink(token, 0, mass);
  }
  const std::span<float> expected = whole.scores(0, 1);
  CHECK(std::equal(expected.begin(), expected.end(), fused.scores(0, 1).begin()));
  CHECK(*std::max_element(expected.begin(), expected.end()) > 0.0f);
}

TEST_CASE("what a call cannot do is refused by name before any launch") {
  const gpu_test::HostState host({1, 2, capacity});
  lethe::gpu::Round round{.state = host.state, .batch = {nullptr, 2}, .plans = host.plans};
  round.settings.capacity = capacity;
  CHECK(lethe::gpu::check(round).ok());
  const auto remedy = [&](auto change) {
    lethe::gpu::Round changed = round;
    change(changed);
    const lethe::gpu::Status status = lethe::gpu::check(changed);
    return status.ok() ? std::string() : std::string(status.remedy);
  };
  CHECK(remedy([](auto& r) { r.state = {}; }) == "layers: give 1 to 65535");
  CHECK(remedy([](auto& r) { r.batch.rows = 3; }).starts_with("slot_of_row"));
  CHECK(remedy([](auto& r) { r.settings.capacity = 5; }).starts_with("capacity"));
  CHECK(remedy([](auto& r) { r.settings.step_tokens = capacity + 1; }).starts_with("step_tokens"));
  CHECK(remedy([](auto& r) { r.settings.slack_ratio = 1.0f; }).starts_with("slack_ratio"));
  CHECK(remedy([](auto& r) { r.settings.breakpoint.segments = 0; }).starts_with("segments"));
  CHECK(remedy([](auto& r) { r.settings.block_tokens = 0; }).starts_with("block_tokens"));
  CHECK(remedy([](auto& r) { r.plans = {}; }).starts_with("plans"));
}

TEST_CASE("an observation that says too little is refused by name") {
  const gpu_test::HostState host({1, 2, capacity});
  const QueryWeight weight{};
  const lethe::gpu::ObservedLayer layer{host.state, {nullptr, 2}, 0, &weight};
  const float logit = 0;
  const auto remedy = [&](const lethe::gpu::ObservedLayer& at, const lethe::Logits<float>& seen) {
    const lethe::gpu::Status status =
        lethe::gpu::check(at, BatchObservation<lethe::Logits<float>>{seen});
    return status.ok() ? std::string() : std::string(status.remedy);
  };
  CHECK(remedy(layer, {.data = &logit, .lse = &logit, .columns = 1}).empty());
  CHECK(remedy(layer, {.data = &logit, .columns = 1}).starts_with("lse"));
  CHECK(remedy(layer, {.lse = &logit, .columns = 1}).starts_with("data"));
  CHECK(remedy(layer, {.data = &logit, .lse = &logit}).starts_with("columns"));
  lethe::gpu::ObservedLayer other = layer;
  other.layer = 1;
  CHECK(remedy(other, {.data = &logit, .lse = &logit, .columns = 1}).starts_with("layer"));
  other = layer;
  other.weights = nullptr;
  CHECK(remedy(other, {.data = &logit, .lse = &logit, .columns = 1}).starts_with("weights"));
}

TEST_CASE("memory is sized by a query, and too little of it is refused") {
  std::size_t bytes = 0;
  lethe::gpu::State state;
  const lethe::gpu::StateShape shape{2, 3, 100};
  CHECK(lethe::gpu::place_state(shape, nullptr, bytes, state).ok());
  CHECK(bytes >= 2 * 3 * 100 * 8);
  CHECK(state.scores == nullptr);
  const gpu_test::Memory memory = gpu_test::poisoned_memory(bytes + 256);
  std::size_t less = bytes - 1;
  CHECK(std::string(lethe::gpu::place_state(shape, memory.get(), less, state).remedy)
            .starts_with("bytes"));
  CHECK(less == bytes);
  CHECK(state.scores == nullptr);
  auto* odd = static_cast<std::byte*>(memory.get()) + 4;
  CHECK(
      std::string(lethe::gpu::place_state(shape, odd, bytes, state).remedy).starts_with("memory"));
  CHECK_FALSE(lethe::gpu::place_state({0, 1, 1}, nullptr, bytes, state).ok());
}

TEST_CASE("too little memory for a round's plans is refused") {
  std::size_t bytes = 0;
  lethe::gpu::PlanBuffers plans;
  const lethe::gpu::StateShape shape{2, 3, 100};
  REQUIRE(lethe::gpu::place_plans(shape, nullptr, bytes, plans).ok());
  const gpu_test::Memory memory = gpu_test::poisoned_memory(bytes);
  std::size_t less = bytes - 1;
  const lethe::gpu::Status status = lethe::gpu::place_plans(shape, memory.get(), less, plans);
  CHECK(std::string(status.call) == "place_plans");
  CHECK(std::string(status.remedy).starts_with("bytes"));
  CHECK(plans.kept == nullptr);
}
