/// Fewer tokens the higher the layer. PyramidKV.
#pragma once

#include <cstddef>

#include "lethe/budget.hpp"

namespace lethe {

/// Settings of PyramidBudget.
struct PyramidBudgetConfig {
  /// Mean tokens a layer, protected ones included.
  std::size_t budget = 1024;
  /// Steepness: the top layer gets 1 / beta of the mean share (PyramidKV's code: 20).
  std::size_t beta = 20;
  /// Tokens every layer has before the rest is shared; when the top layer's share of the rest is
  /// smaller than this, all layers get the mean (the observation window, 32).
  std::size_t window = 32;

  bool operator==(const PyramidBudgetConfig&) const = default;
};

namespace detail {

/// high - layer x (high - low) / (layers - 1), to the nearest whole number, halves up; at least 2
/// layers.
[[nodiscard]] LETHE_HOST_DEVICE constexpr std::size_t pyramid_share(std::size_t layer,
                                                                    std::size_t layers,
                                                                    std::size_t low,
                                                                    std::size_t high) {
  const std::size_t steps = layers - 1;
  const std::size_t twice = 2 * (high * steps - layer * (high - low));
  return (twice + steps) / (2 * steps);
}

/// What PyramidBudget gives one of `layers` layers that holds so many tokens.
[[nodiscard]] LETHE_HOST_DEVICE constexpr std::size_t pyramid_tokens(
    const PyramidBudgetConfig& config, std::size_t layer, std::size_t layers, std::size_t tokens) {
  const std::size_t mean = config.budget < config.window ? 0 : config.budget - config.window;
  const std::size_t room = tokens < config.window ? 0 : tokens - config.window;
  std::size_t low = mean / config.beta;
  std::size_t high = 2 * mean - low;
  if (high >= room) {
    high = room;
    low = 2 * mean < high ? 0 : 2 * mean - high;
  }
  const bool slopes = high >= low && low >= config.window;
  if (!slopes || layers < 2 || mean == 0) return config.budget;
  return config.window + pyramid_share(layer, layers, low, high);
}

}  // namespace detail

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
    return {.tokens =
                detail::pyramid_tokens(config_, layer.layer, layer.layers, layer.scores.size())};
  }

 private:
  Config config_;
};
static_assert(BudgetAllocator<PyramidBudget>);

}  // namespace lethe
