/// What budgets have in common that share one total over layers.
#pragma once

#include <cstddef>

#include "lethe/budget.hpp"

namespace lethe {

/// Settings of a budget that shares a total.
struct TotalBudgetConfig {
  /// Tokens over all layers at a round, protected ones included.
  std::size_t total = 0;

  bool operator==(const TotalBudgetConfig&) const = default;
};

/// A total of tokens; what derives from it adds each layer's weight.
class TotalBudget {
 public:
  using Config = TotalBudgetConfig;

  [[nodiscard]] std::size_t total() const { return config_.total; }
  /// What a layer would get if all weighed the same: the mean.
  [[nodiscard]] Budget budget(const LayerScores& layer) const {
    return {.tokens = config_.total / layer.layers};
  }

 protected:
  /// Throws std::invalid_argument when total is 0.
  explicit TotalBudget(const Config& config) : config_(config) {
    detail::require(config.total >= 1, "total", config.total,
                    "choose the tokens to keep over all layers");
  }

 private:
  Config config_;
};

}  // namespace lethe
