/// A budget that grows as the scorer finds that more is needed. GrowPage.
#pragma once

#include <cstddef>

#include "lethe/budget.hpp"

namespace lethe {

/// Settings of GrowingBudget.
struct GrowingBudgetConfig {
  /// Tokens a layer keeps at first, protected ones included; must be given.
  std::size_t budget = 0;
  /// Tokens by which it grows; a page of 16, as Blocks'.
  std::size_t step = 16;

  bool operator==(const GrowingBudgetConfig&) const = default;
};

/// A number of tokens that grows by a step with each round that found the layer to need more
/// (GrowthScorer), up to the limit, and never shrinks (GrowPage, arXiv 2609.03494).
class GrowingBudget {
 public:
  using Config = GrowingBudgetConfig;
  static constexpr bool reads_growth = true;

  /// Throws std::invalid_argument when budget or step is 0, or above 2^31.
  explicit GrowingBudget(const Config& config) : config_(config) {
    const std::size_t most = std::size_t{1} << 31;
    detail::require(config.budget >= 1 && config.budget <= most, "budget", config.budget,
                    "choose from 1 to 2^31 tokens");
    detail::require(config.step >= 1 && config.step <= most, "step", config.step,
                    "choose from 1 to 2^31 tokens");
  }

  /// O(1).
  [[nodiscard]] Budget budget(const LayerScores& layer) const {
    return {.tokens = config_.budget + layer.growth * config_.step};
  }

 private:
  Config config_;
};
static_assert(BudgetAllocator<GrowingBudget>);

}  // namespace lethe
