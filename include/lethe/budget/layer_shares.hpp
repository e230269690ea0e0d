/// A table of layer budgets from what each layer was found to need. ReasonAlloc.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "lethe/budget.hpp"

namespace lethe {

/// Settings of reason_alloc_shares.
struct ReasonAllocConfig {
  /// A layer's share grows with its demand to this power; the published 0.5.
  double power = 0.5;
  /// The least and the most a layer gets, as shares of the mean; the published 0.25 and 2.
  double least = 0.25;
  double most = 2.0;

  bool operator==(const ReasonAllocConfig&) const = default;
};

namespace detail {

inline void check_shares(std::span<const double> demands, std::size_t total,
                         const ReasonAllocConfig& config) {
  require(!demands.empty(), "demands", demands.size(), "give one for each layer");
  for (const double demand : demands) {
    require(demand > 0 && demand <= std::numeric_limits<double>::max(), "demands", demand,
            "give the tokens a layer needs, above 0");
  }
  require(total >= demands.size(), "total", total, "choose at least 1 token a layer");
  require(config.power >= 0 && config.power <= 1, "power", config.power, "choose 0 to 1");
  require(config.least >= 0 && config.least <= 1, "least", config.least, "choose 0 to 1");
  require(config.most >= 1 && config.most <= 1e6, "most", config.most, "choose 1 to 1e6");
}

}  // namespace detail

/// A layer's share of `total` tokens, in proportion to demand^power, between `least` and `most` of
/// the mean; what that takes from some is shared by the others in proportion, and the sum is
/// `total` exactly (ReasonAlloc, arXiv 2606.11164). To be made once, before a pruner is: the table
/// goes to TableBudget.
///
/// demands: for each layer the tokens that hold 93% of its mass, the mean over a few prompts;
/// mass_quantile(scores, 0.93, scratch) of a round's scores is one prompt's.
/// Throws std::invalid_argument for a demand that is not above 0, and fewer tokens than layers.
/// O(layers^2).
[[nodiscard]] inline TableBudgetConfig reason_alloc_shares(std::span<const double> demands,
                                                           std::size_t total,
                                                           const ReasonAllocConfig& config = {}) {
  detail::check_shares(demands, total, config);
  const double mean = static_cast<double>(total) / static_cast<double>(demands.size());
  // Whole tokens within the clip, but no further in than the mean.
  const double floor = std::min(std::ceil(config.least * mean), std::floor(mean));
  const double ceiling = std::max(std::floor(config.most * mean), std::ceil(mean));
  std::vector<Claim> claims(demands.size());
  TableBudgetConfig table{.budgets = std::vector<std::size_t>(demands.size())};
  for (std::size_t layer = 0; layer < claims.size(); ++layer) {
    claims[layer] = {.weight = std::pow(demands[layer], config.power),
                     .floor = std::max<std::size_t>(1, static_cast<std::size_t>(floor)),
                     .ceiling = static_cast<std::size_t>(ceiling)};
  }
  share_total(claims, total);
  for (std::size_t layer = 0; layer < claims.size(); ++layer) {
    table.budgets[layer] = claims[layer].tokens;
  }
  return table;
}

}  // namespace lethe
