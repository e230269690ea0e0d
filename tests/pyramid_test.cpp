#include "lethe/budget/pyramid.hpp"

#include <cmath>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"

namespace {

std::vector<std::size_t> budgets(const lethe::PyramidBudgetConfig& config, std::size_t layers,
                                 std::size_t tokens) {
  const lethe::PyramidBudget pyramid(config);
  const std::vector<float> scores(tokens, 0.0f);
  std::vector<std::size_t> found;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    found.push_back(pyramid.budget({.layer = layer, .layers = layers, .scores = scores}).tokens);
  }
  return found;
}

/// PyramidKV's published rule: cap = window + B; the window comes on top of each layer's share.
std::vector<std::size_t> naive(double cap, double beta, double window, std::size_t layers,
                               double n) {
  double low = std::floor((cap - window) / beta);
  double high = 2 * (cap - window) - low;
  if (high >= n - window) {
    high = n - window;
    low = 2 * (cap - window) - high;
  }
  const bool slopes = n >= high && high >= low && low >= window;
  std::vector<std::size_t> tokens;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    const double step = (high - low) / static_cast<double>(layers - 1);
    const double share = std::round(high - static_cast<double>(layer) * step + 1e-9) + window;
    tokens.push_back(static_cast<std::size_t>(slopes ? share : cap));
  }
  return tokens;
}

}  // namespace

TEST_CASE("the pyramid is the published formula") {
  for (const std::size_t cap : {100u, 256u, 1024u, 2048u}) {
    for (const std::size_t tokens : {64u, 130u, 300u, 1100u, 2000u, 2080u, 9000u}) {
      for (const std::size_t layers : {2u, 3u, 30u}) {
        for (const std::size_t window : {8u, 32u}) {
          CHECK(budgets({.budget = cap, .beta = 20, .window = window}, layers, tokens) ==
                naive(static_cast<double>(cap), 20, static_cast<double>(window), layers,
                      static_cast<double>(tokens)));
        }
      }
    }
  }
}

TEST_CASE("the budget is the mean, and the top layer gets least") {
  const std::vector<std::size_t> found = budgets({.budget = 1024}, 32, 8000);
  double sum = 0;
  for (std::size_t layer = 0; layer < found.size(); ++layer) {
    sum += static_cast<double>(found[layer]);
    if (layer != 0) CHECK(found[layer] < found[layer - 1]);
  }
  CHECK_THAT(sum / 32, WithinAbs(1024, 0.5));
  CHECK(found.back() == 32 + 992 / 20);
}

TEST_CASE("one layer, a small budget and a short text get the mean") {
  CHECK(budgets({.budget = 100}, 1, 5000) == std::vector<std::size_t>{100});
  CHECK(budgets({.budget = 20, .window = 32}, 4, 5000) == std::vector<std::size_t>(4, 20));
  CHECK(budgets({.budget = 1024}, 4, 10) == std::vector<std::size_t>(4, 1024));
}

TEST_CASE("settings of the pyramid that cannot be are refused by name") {
  CHECK_THROWS_WITH(lethe::PyramidBudget({.budget = 0}), Catch::Contains("budget = 0"));
  CHECK_THROWS_WITH(lethe::PyramidBudget({.beta = 0}), Catch::Contains("beta = 0"));
  CHECK_THROWS_AS(lethe::PyramidBudget({.beta = 0}), std::invalid_argument);
}
