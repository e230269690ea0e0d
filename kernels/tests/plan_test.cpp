#include "lethe/gpu/plan.cuh"

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "catch.hpp"
#include "host_state.hpp"
#include "lethe/pruner.hpp"
#include "naive/given.hpp"
#include "naive/token_cache.hpp"
#include "plan_cases.hpp"

namespace {

using gpu_test::PlanCase;
using gpu_test::Planned;

/// The device's plan, its lanes one after another in an order that the seed decides.
template <unsigned Threads>
Planned emulate(const PlanCase& given, std::uint64_t seed) {
  const auto shared = std::make_unique<lethe::gpu::detail::PlanShared>();
  const gpu_test::HostState host(given.shape());
  gpu_test::fill(given, host.state, [](void* target, const void* source, std::size_t bytes) {
    std::memcpy(target, source, bytes);
  });
  std::vector<lethe::gpu::LayerPlan> decisions(given.layers);
  const lethe::gpu::Round round{.state = host.state,
                                .batch = {nullptr, 1},
                                .settings = given.settings,
                                .plans = host.plans,
                                .decisions = decisions.data()};
  REQUIRE(std::string(lethe::gpu::check(round).remedy) == "");
  lethe::gpu::plan_block(lethe::gpu::HostBlock<Threads>(seed), *shared, round, given.layer, 0);
  Planned planned{.plan = decisions[given.layer]};
  const lethe::Slot* kept = host.plans.kept + std::size_t{given.layer} * given.settings.capacity;
  if (gpu_test::drops(planned.plan.outcome)) planned.kept.assign(kept, kept + planned.plan.kept);
  return planned;
}

struct Tally {
  std::array<std::size_t, 8> outcomes{};
  std::string fault;
};

using MakeCase = PlanCase (*)(Samples&, std::size_t);

template <unsigned Threads>
Tally compare(std::uint64_t seed, std::size_t cases, std::size_t most,
              MakeCase make = gpu_test::random_case) {
  Samples samples(seed);
  Tally tally;
  for (std::size_t i = 0; i < cases; ++i) {
    const PlanCase given = make(samples, most);
    const Planned host = gpu_test::HostRound(given).run();
    const char* field = gpu_test::difference(host, emulate<Threads>(given, i));
    if (field != nullptr) tally.fault += " case " + std::to_string(i) + ": " + field;
    ++tally.outcomes[static_cast<std::size_t>(host.plan.outcome)];
  }
  return tally;
}

}  // namespace

TEST_CASE("plans of a block are the host's, beyond what its registers hold") {
  const Tally tally = compare<32>(1, 6000, 700);
  CHECK(tally.fault == "");
  CHECK(tally.outcomes[static_cast<std::size_t>(lethe::Outcome::pruned)] > 1000);
  CHECK(tally.outcomes[static_cast<std::size_t>(lethe::Outcome::spread_out)] > 100);
  CHECK(tally.outcomes[static_cast<std::size_t>(lethe::Outcome::nothing_to_drop)] > 100);
  CHECK(tally.outcomes[static_cast<std::size_t>(lethe::Outcome::non_finite)] > 100);
  CHECK(tally.outcomes[static_cast<std::size_t>(lethe::Outcome::guarded)] > 100);
}

TEST_CASE("plans by a window's mass, by draws and by age alone are the host's") {
  const Tally tally = compare<32>(5, 6000, 300, gpu_test::random_scored_case);
  CHECK(tally.fault == "");
  CHECK(tally.outcomes[static_cast<std::size_t>(lethe::Outcome::pruned)] > 1000);
  CHECK(tally.outcomes[static_cast<std::size_t>(lethe::Outcome::non_finite)] > 20);
  CHECK(tally.outcomes[static_cast<std::size_t>(lethe::Outcome::guarded)] > 50);
  CHECK(compare<1024>(6, 20, 9000, gpu_test::random_scored_case).fault == "");
}

TEST_CASE("plans of a block are the host's, from its registers") {
  CHECK(compare<64>(2, 4000, 500).fault == "");
  CHECK(compare<1024>(3, 60, 8192).fault == "");
  CHECK(compare<1024>(4, 10, 40000).fault == "");
}

TEST_CASE("a block's plan is the pruner's own") {
  std::size_t pruned = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    Samples samples(seed);
    PlanCase given{.settings = {.capacity = 300, .step_tokens = 2}};
    given.scores = samples.mass(200 + samples.below(100));
    given.positions = ascending_positions(given.scores.size());
    given.settings.policy = {.retention = {.first_tokens = 4, .recent_ratio = 0.2f},
                             .first_threshold = 64};
    given.settings.breakpoint.sparsity_ratio = samples.between(2.0f, 3000.0f);
    given.cadence = {64, static_cast<std::uint32_t>(given.scores.size())};
    lethe::Pruner<naive::Given, lethe::SegmentBreakpoint> pruner(
        {.layers = 1, .capacity = 300}, given.settings.policy, {.scores = given.scores},
        given.settings.breakpoint);
    naive::TokenCache<naive::plain> cache(1, 1);
    static_cast<void>(pruner.make_room(cache, given.scores.size()));
    cache.append(0, given.positions);
    pruner.commit();
    static_cast<void>(pruner.make_room(cache, 2));
    Planned planned = emulate<64>(given, seed);
    if (planned.plan.outcome != lethe::Outcome::pruned) planned.kept = given.positions;
    const std::span<const lethe::Position> left = pruner.positions(0);
    CHECK(planned.kept == std::vector<lethe::Position>(left.begin(), left.end()));
    CHECK(planned.plan.cadence.threshold == pruner.threshold(0));
    pruned += planned.plan.outcome == lethe::Outcome::pruned ? 1 : 0;
  }
  CHECK(pruned > 50);
}
