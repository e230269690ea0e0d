/// Fewer tokens the higher the layer. PyramidKV.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "lethe/budget.hpp"

namespace lethe {

/// Settings of PyramidBudget.
struct PyramidBudgetConfig {
  /// Mean tokens a layer, protected ones included.
  std::size_t budget = 1024;
  /// Steepness: the top layer gets budget / beta (PyramidKV's code: 20).
  std::size_t beta = 20;
  /// No layer below this many tokens, else all get the mean (the observation window, 32).
  std::size_t window = 32;

  bool operator==(const PyramidBudgetConfig&) const = default;
};

/// A budget that falls linearly from the first layer to the last, its mean unchanged (PyramidKV,
/// arXiv 2406.02069, as its published code computes it).
class PyramidBudget {
 public:
  using Config = PyramidBudgetConfig;
  /// Throws std::invalid_argument when beta or budget is 0.
  explicit PyramidBudget(const Config& config) : config_(config) {
    detail::require(config.budget >= 1, "budget", config.budget, "choose at least 1 token");
    detail::require(config.beta >= 1, "beta", config.beta, "choose at least 1");
  }

  [[nodiscard]] Budget budget(const LayerScores& layer) const {
    const std::size_t tokens = layer.scores.size();
    std::size_t low = config_.budget / config_.beta;
    std::size_t high = 2 * config_.budget - low;
    const std::size_t room = tokens - std::min(tokens, config_.window);
    if (high >= room) {
      high = room;
      low = 2 * config_.budget - std::min(2 * config_.budget, high);
    }
    const bool slopes = tokens >= high && high >= low && low >= config_.window;
    if (!slopes || layer.layers < 2) return {.tokens = config_.budget};
    const double step = static_cast<double>(high - low) / static_cast<double>(layer.layers - 1);
    const double share = static_cast<double>(high) - static_cast<double>(layer.layer) * step;
    return {.tokens = static_cast<std::size_t>(std::llround(share))};
  }

 private:
  Config config_;
};
static_assert(BudgetAllocator<PyramidBudget>);

}  // namespace lethe
