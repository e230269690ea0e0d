#include "lethe/budget/hoyer.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/rasr.hpp"
#include "samples.hpp"

namespace {

lethe::LayerScores layer_of(const std::vector<float>& scores) {
  return {.scores = scores, .summary = lethe::summarise(scores)};
}

}  // namespace

TEST_CASE("weights are the inverse of sparsity, bounded for dense layers") {
  const lethe::HoyerBudget allocator({.total = 100});
  const std::vector<float> one{0, 1, 0, 0};
  const std::vector<float> even(4, 1.0f);
  const std::vector<float> between{1, 2, 3, 9};
  CHECK_THAT(allocator.weight(layer_of(one)), WithinAbs(1, 1e-9));
  CHECK_THAT(allocator.weight(layer_of(even)), WithinAbs(100, 1e-9));
  const double sparsity = (2 - 15 / std::sqrt(95.0)) / (2 - 1);
  CHECK_THAT(allocator.weight(layer_of(between)), WithinRel(1 / sparsity, 1e-9));
}

TEST_CASE("a total is shared exactly, within every layer's clamps, dense layers first") {
  Samples samples(51);
  for (int trace = 0; trace < 300; ++trace) {
    const lethe::HoyerBudget allocator({.total = 50 + samples.below(3000)});
    std::vector<lethe::Claim> claims(1 + samples.below(32));
    for (lethe::Claim& claim : claims) {
      const std::vector<float> scores = samples.mass(20 + samples.below(200));
      claim = {.weight = allocator.weight(layer_of(scores)),
               .floor = samples.below(20),
               .ceiling = scores.size()};
    }
    lethe::share_total(claims, allocator.total());
    std::size_t sum = 0;
    std::size_t floors = 0;
    std::size_t ceilings = 0;
    for (const lethe::Claim& claim : claims) {
      REQUIRE(claim.tokens >= claim.floor);
      REQUIRE(claim.tokens <= claim.ceiling);
      sum += claim.tokens;
      floors += claim.floor;
      ceilings += claim.ceiling;
    }
    REQUIRE(sum == std::max(floors, std::min(allocator.total(), ceilings)));
  }
}

TEST_CASE("a layer alone would get the mean") {
  CHECK(lethe::HoyerBudget({.total = 100}).budget({.layers = 4}).tokens == 25);
}

TEST_CASE("a total of nothing is refused by name") {
  CHECK_THROWS_WITH(lethe::HoyerBudget({}), Catch::Contains("total = 0"));
  CHECK_THROWS_AS(lethe::HoyerBudget({}), std::invalid_argument);
}

namespace {

/// A cache that only counts.
struct Counts {
  std::vector<std::size_t> sizes;
  std::size_t layers() const { return sizes.size(); }
  std::size_t size(std::size_t layer) const { return sizes[layer]; }
  std::size_t heads(std::size_t) const { return 2; }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    for (const auto& plan : plans) sizes[plan.layer] = plan.kept.size();
  }
};

/// Feeds 200 tokens whose rows[layer](head, slot) is their mass; returns the largest total held.
template <class Row, class Trace = lethe::NoTrace>
std::size_t most_held(const lethe::PrunerConfig& config, Counts& cache, std::size_t total,
                      Row&& row, std::size_t recent = 0, Trace&& trace = {}) {
  lethe::Pruner<lethe::Rasr, lethe::HoyerBudget> pruner(
      config, {.retention = {.first_tokens = 0, .recent_tokens = recent}}, {.decay = 1.0f},
      {.total = total});
  std::size_t most = 0;
  for (int step = 0; step < 200; ++step) {
    pruner.make_room(cache, 1, trace);
    for (std::size_t layer = 0; layer < cache.layers(); ++layer) {
      const std::size_t n = ++cache.sizes[layer];
      std::vector<float> mass(config.groups * n);
      for (std::size_t i = 0; i < mass.size(); ++i) mass[i] = row(layer, i / n, i % n);
      pruner.observe(
          layer, lethe::Mass<float>{.data = mass.data(), .groups = config.groups, .columns = n});
    }
    pruner.commit();
    most = std::max(most, std::accumulate(cache.sizes.begin(), cache.sizes.end(), std::size_t{0}));
  }
  return most;
}

}  // namespace

TEST_CASE("a layer's share does not depend on the order of its heads") {
  const lethe::PrunerConfig config{
      .layers = 2, .capacity = 256, .groups = 2, .scope = lethe::Scope::head};
  const auto held = [&](std::size_t sparse_head) {
    Counts cache{{0, 0}};
    most_held(config, cache, 100, [&](std::size_t layer, std::size_t head, std::size_t slot) {
      if (layer == 1) return slot % 4 == 0 ? 1.5f : 0.5f;
      return head != sparse_head || slot == 0 ? 1.0f : 1e-4f;
    });
    return cache.sizes;
  };
  CHECK(held(0) == held(1));
}

TEST_CASE("a loose cap leaves the budget's own total in force") {
  for (const std::size_t cap : {std::size_t{0}, std::size_t{400}}) {
    Counts cache{{0, 0}};
    const std::size_t most = most_held(
        {.layers = 2, .capacity = 256, .total_capacity = cap}, cache, 100,
        [](std::size_t, std::size_t, std::size_t slot) { return slot % 3 == 0 ? 1.0f : 0.1f; });
    CHECK(most < 116);
  }
}

TEST_CASE("a layer whose share is above the mean keeps all its recents") {
  Counts cache{{0, 0}};
  std::size_t rounds = 0;
  most_held(
      {.layers = 2, .capacity = 256}, cache, 60,
      [](std::size_t layer, std::size_t, std::size_t slot) {
        return layer == 0 || slot == 0 ? 1.0f : 0.001f;
      },
      40,
      [&](const lethe::RoundStatistics& round) {
        if (round.layer != 0) return;
        rounds += round.tokens_after > 40 ? 1u : 0u;
        CHECK(round.tokens_protected == std::min<std::size_t>(40, round.tokens_after));
      });
  CHECK(rounds > 3);
}

TEST_CASE("a total that first tokens fill is refused") {
  using Global = lethe::Pruner<lethe::Rasr, lethe::HoyerBudget>;
  const auto make = [](std::size_t total) {
    return Global({.layers = 4, .capacity = 64}, {}, {}, {.total = total});
  };
  CHECK_THROWS_WITH(make(16), Catch::Contains("total = 16"));
  CHECK(make(17).bound(0) == 64);
}
