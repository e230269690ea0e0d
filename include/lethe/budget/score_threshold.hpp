/// As many tokens as reach a threshold. The rule of DMS.
#pragma once

#include <cstddef>

#include "lethe/budget.hpp"

namespace lethe {

/// Settings of ScoreThreshold.
struct ScoreThresholdConfig {
  /// What a token must score to stay, as a share of the mean over the tokens that are not
  /// protected: scores have no scale of their own, and sinks would set the largest. 1 is an even
  /// share. Still to be measured.
  float share = 0.1f;

  bool operator==(const ScoreThresholdConfig&) const = default;
};

/// A token that has left the recent ones stays while its score reaches a threshold (DMS's rule,
/// arXiv 2506.05345, for any score instead of a trained one); a cap takes the worst of those. A
/// layer whose tokens all reach it keeps them, and is examined as soon again. scores: not negative.
class ScoreThreshold {
 public:
  using Config = ScoreThresholdConfig;
  /// Throws std::invalid_argument unless 0 < share <= 1.
  explicit ScoreThreshold(const Config& config) : share_(checked(config.share)) {}

  /// O(n).
  [[nodiscard]] LETHE_EXACT Budget budget(const LayerScores& layer) const {
    LETHE_EXACT_BODY
    double sum = 0;
    std::size_t open = 0;
    for (std::size_t i = 0; i < layer.scores.size(); ++i) {
      if (layer.protection.covers(layer.positions[i])) continue;
      sum = sum + static_cast<double>(layer.scores[i]);
      ++open;
    }
    const double level = sum * share_;
    const auto count = static_cast<double>(open);
    std::size_t kept = layer.scores.size() - open;
    for (std::size_t i = 0; i < layer.scores.size(); ++i) {
      const bool reaches = static_cast<double>(layer.scores[i]) * count >= level;
      kept += reaches && !layer.protection.covers(layer.positions[i]) ? 1u : 0u;
    }
    return {.tokens = kept};
  }

 private:
  [[nodiscard]] static double checked(float share) {
    detail::require(share > 0.0f && share <= 1.0f, "share", share,
                    "choose a share above 0 and at most 1");
    // A float holds 0.1 as a little more: a tenth of the mean must reach it.
    return static_cast<double>(share) * (1 - 1e-7);
  }

  double share_;
};
static_assert(BudgetAllocator<ScoreThreshold>);

}  // namespace lethe
