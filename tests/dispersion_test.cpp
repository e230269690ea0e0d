#include "lethe/budget/dispersion.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <deque>
#include <numeric>
#include <span>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "lethe/policies/attention.hpp"
#include "samples.hpp"

namespace {

using lethe::DispersionBudget;

double weight_of(const DispersionBudget& budget, double entropy, double variance) {
  return budget.weight({.window = {.entropy = entropy, .variance = variance}});
}

/// P / sum P x total, nothing above `most` or below `least`: what that takes or gives, the others
/// share in proportion.
std::vector<double> naive_shares(const std::vector<double>& weights, double total, double least,
                                 double most) {
  double low = 0;
  double high = 1e12;
  const auto shares = [&](double level) {
    std::vector<double> found;
    for (const double weight : weights) found.push_back(std::clamp(level * weight, least, most));
    return found;
  };
  for (int i = 0; i < 200; ++i) {
    const double middle = (low + high) / 2;
    const std::vector<double> found = shares(middle);
    (std::accumulate(found.begin(), found.end(), 0.0) < total ? low : high) = middle;
  }
  return shares(low);
}

constexpr std::size_t layer_count = 4, groups = 2, group_heads = 3, window = 8;

/// Token ids of each layer, and the rows that the last queries paid.
struct Run {
  struct Cache {
    std::vector<std::vector<lethe::Position>> tokens{layer_count};
    std::size_t layers() const { return tokens.size(); }
    std::size_t size(std::size_t layer) const { return tokens[layer].size(); }
    void apply(std::span<const lethe::EvictionPlan> plans) {
      for (const auto& plan : plans) {
        std::vector<lethe::Position> kept;
        for (const lethe::Slot slot : plan.kept) kept.push_back(tokens[plan.layer][slot]);
        tokens[plan.layer] = kept;
      }
    }
  };

  explicit Run(const lethe::CAKEConfig& config)
      : pruner({.layers = layer_count, .capacity = 400, .groups = groups}, config) {}

  /// Layers differ by how many tokens they look at, and how steadily.
  void append() {
    const auto position = static_cast<lethe::Position>(pruner.tokens_seen());
    for (std::size_t layer = 0; layer < layer_count; ++layer) {
      cache.tokens[layer].push_back(position);
      const std::size_t n = cache.size(layer);
      std::vector<float> mass(groups * n);
      for (std::size_t i = 0; i < mass.size(); ++i) {
        const bool is_seen = samples.below(layer + 1) == 0;
        mass[i] = is_seen ? samples.uniform() / static_cast<float>(n) : 0.0f;
      }
      rows[layer].push_back(std::vector<double>(groups * (position + 1)));
      for (std::size_t g = 0; g < groups; ++g) {
        for (std::size_t i = 0; i < n; ++i) {
          rows[layer].back()[g * (position + 1) + cache.tokens[layer][i]] =
              static_cast<double>(mass[g * n + i]) / group_heads;
        }
      }
      if (rows[layer].size() > window) rows[layer].pop_front();
      pruner.observe(layer,
                     lethe::Mass<float>{.data = mass.data(), .groups = groups, .columns = n});
    }
    pruner.commit();
  }

  /// H^(1/t1) V^(1/t2), groups summed.
  double preference(std::size_t layer, double t1, double t2) const {
    double entropy = 0, variance = 0;
    for (std::size_t g = 0; g < groups; ++g) {
      for (const lethe::Position position : cache.tokens[layer]) {
        if (position + window >= pruner.tokens_seen()) continue;
        std::vector<double> paid;
        for (const auto& row : rows[layer]) {
          const std::size_t width = row.size() / groups;
          paid.push_back(position < width ? row[g * width + position] : 0.0);
        }
        const double mean = std::accumulate(paid.begin(), paid.end(), 0.0) / window;
        if (mean > 0) entropy -= mean * std::log(mean);
        for (const double one : paid) variance += (one - mean) * (one - mean) / (window - 1);
      }
    }
    return std::pow(entropy, 1 / t1) * std::pow(variance, 1 / t2);
  }

  std::vector<std::deque<std::vector<double>>> rows{layer_count};
  Samples samples{17};
  Cache cache;
  lethe::policies::CAKE pruner;
};

/// The layers' tokens before each round and after it are as P says.
std::size_t check_rounds(double t1, double t2, std::size_t total) {
  Run run({.heads = groups * group_heads,
           .total = total,
           .window = window,
           .entropy_temperature = t1,
           .variance_temperature = t2});
  std::size_t rounds = 0;
  for (int step = 0; step < 500; ++step) {
    std::vector<double> weights;
    std::size_t before = 0;
    for (std::size_t layer = 0; layer < layer_count; ++layer) {
      weights.push_back(run.preference(layer, t1, t2));
      before = std::max(before, run.cache.size(layer));
    }
    std::vector<double> room;
    for (std::size_t layer = 0; layer < layer_count; ++layer) {
      room.push_back(static_cast<double>(run.cache.size(layer)));
    }
    if (run.pruner.make_room(run.cache, 1) != 0) {
      ++rounds;
      // The first round finds all layers alike: the shares are P's alone.
      const auto wanted = naive_shares(weights, double(total), window, room[0]);
      std::size_t sum = 0;
      for (std::size_t layer = 0; layer < layer_count; ++layer) {
        sum += run.cache.size(layer);
        if (rounds == 1) {
          CAPTURE(layer, t1, t2);
          CHECK_THAT(double(run.cache.size(layer)), WithinAbs(wanted[layer], 1.01));
        }
      }
      CHECK(sum == total);
    }
    run.append();
  }
  return rounds;
}

}  // namespace

TEST_CASE("a layer's weight is its entropy and variance, each to its power") {
  Samples samples(2);
  for (const double t1 : {0.4, 1.0, 2.3}) {
    for (const double t2 : {0.5, 1.0, 2.0}) {
      const DispersionBudget budget(
          {.total = 1, .entropy_temperature = t1, .variance_temperature = t2});
      for (int i = 0; i < 50; ++i) {
        const double entropy = static_cast<double>(samples.between(0.01f, 8.0f));
        const double variance = static_cast<double>(samples.between(0.001f, 3.0f));
        CHECK_THAT(weight_of(budget, entropy, variance),
                   WithinRel(std::pow(entropy, 1 / t1) * std::pow(variance, 1 / t2), 1e-5));
      }
    }
  }
}

TEST_CASE("a layer of which nothing is known has a small claim") {
  const DispersionBudget budget({.total = 10});
  for (const double weight : {weight_of(budget, 0, 0), weight_of(budget, -1, 0)}) {
    CHECK(weight > 0);
    CHECK(weight < 1e-12);
  }
}

TEST_CASE("a round shares CAKE's total by the window's entropy and variance") {
  CHECK(check_rounds(1.0, 1.0, 300) > 4);
  CHECK(check_rounds(1.6, 0.6, 300) > 4);
  CHECK(check_rounds(0.5, 2.0, 200) > 4);
}

TEST_CASE("CAKE's settings that cannot be are refused by name") {
  const lethe::PrunerConfig config{.layers = 2, .capacity = 64, .groups = 2};
  using lethe::policies::CAKE;
  CHECK_THROWS_WITH(CAKE(config, {.total = 50}), Catch::Contains("heads = 0"));
  CHECK_THROWS_WITH(CAKE(config, {.heads = 3, .total = 50}), Catch::Contains("heads = 3"));
  CHECK_THROWS_WITH(CAKE(config, {.heads = 4}), Catch::Contains("total = 0"));
  CHECK_THROWS_WITH(DispersionBudget({.total = 1, .entropy_temperature = 0}),
                    Catch::Contains("entropy_temperature = 0"));
  CHECK_THROWS_WITH(DispersionBudget({.total = 1, .variance_temperature = -1}),
                    Catch::Contains("variance_temperature = -1"));
  CHECK_THROWS_AS(CAKE(config, {.total = 50}), std::invalid_argument);
}
