#include "lethe/gpu/observe_block.cuh"

#include <algorithm>
#include <cstddef>
#include <cstdint>
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
using gpu_test::DecayedMass;
using lethe::gpu::BatchObservation;
using lethe::gpu::HostBlock;
using lethe::gpu::QueryWeight;

template <class Observation>
void decodes_as_the_host(std::uint64_t seed, Observation kind, const DecayedMass& policy) {
  gpu_test::Decode<Observation, gpu_test::Emulation> decode(seed, kind, policy);
  CHECK(decode.run(250) == "");
  CHECK(decode.pruned > 5);
}

/// What a batch's probabilities and what the sink, told the same, leave in two states.
void sink_is_as_good(const lethe::gpu::StateShape& shape, const lethe::gpu::ScoreSettings& score) {
  Samples samples(8);
  const gpu_test::HostState whole(shape);
  const gpu_test::HostState fused(shape);
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
  const std::vector<float> expected = gpu_test::scores_in(whole, score, 0, 1);
  CHECK(expected == gpu_test::scores_in(fused, score, 0, 1));
  CHECK(*std::max_element(expected.begin(), expected.end()) > 0.0f);
}

}  // namespace

TEST_CASE("a batch decodes as the host library does, from probabilities") {
  decodes_as_the_host(1, lethe::Probabilities<float>{}, DecayedMass{0.98f});
  decodes_as_the_host(2, lethe::Probabilities<lethe::BFloat16>{}, DecayedMass{1.0f});
  // Scales are renewed every 60 queries.
  decodes_as_the_host(3, lethe::Probabilities<float>{}, DecayedMass{0.5f});
}

TEST_CASE("a batch decodes as the host library does, from logits") {
  decodes_as_the_host(4, lethe::Logits<float>{.scale = 0.7f}, DecayedMass{0.98f});
  decodes_as_the_host(5, lethe::Logits<lethe::BFloat16>{.base = lethe::LogBase::two},
                      DecayedMass{0.9f});
}

TEST_CASE("the mass sink makes the same scores as a batch's probabilities") {
  sink_is_as_good({1, 2, capacity}, {});
  sink_is_as_good({.layers = 1, .slots = 2, .capacity = capacity, .window = 3},
                  {.rule = lethe::gpu::ScoreRule::window, .window = {.window = 3, .pool = 3}});
}

TEST_CASE("a window holds nothing of tokens that its query did not attend to") {
  const gpu_test::HostState host({.layers = 1, .slots = 1, .capacity = capacity, .window = 1});
  const std::vector<float> mass(capacity, 0.25f);
  lethe::gpu::start_block(HostBlock<32>(), host.state, {nullptr, 1}, 64, 0);
  for (const std::size_t columns : {std::size_t{capacity}, std::size_t{50}}) {
    lethe::gpu::append_block(HostBlock<32>(), host.state, {nullptr, 1}, 60, 0);
    const auto seen = lethe::gpu::detail::packed(BatchObservation<lethe::Probabilities<float>>{
        {.data = mass.data(), .heads = 1, .queries = 1, .columns = columns}});
    for (std::uint32_t tile = 0; tile < capacity / 32; ++tile) {
      lethe::gpu::observe_block(HostBlock<32>(), {host.state, {nullptr, 1}, 0, nullptr}, seen, tile,
                                0);
    }
  }
  std::vector<float> expected(120, 0.0f);
  std::fill_n(expected.begin(), 50, 0.25f);
  const lethe::gpu::ScoreSettings score{.rule = lethe::gpu::ScoreRule::window, .window = {1, 1}};
  CHECK(gpu_test::scores_in(host, score, 0, 0) == expected);
  // Nor anything of the sequence that had the slot before.
  lethe::gpu::start_block(HostBlock<32>(), host.state, {nullptr, 1}, 64, 0);
  lethe::gpu::append_block(HostBlock<32>(), host.state, {nullptr, 1}, 120, 0);
  CHECK(gpu_test::scores_in(host, score, 0, 0) == std::vector<float>(120, 0.0f));
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
  CHECK(remedy([](auto& r) { r.settings.max_lost_mass = 1.5f; }).starts_with("max_lost_mass"));
  CHECK(remedy([](auto& r) { r.settings.mass_target.share = 0.0f; }).starts_with("share"));
  CHECK(remedy([](auto& r) { r.settings.pyramid.budget = 0; }).starts_with("budget"));
  CHECK(remedy([](auto& r) { r.settings.pyramid.beta = 0; }).starts_with("beta"));
  CHECK(remedy([](auto& r) { r.settings.rule = lethe::gpu::BudgetRule::table; }) ==
        "table: give the layers' budgets, in device memory");
}

TEST_CASE("a score that the state has no memory for is refused by name") {
  using lethe::gpu::ScoreRule;
  const auto remedy = [](const lethe::gpu::StateShape& shape, lethe::gpu::ScoreSettings score) {
    const gpu_test::HostState host(shape);
    lethe::gpu::Round round{.state = host.state, .batch = {nullptr, 1}, .plans = host.plans};
    round.settings.capacity = capacity;
    round.settings.score = score;
    return std::string(lethe::gpu::check(round).remedy);
  };
  const lethe::gpu::StateShape plain{1, 1, capacity};
  const lethe::gpu::StateShape windowed{1, 1, capacity, 32};
  const lethe::gpu::StateShape unscored{1, 1, capacity, 0, false};
  CHECK(remedy(windowed, {.rule = ScoreRule::window}) == "");
  CHECK(remedy(plain, {.rule = ScoreRule::window}).starts_with("window"));
  CHECK(remedy(windowed, {}).starts_with("window"));
  CHECK(
      remedy(windowed, {.rule = ScoreRule::window, .window = {.window = 5}}).starts_with("window"));
  CHECK(remedy(windowed, {.rule = ScoreRule::window, .window = {.pool = 4}}).starts_with("pool"));
  CHECK(remedy(unscored, {}).starts_with("scores"));
  CHECK(remedy(unscored, {.rule = ScoreRule::random}) == "");
  CHECK(remedy(plain, {.rule = ScoreRule::none}) == "");
  std::size_t bytes = 0;
  lethe::gpu::State state;
  CHECK(
      std::string(lethe::gpu::place_state({1, 1, capacity, 4, false}, nullptr, bytes, state).remedy)
          .starts_with("scores"));
  CHECK(
      std::string(lethe::gpu::place_state({65535, 1000, 100000, 60}, nullptr, bytes, state).remedy)
          .starts_with("window"));
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
  const gpu_test::HostState windowed({1, 2, capacity, 4});
  other.state = windowed.state;
  CHECK(remedy(other, {.data = &logit, .lse = &logit, .columns = 1}).empty());
  const gpu_test::HostState unscored({1, 2, capacity, 0, false});
  other.state = unscored.state;
  CHECK(remedy(other, {.data = &logit, .lse = &logit, .columns = 1}).starts_with("scores"));
}

TEST_CASE("memory is sized by a query, and too little of it is refused") {
  std::size_t bytes = 0;
  lethe::gpu::State state;
  const lethe::gpu::StateShape shape{2, 3, 100};
  CHECK(lethe::gpu::place_state(shape, nullptr, bytes, state).ok());
  CHECK(bytes >= 2 * 3 * 100 * 8);
  CHECK(state.scores == nullptr);
  std::size_t windowed = 0;
  CHECK(lethe::gpu::place_state({2, 3, 100, 8}, nullptr, windowed, state).ok());
  CHECK(windowed >= bytes + 2 * 3 * 8 * 100 * 4);
  std::size_t unscored = 0;
  CHECK(lethe::gpu::place_state({2, 3, 100, 0, false}, nullptr, unscored, state).ok());
  CHECK(unscored + 2 * 3 * 100 * 4 <= bytes);
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

TEST_CASE("memory placed again points to nothing that its shape has no use for") {
  const lethe::gpu::StateShape rich{2, 3, 100, 8};
  const lethe::gpu::StateShape poor{2, 3, 100, 0, false};
  gpu_test::HostState host(rich);
  REQUIRE(host.state.scores != nullptr);
  REQUIRE(host.state.window_rows != nullptr);
  std::size_t bytes = std::size_t{1} << 20;
  const gpu_test::Memory memory = gpu_test::poisoned_memory(bytes);
  REQUIRE(lethe::gpu::place_state(poor, memory.get(), bytes, host.state).ok());
  CHECK(host.state.positions == memory.get());
  CHECK(host.state.scores == nullptr);
  CHECK(host.state.window_rows == nullptr);
  CHECK(host.state.window_queries == nullptr);

  const lethe::gpu::StateShape whole{
      .layers = 2, .slots = 3, .capacity = 100, .groups = 2, .scope = lethe::Scope::sequence};
  gpu_test::HostState summed(whole);
  REQUIRE(summed.plans.sums != nullptr);
  REQUIRE(summed.plans.shares != nullptr);
  bytes = std::size_t{1} << 20;
  REQUIRE(lethe::gpu::place_plans(poor, memory.get(), bytes, summed.plans).ok());
  CHECK(summed.plans.kept == memory.get());
  CHECK(summed.plans.sums == nullptr);
  CHECK(summed.plans.factors == nullptr);
  CHECK(summed.plans.shares == nullptr);
}

TEST_CASE("a state whose numbers would not fit a size is refused by name") {
  std::size_t bytes = 0;
  lethe::gpu::State state;
  const auto remedy = [&](const lethe::gpu::StateShape& shape) {
    return std::string(lethe::gpu::place_state(shape, nullptr, bytes, state).remedy);
  };
  CHECK(remedy({.layers = 1u << 10, .slots = 1u << 18, .capacity = 1u << 20}).empty());
  CHECK(remedy({.layers = 1u << 10, .slots = 1u << 19, .capacity = 1u << 20})
            .starts_with("capacity"));
  CHECK(
      remedy({.layers = 1u << 10, .slots = 1u << 14, .capacity = 1u << 20, .groups = 16}).empty());
  CHECK(remedy({.layers = 1u << 10, .slots = 1u << 14, .capacity = 1u << 20, .groups = 17})
            .starts_with("groups"));
  CHECK(
      remedy({.layers = 1u << 10, .slots = 1u << 14, .capacity = 1u << 20, .window = 16}).empty());
  CHECK(remedy({.layers = 1u << 10, .slots = 1u << 14, .capacity = 1u << 20, .window = 17})
            .starts_with("window"));
}
