// A pruner saved in mid-run, copied or reset goes on as the one it came from; is_due changes
// nothing.
#include <algorithm>

#include "catch.hpp"
#include "naive/attention.hpp"

namespace {

constexpr std::size_t dimension = 6;

lethe::PrunerConfig config_of(bool deferred) {
  lethe::PrunerConfig config{.layers = 2, .capacity = 48, .groups = 2, .round_interval = 4};
  if (deferred) {
    config.deferred = {.queries = 9, .heads = 4, .kv_heads = 2, .head_dimension = dimension};
  }
  return config;
}

template <class Pruner>
using Run = naive::Sequence<Pruner, naive::with_keys>;

/// A step whose attention is told as mass, or as queries that wait.
template <class Pruner>
void step(Run<Pruner>& run, bool deferred) {
  const std::size_t tokens = run.pruner.tokens_seen() % 5 == 0 ? 3 : 1;
  if (!deferred) return run.step(tokens);
  run.pruner.make_room(run.cache, tokens);
  std::vector<std::uint32_t> ids(tokens);
  for (std::size_t i = 0; i < tokens; ++i) {
    ids[i] = static_cast<std::uint32_t>(run.pruner.tokens_seen() + i);
  }
  std::vector<float> queries(4 * tokens * dimension);
  const std::vector<float> lse(4 * tokens, 3.0f);
  for (std::size_t l = 0; l < 2; ++l) {
    for (std::size_t i = 0; i < queries.size(); ++i) {
      queries[i] = naive::mass_between(l, i % 7, ids[0], static_cast<std::uint32_t>(i));
    }
    run.pruner.observe(l, lethe::Queries<float>{.data = queries.data(),
                                                .lse = lse.data(),
                                                .heads = 4,
                                                .queries = tokens,
                                                .head_dimension = dimension});
    run.cache.append(l, ids);
  }
  run.pruner.commit();
}

template <class Pruner>
Run<Pruner> start(const Pruner& pruner) {
  Run<Pruner> run(pruner);
  run.cache = decltype(run.cache)(2, 2);
  run.cache.dimension = dimension;
  return run;
}

template <class Pruner>
void go_on(Run<Pruner>& run, bool deferred, std::size_t steps) {
  for (std::size_t i = 0; i < steps; ++i) step(run, deferred);
}

/// The same plans ever after: positions and scores agree at every step.
template <class Pruner>
void expect_equal_runs(Run<Pruner> a, Run<Pruner> b, bool deferred) {
  for (std::size_t i = 0; i < 120; ++i) {
    step(a, deferred);
    step(b, deferred);
    for (std::size_t layer = 0; layer < 2; ++layer) {
      REQUIRE(a.positions(layer) == b.positions(layer));
      REQUIRE(a.scores(layer) == b.scores(layer));
      REQUIRE(a.pruner.threshold(layer) == b.pruner.threshold(layer));
    }
  }
  CHECK(a.pruner.size(0) < a.pruner.tokens_seen());
}

template <class Pruner>
void check_policy(const Pruner& fresh, bool deferred) {
  CAPTURE(deferred);
  Run<Pruner> run = start(fresh);
  // Not a multiple of the queries that are kept, so that some wait.
  go_on(run, deferred, 95);
  Run<Pruner> restored = run;
  restored.pruner = fresh;
  restored.pruner.restore(run.pruner.save());
  expect_equal_runs(run, restored, deferred);

  Run<Pruner> fork = run;
  expect_equal_runs(run, fork, deferred);
  Run<Pruner> other = run;
  go_on(other, deferred, 50);
  expect_equal_runs(run, fork, deferred);

  other.pruner.reset();
  Run<Pruner> again = start(other.pruner);
  expect_equal_runs(again, start(fresh), deferred);
}

/// One pruner with some state, as bytes.
lethe::policies::Lethe small_pruner(std::size_t tokens) {
  naive::Sequence<lethe::policies::Lethe> run(
      lethe::policies::Lethe({.layers = 1, .capacity = 16}, {.first_threshold = 8}));
  for (std::size_t i = 0; i < tokens; ++i) run.step(1);
  return run.pruner;
}

void expect_refused(const lethe::policies::Lethe& pruner, const std::vector<std::byte>& blob) {
  lethe::policies::Lethe target = pruner;
  bool refused = false;
  try {
    target.restore(blob);
  } catch (const std::invalid_argument& error) {
    refused = std::string(error.what()).starts_with("lethe: cannot restore the state: ");
  }
  const bool unchanged = target.save() == pruner.save();
  REQUIRE(refused);
  REQUIRE(unchanged);
}

}  // namespace

TEST_CASE("Every policy goes on as it was after save and restore, a copy, and a reset") {
  for (const bool deferred : {false, true}) {
    const lethe::PrunerConfig config = config_of(deferred);
    check_policy(lethe::policies::Lethe(config, {.decay = 0.9f, .first_threshold = 20}), deferred);
    check_policy(lethe::policies::H2O(config), deferred);
    check_policy(lethe::policies::SnapKV(config, {.window = 6}), deferred);
    check_policy(lethe::policies::TOVA(config), deferred);
    check_policy(lethe::policies::GKV(config, {.window = 6}), deferred);
    check_policy(lethe::policies::MassPerAge(config), deferred);
  }
  check_policy(lethe::policies::StreamingLLM(config_of(false)), false);
  check_policy(lethe::policies::RandomAttention(config_of(false), {.recent_tokens = 8}), false);
}

TEST_CASE("Saved state carries the pin and the turn of the layers") {
  lethe::policies::Lethe pruner = small_pruner(10);
  pruner.pin(7);
  lethe::policies::Lethe restored = small_pruner(3);
  restored.restore(pruner.save());
  CHECK(restored.save() == pruner.save());
  CHECK(restored.tokens_seen() == 10);
  restored.reset();
  CHECK(restored.tokens_seen() == 0);
  CHECK(restored.size(0) == 0);
}

TEST_CASE("Restoring ends a step in progress") {
  naive::Sequence<lethe::policies::H2O> run(lethe::policies::H2O({.layers = 1, .capacity = 16}));
  const std::vector<std::byte> blob = run.pruner.save();
  run.pruner.make_room(run.cache, 1);
  run.observe({0});
  run.pruner.restore(blob);
  run.step(1);
  CHECK(run.pruner.size(0) == 1);
}

TEST_CASE("A damaged blob is refused and changes nothing") {
  const lethe::policies::Lethe pruner = small_pruner(30);
  const std::vector<std::byte> blob = small_pruner(20).save();
  for (std::size_t i = 0; i < blob.size(); ++i) {
    std::vector<std::byte> damaged = blob;
    damaged[i] ^= static_cast<std::byte>(1u << i % 8);
    expect_refused(pruner, damaged);
    expect_refused(pruner, {blob.begin(), blob.begin() + static_cast<std::ptrdiff_t>(i)});
  }
  std::vector<std::byte> longer = blob;
  longer.push_back(std::byte{0});
  expect_refused(pruner, longer);
}

TEST_CASE("A blob of another policy or shape is refused by name") {
  lethe::policies::Lethe pruner = small_pruner(5);
  const auto blob_of = [](auto other) { return other.save(); };
  CHECK_THROWS_WITH(pruner.restore(blob_of(lethe::policies::TOVA({.layers = 1, .capacity = 16}))),
                    Catch::Contains("policy"));
  CHECK_THROWS_WITH(pruner.restore(blob_of(lethe::policies::Lethe({.layers = 2, .capacity = 16}))),
                    Catch::Contains("layers"));
  CHECK_THROWS_WITH(pruner.restore(blob_of(lethe::policies::Lethe({.layers = 1, .capacity = 17}))),
                    Catch::Contains("capacity"));
  // H2O scores as Lethe does, but never forgets.
  CHECK_THROWS_WITH(pruner.restore(blob_of(lethe::policies::H2O({.layers = 1, .capacity = 16}))),
                    Catch::Contains("decay"));
  const std::vector<std::byte> noise(500, std::byte{7});
  CHECK_THROWS_WITH(pruner.restore(noise), Catch::Contains("not one of lethe's"));
}

TEST_CASE("is_due tells whether make_room would examine a layer, and changes nothing") {
  lethe::policies::Lethe pruner({.layers = 2, .capacity = 40, .round_interval = 4},
                                {.first_threshold = 20});
  naive::TokenCache<naive::plain> cache(2, 1);
  naive::Random random(7);
  std::size_t rounds = 0;
  for (std::uint32_t token = 0; token < 90; ++token) {
    const auto before = pruner.save();
    const bool is_due = pruner.is_due(cache, 1);
    REQUIRE(pruner.save() == before);
    std::size_t examined = 0;
    pruner.make_room(cache, 1, [&](const lethe::RoundStatistics&) { ++examined; });
    INFO("token " << token);
    REQUIRE(is_due == (examined > 0));
    rounds += is_due ? 1 : 0;
    for (std::size_t l = 0; l < 2; ++l) {
      const std::size_t n = cache.size(l) + 1;
      std::vector<float> mass(n);
      for (float& each : mass) each = random.unit();
      pruner.observe(l, lethe::Mass<float>{.data = mass.data(), .columns = n});
      cache.append(l, std::vector<std::uint32_t>{token});
    }
    pruner.commit();
  }
  CHECK(rounds > 4);
  CHECK(rounds < 60);
}
