#include "lethe/trace.hpp"

#include <cmath>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "lethe/policies.hpp"
#include "samples.hpp"

namespace {

using lethe::Outcome;
using lethe::RoundStatistics;

static_assert(lethe::TraceReceiver<lethe::NoTrace>);
static_assert(!lethe::TraceReceiver<int>);
static_assert(!lethe::TraceReceiver<void (*)(int*)>);

struct Cache {
  std::vector<std::size_t> sizes;
  std::vector<lethe::LayerState> states = std::vector<lethe::LayerState>(sizes.size());
  std::size_t applied = 0;

  std::size_t layers() const { return sizes.size(); }
  std::size_t size(std::size_t layer) const { return sizes[layer]; }
  lethe::LayerState state(std::size_t layer) const { return states[layer]; }
  std::size_t token_bytes(std::size_t) const { return 100; }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    ++applied;
    for (const lethe::EvictionPlan& plan : plans) sizes[plan.layer] = plan.kept.size();
  }
};

/// Falls off steeply: one token holds most, and the others less the later they come.
std::vector<float> steep(std::size_t tokens) {
  std::vector<float> row(tokens);
  for (std::size_t i = 0; i < tokens; ++i) row[i] = std::ldexp(1.0f, -static_cast<int>(i % 16));
  return row;
}

std::vector<float> flat(std::size_t tokens) { return std::vector<float>(tokens, 0.5f); }

/// One step of one token; `rows` gives each layer's attention.
template <class Pruner, class Rows>
std::vector<RoundStatistics> step(Pruner& pruner, Cache& cache, Rows&& rows) {
  std::vector<RoundStatistics> trace;
  pruner.make_room(cache, 1, [&](const RoundStatistics& round) { trace.push_back(round); });
  for (std::size_t layer = 0; layer < cache.layers(); ++layer) {
    const std::vector<float> row = rows(layer, ++cache.sizes[layer]);
    pruner.observe(layer, lethe::Mass<float>{.data = row.data(), .columns = row.size()});
  }
  pruner.commit();
  return trace;
}

/// Steps until some layer is examined.
template <class Pruner, class Rows>
std::vector<RoundStatistics> next_round(Pruner& pruner, Cache& cache, Rows&& rows) {
  for (int i = 0; i < 5000; ++i) {
    const auto trace = step(pruner, cache, rows);
    if (!trace.empty()) return trace;
  }
  return {};
}

const auto all_steep = [](std::size_t, std::size_t tokens) { return steep(tokens); };
const auto all_flat = [](std::size_t, std::size_t tokens) { return flat(tokens); };

}  // namespace

TEST_CASE("every outcome has a name of its own") {
  std::set<std::string> names;
  for (const Outcome outcome :
       {Outcome::pruned, Outcome::spread_out, Outcome::nothing_to_drop, Outcome::non_finite,
        Outcome::guarded, Outcome::busy, Outcome::postponed}) {
    names.insert(lethe::name(outcome));
  }
  CHECK(names.size() == 7);
  CHECK(names.count("unknown") == 0);
}

TEST_CASE("a round tells layer, tokens, sparsity, breakpoint, threshold and loss") {
  lethe::policies::Lethe pruner({.layers = 1, .capacity = 400}, {.decay = 1.0f,
                                                                 .sparsity_ratio = 4,
                                                                 .recent_ratio = 0.25f,
                                                                 .segments = 8,
                                                                 .first_threshold = 64});
  Cache cache{.sizes = {0}};
  const auto trace = next_round(pruner, cache, all_steep);
  REQUIRE(trace.size() == 1);
  const RoundStatistics& round = trace[0];
  CHECK(round.layer == 0);
  CHECK(round.outcome == Outcome::pruned);
  CHECK(round.tokens_seen == 64);
  CHECK(round.tokens_before == 64);
  CHECK(round.tokens_protected == 4 + 16);
  CHECK(round.tokens_after < 64);
  CHECK(round.tokens_after >= 20);
  CHECK(cache.sizes[0] == round.tokens_after + 1);
  CHECK(round.breakpoint % 8 == 0);
  CHECK(round.breakpoint > 0);
  CHECK(round.sparsity > 0.1);
  CHECK(round.sparsity < 1);
  CHECK(round.threshold == 64);
  CHECK(round.lost_mass > 0);
  CHECK(round.lost_mass < 1);
  CHECK(round.plan_seconds > 0);
  CHECK(round.apply_seconds > 0);
}

TEST_CASE("the loss and the sparsity are those of the scores before the round") {
  lethe::policies::H2O pruner({.layers = 1, .capacity = 16}, {.budget = 8});
  Cache cache{.sizes = {0}};
  std::vector<double> scores(17, 0.0);
  std::vector<RoundStatistics> trace;
  while (trace.empty()) {
    trace = step(pruner, cache, all_steep);
    if (!trace.empty()) break;
    const std::vector<float> row = steep(cache.sizes[0]);
    for (std::size_t i = 0; i < row.size(); ++i) scores[i] += static_cast<double>(row[i]);
  }
  double sum = 0;
  double squares = 0;
  double lost = 0;
  for (std::size_t i = 0; i < 16; ++i) {
    sum += scores[i];
    squares += scores[i] * scores[i];
    // Four by score, four recent: slots 4 to 11 go.
    if (i >= 4 && i < 12) lost += scores[i];
  }
  CHECK_THAT(trace[0].lost_mass, WithinAbs(lost / sum, 1e-6));
  CHECK_THAT(trace[0].sparsity, WithinAbs((4 - sum / std::sqrt(squares)) / 3, 1e-6));
}

TEST_CASE("spread-out attention is left alone, and the trigger doubles up to the bound") {
  lethe::policies::Lethe pruner({.layers = 1, .capacity = 200}, {.first_threshold = 64});
  Cache cache{.sizes = {0}};
  const std::size_t expected[][2] = {{64, 128}, {128, 200}, {200, 200}};
  for (const auto& [length, threshold] : expected) {
    const auto trace = next_round(pruner, cache, all_flat);
    REQUIRE(trace.size() == 1);
    CHECK(trace[0].tokens_before == length);
    CHECK(trace[0].threshold == threshold);
    CHECK(pruner.threshold(0) == threshold);
    CHECK(trace[0].outcome == (length == 200 ? Outcome::pruned : Outcome::spread_out));
  }
  CHECK(cache.applied == 1);
}

TEST_CASE("a pruned layer keeps its threshold and is examined again no sooner than the interval") {
  lethe::policies::Lethe pruner({.layers = 1, .capacity = 400, .round_interval = 20},
                                {.sparsity_ratio = 2, .segments = 8, .first_threshold = 64});
  Cache cache{.sizes = {0}};
  std::size_t last = 0;
  for (int round = 0; round < 5; ++round) {
    const auto trace = next_round(pruner, cache, all_steep);
    REQUIRE(trace.size() == 1);
    CHECK(trace[0].threshold == 64);
    CHECK(trace[0].tokens_before >= 64);
    if (round != 0) CHECK(trace[0].tokens_seen >= last + 20);
    last = trace[0].tokens_seen;
  }
}

TEST_CASE("a layer with scores that are not finite is left alone and reported, the others go on") {
  for (const float bad : {not_a_number, infinity, -infinity}) {
    lethe::policies::Lethe pruner({.layers = 3, .capacity = 100},
                                  {.sparsity_ratio = 2, .segments = 8, .first_threshold = 64});
    Cache cache{.sizes = {0, 0, 0}};
    const auto rows = [&](std::size_t layer, std::size_t tokens) {
      std::vector<float> row = steep(tokens);
      if (layer == 1 && tokens == 10) row[3] = bad;
      return row;
    };
    const auto trace = next_round(pruner, cache, rows);
    REQUIRE(trace.size() == 3);
    for (const RoundStatistics& round : trace) {
      const Outcome expected = round.layer == 1 ? Outcome::non_finite : Outcome::pruned;
      CHECK(round.outcome == expected);
    }
    CHECK(cache.sizes[1] == 65);
    CHECK(cache.sizes[0] < 65);
    CHECK(cache.sizes[2] < 65);
    // It grows to its bound, and no further.
    const auto fill = [&] {
      while (cache.sizes[1] < 100) step(pruner, cache, rows);
    };
    CHECK_NOTHROW(fill());
    CHECK_THROWS_AS(step(pruner, cache, rows), std::length_error);
    CHECK_THROWS_WITH(step(pruner, cache, rows), Catch::Contains("layer 1") &&
                                                     Catch::Contains("bound is 100") &&
                                                     Catch::Contains("non-finite"));
  }
}

TEST_CASE("a busy layer waits, and is refused room at its bound") {
  lethe::policies::H2O pruner({.layers = 2, .capacity = 32});
  Cache cache{.sizes = {0, 0}};
  cache.states[1] = lethe::LayerState::busy;
  while (cache.sizes[1] < 32) step(pruner, cache, all_steep);
  CHECK_THROWS_AS(step(pruner, cache, all_steep), std::length_error);
  CHECK_THROWS_WITH(step(pruner, cache, all_steep), Catch::Contains("it is busy"));
  cache.states[1] = lethe::LayerState::prunable;
  const auto trace = step(pruner, cache, all_steep);
  CHECK(trace.size() >= 1);
  CHECK(cache.sizes[1] == 32 - 4 + 1);
}

TEST_CASE("max_lost_mass keeps more than the budget, and says so") {
  for (const float most : {1.0f, 0.25f}) {
    lethe::policies::H2O pruner({.layers = 1, .capacity = 64, .max_lost_mass = most},
                                {.budget = 8});
    Cache cache{.sizes = {0}};
    const auto trace = next_round(pruner, cache, all_flat);
    REQUIRE(trace.size() == 1);
    CHECK(trace[0].outcome == (most < 1 ? Outcome::guarded : Outcome::pruned));
    CHECK((most < 1) == (trace[0].tokens_after > 8));
    CHECK(trace[0].lost_mass <= static_cast<double>(most));
    CHECK(trace[0].tokens_after < 64);
  }
}

TEST_CASE("max_move_bytes takes layers in turn") {
  lethe::policies::H2O pruner({.layers = 4, .capacity = 64, .max_move_bytes = 6000});
  Cache cache{.sizes = {0, 0, 0, 0}};
  const auto trace = next_round(pruner, cache, all_steep);
  REQUIRE(trace.size() == 4);
  int pruned = 0;
  for (const RoundStatistics& round : trace) {
    CHECK((round.outcome == Outcome::pruned || round.outcome == Outcome::postponed));
    pruned += round.outcome == Outcome::pruned ? 1 : 0;
  }
  CHECK(pruned == 1);
}

TEST_CASE("policies that read no attention report neither sparsity nor loss") {
  lethe::policies::StreamingLLM pruner({.layers = 1, .capacity = 32});
  Cache cache{.sizes = {0}};
  const auto trace = next_round(pruner, cache, all_steep);
  REQUIRE(trace.size() == 1);
  CHECK(trace[0].sparsity == 0);
  CHECK(trace[0].lost_mass == 0);
  CHECK(trace[0].breakpoint == 0);
}
