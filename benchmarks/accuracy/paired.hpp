/// Compares policies on the same problems.
#pragma once

#include <string>
#include <vector>

#include "results.hpp"

namespace accuracy {

/// A policy and the one it is compared with, in one setting.
struct Comparison {
  Setting setting;
  std::string policy;
  /// Problems that both worked through; those in which the policy has more, or fewer, answers right
  /// than the other.
  std::size_t pairs = 0;
  std::size_t ahead = 0;
  std::size_t behind = 0;
  /// Of the share of answers right, the policy's less the other's; mean over pairs.
  double difference = 0;
  /// Whether the judge does well enough for a comparison to mean anything.
  bool is_ranked = false;
  /// Two-sided p of the exact sign test, and corrected by Holm over all ranked comparisons.
  double p = 1;
  double corrected = 1;

  [[nodiscard]] bool is_tested() const { return is_ranked && pairs != 0; }
  /// "better", "worse", "no difference shown", "not ranked" or "no common problems".
  [[nodiscard]] std::string verdict() const;
};

/// Every policy beside `against` in every setting where both have rows.
struct Comparisons {
  std::string against;
  std::vector<Comparison> all;
};

/// The policy with most answers right: by the mean over the ranked settings in which every policy
/// has rows (over all settings, where there are none), ties to the one with more lookups right.
/// Throws decoder::Error when there are rows of the whole cache and the oracle alone.
[[nodiscard]] std::string best_policy(const Results& results);

/// Compares the policies with `against`; "best": with best_policy.
/// Throws decoder::Error for a policy without rows, and for results that no judge has rows in.
[[nodiscard]] Comparisons compare(const Results& results, const std::string& against);

}  // namespace accuracy
