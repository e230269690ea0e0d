#include "lethe/budget/entropy.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/rasr.hpp"
#include "samples.hpp"

namespace {

lethe::LayerScores layer_of(const std::vector<float>& scores) {
  return {.scores = scores, .summary = lethe::summarise(scores)};
}

double weight_of(const std::vector<float>& scores) {
  return lethe::EntropyBudget({.total = 1}).weight(layer_of(scores));
}

double naive_entropy(const std::vector<float>& scores) {
  double total = 0;
  for (const float score : scores) total += static_cast<double>(score);
  double entropy = 0;
  for (const float score : scores) {
    const double p = static_cast<double>(score) / total;
    if (p > 0) entropy -= p * std::log(p);
  }
  return entropy / std::log(static_cast<double>(scores.size()));
}

/// Shares in proportion, cut to whole tokens; the rest by largest remainder.
std::vector<std::size_t> naive_shares(const std::vector<double>& weights, std::size_t total) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<std::size_t> tokens;
  std::vector<std::pair<double, std::size_t>> remainders;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double share = static_cast<double>(total) * weights[i] / sum;
    tokens.push_back(static_cast<std::size_t>(share + 1e-9));
    remainders.emplace_back(static_cast<double>(tokens[i]) - share, i);
  }
  std::sort(remainders.begin(), remainders.end());
  const std::size_t given = std::accumulate(tokens.begin(), tokens.end(), std::size_t{0});
  for (std::size_t i = 0; i < total - given; ++i) ++tokens[remainders[i].second];
  return tokens;
}

}  // namespace

TEST_CASE("weights are normalised entropies") {
  Samples samples(82);
  for (int trace = 0; trace < 500; ++trace) {
    const std::vector<float> scores = samples.mass(2 + samples.below(3000));
    REQUIRE_THAT(weight_of(scores), WithinAbs(naive_entropy(scores), 1e-5));
  }
  CHECK_THAT(weight_of(std::vector<float>(300, 0.7f)), WithinAbs(1, 1e-6));
  CHECK_THAT(weight_of({1, 1, 0, 0}), WithinAbs(0.5, 1e-6));
  CHECK_THAT(weight_of({1e-30f, 1e-30f, 3e-30f}), WithinAbs(naive_entropy({1, 1, 3}), 1e-6));
}

TEST_CASE("layers without spread keep a claim") {
  CHECK(weight_of({0, 5, 0}) == 0.01);
  CHECK(weight_of({0, 0}) == 0.01);
  CHECK(weight_of({5}) == 0.01);
  CHECK(weight_of({}) == 0.01);
}

TEST_CASE("a total is shared as its formula says, to the last token") {
  Samples samples(83);
  int different = 0;
  for (int trace = 0; trace < 300; ++trace) {
    const lethe::EntropyBudget allocator({.total = 50 + samples.below(3000)});
    std::vector<lethe::Claim> claims(1 + samples.below(32));
    std::vector<double> weights;
    for (lethe::Claim& claim : claims) {
      const std::vector<float> scores = samples.mass(20 + samples.below(200));
      weights.push_back(naive_entropy(scores));
      claim = {.weight = allocator.weight(layer_of(scores)), .ceiling = 100000};
    }
    lethe::share_total(claims, allocator.total());
    const std::vector<std::size_t> expected = naive_shares(weights, allocator.total());
    std::size_t sum = 0;
    for (std::size_t i = 0; i < claims.size(); ++i) {
      sum += claims[i].tokens;
      const std::size_t more = std::max(claims[i].tokens, expected[i]);
      REQUIRE(more - std::min(claims[i].tokens, expected[i]) <= 1);
      different += claims[i].tokens != expected[i] ? 1 : 0;
    }
    REQUIRE(sum == allocator.total());
  }
  CHECK(different < 10);  // claims that differ by less than the logarithm's error
}

TEST_CASE("the sum is exact within every layer's clamps") {
  Samples samples(84);
  for (int trace = 0; trace < 300; ++trace) {
    const lethe::EntropyBudget allocator({.total = 50 + samples.below(3000)});
    std::vector<lethe::Claim> claims(1 + samples.below(32));
    std::size_t floors = 0;
    std::size_t ceilings = 0;
    for (lethe::Claim& claim : claims) {
      const std::vector<float> scores = samples.mass(20 + samples.below(200));
      claim = {.weight = allocator.weight(layer_of(scores)),
               .floor = samples.below(20),
               .ceiling = scores.size()};
      floors += claim.floor;
      ceilings += claim.ceiling;
    }
    lethe::share_total(claims, allocator.total());
    std::size_t sum = 0;
    for (const lethe::Claim& claim : claims) {
      REQUIRE(claim.tokens >= claim.floor);
      REQUIRE(claim.tokens <= claim.ceiling);
      sum += claim.tokens;
    }
    REQUIRE(sum == std::max(floors, std::min(allocator.total(), ceilings)));
  }
}

namespace {

/// A cache that only counts.
struct Counts {
  std::vector<std::size_t> sizes;
  std::size_t layers() const { return sizes.size(); }
  std::size_t size(std::size_t layer) const { return sizes[layer]; }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    for (const auto& plan : plans) sizes[plan.layer] = plan.kept.size();
  }
};

}  // namespace

TEST_CASE("a pruner holds the total, spread-out layers the larger part of it") {
  lethe::Pruner<lethe::Rasr, lethe::EntropyBudget> pruner({.layers = 3, .capacity = 256},
                                                          {.retention = {.first_tokens = 0}},
                                                          {.decay = 1.0f}, {.total = 120});
  Counts cache{{0, 0, 0}};
  for (int step = 0; step < 300; ++step) {
    pruner.make_room(cache, 1);
    for (std::size_t layer = 0; layer < 3; ++layer) {
      std::vector<float> mass(++cache.sizes[layer], 0.001f);
      const std::size_t every = layer == 0 ? 1 : layer == 1 ? 8 : 64;
      for (std::size_t i = 0; i < mass.size(); i += every) mass[i] = 1.0f;
      pruner.observe(layer, lethe::Mass<float>{.data = mass.data(), .columns = mass.size()});
    }
    pruner.commit();
    if (step < 100) continue;
    CHECK(cache.sizes[0] + cache.sizes[1] + cache.sizes[2] < 139);
    CHECK(cache.sizes[0] > cache.sizes[1]);
    CHECK(cache.sizes[1] > cache.sizes[2]);
  }
}

TEST_CASE("a layer alone would get the mean of the total, and no total is refused by name") {
  CHECK(lethe::EntropyBudget({.total = 100}).total() == 100);
  CHECK(lethe::EntropyBudget({.total = 100}).budget({.layers = 4}).tokens == 25);
  CHECK_THROWS_WITH(lethe::EntropyBudget({}), Catch::Contains("total = 0"));
  CHECK_THROWS_AS(lethe::EntropyBudget({}), std::invalid_argument);
}
