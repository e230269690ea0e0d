/// A fixed total, shared so that layers with dense attention get more.
#pragma once

#include <algorithm>
#include <cstddef>

#include "lethe/budget.hpp"

namespace lethe {

/// Settings of HoyerBudget.
struct HoyerBudgetConfig {
  /// Tokens over all layers at a round, protected ones included.
  std::size_t total = 0;

  bool operator==(const HoyerBudgetConfig&) const = default;
};

/// A total shared in inverse proportion to each layer's Hoyer sparsity, the sum kept exactly by
/// largest remainder. An addition to Lethe for a fixed total of memory, not part of the paper.
class HoyerBudget {
 public:
  using Config = HoyerBudgetConfig;
  /// Throws std::invalid_argument when total is 0.
  explicit HoyerBudget(const Config& config) : config_(config) {
    detail::require(config.total >= 1, "total", config.total,
                    "choose the tokens to keep over all layers");
  }

  [[nodiscard]] std::size_t total() const { return config_.total; }
  [[nodiscard]] Budget budget(const LayerScores& layer) const {
    return {.tokens = config_.total / layer.layers};
  }
  [[nodiscard]] double weight(const LayerScores& layer) const {
    // A layer below a sparsity of 1% gets no more than 100 times the sparsest one's share.
    return 1.0 / std::max(hoyer_sparsity(layer.summary), 0.01);
  }

 private:
  Config config_;
};
static_assert(GlobalBudgetAllocator<HoyerBudget>);

}  // namespace lethe
