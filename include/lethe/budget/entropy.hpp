/// A fixed total, shared so that layers whose scores are spread over more tokens get more. LAVa.
#pragma once

#include <algorithm>
#include <span>

#include "lethe/budget/total.hpp"
#include "lethe/exact_log.hpp"

namespace lethe {

namespace detail {

/// normalised_entropy with the same bits on every compiler, error below 1e-5.
/// sum: of the scores. O(n).
[[nodiscard]] LETHE_EXACT inline double exact_entropy(std::span<const float> scores, double sum) {
  LETHE_EXACT_BODY
  if (scores.size() <= 1 || !(sum > 0)) return 0;
  const double factor = 1.0 / sum;
  double entropy = 0;
  for (const float score : scores) {
    const auto share = static_cast<float>(static_cast<double>(score) * factor);
    // What is smaller adds nothing that a float would show.
    if (!(share > 0x1p-60f)) continue;
    const float term = LETHE_PRODUCT(share, exact_log(share));
    entropy = entropy - static_cast<double>(term);
  }
  const auto most = static_cast<double>(exact_log(static_cast<float>(scores.size())));
  return std::clamp(entropy / most, 0.0, 1.0);
}

}  // namespace detail

/// A total shared in proportion to the entropy of each layer's normalised scores over the logarithm
/// of its tokens (LAVa, arXiv 2509.09754), the sum kept exactly by largest remainder. Heads that
/// are scored together count as one. scores: not negative.
class EntropyBudget : public TotalBudget {
 public:
  /// Throws std::invalid_argument when total is 0.
  explicit EntropyBudget(const Config& config) : TotalBudget(config) {}

  /// From 0.01 to 1. O(n).
  [[nodiscard]] double weight(const LayerScores& layer) const {
    // A layer whose mass lies on one token, or that has none, still has a claim.
    return std::max(detail::exact_entropy(layer.scores, layer.summary.sum), 0.01);
  }
};
static_assert(GlobalBudgetAllocator<EntropyBudget>);

}  // namespace lethe
