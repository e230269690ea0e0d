/// How many tokens each layer keeps: the BudgetAllocator concept, and sharing a total exactly.
#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/plan.hpp"
#include "lethe/score.hpp"
#include "lethe/selection.hpp"
#include "lethe/sparsity.hpp"

namespace lethe {

/// One layer as a budget sees it; never the cache.
struct LayerScores {
  std::size_t layer = 0;
  std::size_t layers = 1;
  /// One score a token, groups summed; finite.
  std::span<const float> scores{};
  std::span<const Position> positions{};
  /// Whether positions ascend with slots.
  bool ordered = true;
  Protection protection{};
  std::size_t protected_tokens = 0;
  /// The most tokens that may stay.
  std::size_t limit = 0;
  MassSummary summary{};
  /// Of the scorer's window, groups summed; for allocators that say reads_window, else zeros.
  WindowStatistics window{};
  /// Rounds that found the layer to need more, most of its groups; for allocators that say
  /// reads_growth, else 0.
  std::size_t growth = 0;
  /// Work space of scores.size() + 1 entries each.
  std::span<std::uint32_t> keys{};
  std::span<std::uint32_t> scratch{};
};

/// What a layer is to keep.
struct Budget {
  /// Tokens in all, protected ones included. The pruner brings it between those and the limit.
  std::size_t tokens = 0;
  /// The attention is spread out: do not prune now, and wait twice as long.
  bool spread_out = false;
  /// Salient tokens found by a breakpoint; for the trace.
  std::size_t breakpoint = 0;
  /// The cut through all scores, protection aside, whose unprotected survivors and the protected
  /// tokens make `tokens`; it spares the pruner a second selection. No ties: none was made.
  Cut cut{};
};

/// Decides each layer by itself. One that says `reads_window = true` is told LayerScores::window,
/// and wants a WindowScorer; one that says `reads_growth = true` LayerScores::growth, and wants a
/// GrowthScorer.
template <class Allocator>
concept BudgetAllocator = detail::Copied<Allocator> &&
    requires(const Allocator& allocator, const LayerScores& layer) {
  { allocator.budget(layer) } -> std::same_as<Budget>;
};

/// Shares a total over all layers: a round then covers every layer. weight(layer) is a layer's
/// claim on total() tokens, of which it gets at least its protected ones and at most its limit;
/// recents give way where a total cannot hold those of all layers. These shares, not budget(layer),
/// are the tokens that a round keeps.
template <class Allocator>
concept GlobalBudgetAllocator = BudgetAllocator<Allocator> &&
    requires(const Allocator& allocator, const LayerScores& layer) {
  { allocator.weight(layer) } -> std::same_as<double>;
  { allocator.total() } -> std::convertible_to<std::size_t>;
};

/// One head of a layer whose heads share its tokens.
struct HeadShare {
  /// Of the tokens that may go, ordered_key of their scores, and their positions, ascending. Keys
  /// and claim are work space.
  std::span<std::uint32_t> keys{};
  std::span<const Position> positions{};
  /// Tokens that stay whatever their score, and the most that the head may keep; both count these.
  std::size_t protected_tokens = 0;
  std::size_t ceiling = 0;
  double claim = 0;
  /// The result: tokens to keep, protected ones included.
  std::size_t tokens = 0;
};

/// Gives the heads of a layer counts of their own: budget(layer) is their mean, and share(heads,
/// total, scratch) splits so many times the heads. The counts must add up to the total, or to what
/// the ceilings allow, each at least the head's protected tokens. scratch: twice as many entries as
/// all keys, and one more. Wants Scope::head, a group for each head and an UnequalHeadsCache.
template <class Allocator>
concept HeadBudgetAllocator = BudgetAllocator<Allocator> &&
    requires(const Allocator& allocator, std::span<HeadShare> heads, std::size_t total,
             std::span<std::uint32_t> scratch) {
  allocator.share(heads, total, scratch);
};

/// One layer's claim when a total is shared out.
struct Claim {
  double weight = 1;
  /// Fewest and most tokens it may get.
  std::size_t floor = 0;
  std::size_t ceiling = 0;
  /// What one of its tokens costs of the total (1, or bytes).
  std::size_t cost = 1;
  /// The result.
  std::size_t tokens = 0;
};

namespace detail {

/// An allocator that wants LayerScores::window.
template <class Allocator>
concept ReadsWindow = requires {
  Allocator::reads_window;
};

/// An allocator that wants LayerScores::growth.
template <class Allocator>
concept ReadsGrowth = requires {
  Allocator::reads_growth;
};

/// An allocator's weight, or 0 for one that means nothing.
[[nodiscard]] inline double usable_weight(double weight) {
  const std::uint64_t bits = std::bit_cast<std::uint64_t>(weight);
  return bits < 0x7FF0000000000000u ? weight : 0;
}

[[nodiscard]] LETHE_EXACT inline double share(const Claim& claim, double level) {
  LETHE_EXACT_BODY
  return std::clamp(level * claim.weight, static_cast<double>(claim.floor),
                    static_cast<double>(claim.ceiling));
}

[[nodiscard]] LETHE_EXACT inline double total_cost(std::span<const Claim> claims, double level) {
  LETHE_EXACT_BODY
  double cost = 0;
  for (const Claim& claim : claims) {
    cost += share(claim, level) * static_cast<double>(claim.cost);
  }
  return cost;
}

/// The largest level whose shares still fit the total.
[[nodiscard]] LETHE_EXACT inline double find_level(std::span<const Claim> claims, double total) {
  LETHE_EXACT_BODY
  double low = 0;
  double high = 1;
  while (total_cost(claims, high) <= total && high < 1e18) high *= 2;
  for (int step = 0; step < 110; ++step) {
    const double middle = low + (high - low) / 2;
    (total_cost(claims, middle) <= total ? low : high) = middle;
  }
  return low;
}

/// The claim with the largest remainder that one more token still fits; size() when there is none.
[[nodiscard]] inline std::size_t next_in_line(std::span<const Claim> claims, double level,
                                              std::size_t left) {
  std::size_t best = claims.size();
  double largest = -1e300;
  for (std::size_t i = 0; i < claims.size(); ++i) {
    const double remainder = share(claims[i], level) - static_cast<double>(claims[i].tokens);
    const bool fits = claims[i].tokens < claims[i].ceiling && claims[i].cost <= left;
    if (!fits || remainder <= largest) continue;
    largest = remainder;
    best = i;
  }
  return best;
}

}  // namespace detail

/// Shares `total` over claims in proportion to their weights, each between its floor and ceiling,
/// the rest by largest remainder (ties to the lower layer); with equal costs the sum is exactly
/// min(total, sum of ceilings) unless the floors alone exceed it. O(layers^2), no allocation.
inline void share_total(std::span<Claim> claims, std::size_t total) {
  const double level = detail::find_level(claims, static_cast<double>(total));
  std::size_t used = 0;
  for (Claim& claim : claims) {
    claim.tokens = static_cast<std::size_t>(detail::share(claim, level));
    used += claim.tokens * claim.cost;
  }
  while (used < total) {
    const std::size_t next = detail::next_in_line(claims, level, total - used);
    if (next == claims.size()) return;
    ++claims[next].tokens;
    used += claims[next].cost;
  }
}

/// Settings of UniformBudget.
struct UniformBudgetConfig {
  /// Tokens each layer keeps at a round, protected ones included; 0: as many as the cap leaves.
  std::size_t budget = 0;

  bool operator==(const UniformBudgetConfig&) const = default;
};

/// The same number of tokens in every layer.
class UniformBudget {
 public:
  using Config = UniformBudgetConfig;
  explicit UniformBudget(const Config& config) : config_(config) {}

  [[nodiscard]] Budget budget(const LayerScores& layer) const {
    return {.tokens = config_.budget != 0 ? config_.budget : layer.limit};
  }

 private:
  Config config_;
};
static_assert(BudgetAllocator<UniformBudget>);

/// Settings of TableBudget.
struct TableBudgetConfig {
  /// Tokens for each layer, in order; a layer past the end takes the last entry.
  std::vector<std::size_t> budgets;

  bool operator==(const TableBudgetConfig&) const = default;
};

/// A number of tokens for each layer, as the user says.
class TableBudget {
 public:
  using Config = TableBudgetConfig;
  /// Throws std::invalid_argument when the table is empty or holds a zero.
  explicit TableBudget(const Config& config) : config_(config) {
    detail::require(!config.budgets.empty(), "budgets", config.budgets.size(),
                    "give at least one entry");
    for (const std::size_t budget : config.budgets) {
      detail::require(budget != 0, "budgets", budget, "every layer keeps at least 1 token");
    }
  }

  [[nodiscard]] Budget budget(const LayerScores& layer) const {
    return {.tokens = config_.budgets[std::min(layer.layer, config_.budgets.size() - 1)]};
  }

 private:
  Config config_;
};
static_assert(BudgetAllocator<TableBudget>);

}  // namespace lethe
