/// A fixed total, shared so that layers with dense attention get more.
#pragma once

#include <algorithm>

#include "lethe/budget/total.hpp"

namespace lethe {

/// A total shared in inverse proportion to each layer's Hoyer sparsity, the sum kept exactly by
/// largest remainder. An addition to Lethe for a fixed total of memory, not part of the paper.
class HoyerBudget : public TotalBudget {
 public:
  /// Throws std::invalid_argument when total is 0.
  explicit HoyerBudget(const Config& config) : TotalBudget(config) {}

  [[nodiscard]] double weight(const LayerScores& layer) const {
    // A layer below a sparsity of 1% gets no more than 100 times the sparsest one's share.
    return 1.0 / std::max(hoyer_sparsity(layer.summary), 0.01);
  }
};
static_assert(GlobalBudgetAllocator<HoyerBudget>);

}  // namespace lethe
