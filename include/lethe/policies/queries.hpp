/// Policies that learn from queries: ExpectedAttention, TriAttention, CapKV, GrowPage. Included by
/// name.
///
/// They read no mass: hand every step's queries to observe(layer, Queries), lse may be null.
#pragma once

#include <algorithm>
#include <cstddef>

#include "lethe/budget.hpp"
#include "lethe/budget/growing.hpp"
#include "lethe/pruner.hpp"
#include "lethe/query_statistics.hpp"
#include "lethe/score/block_quota.hpp"
#include "lethe/score/cache_score.hpp"
#include "lethe/score/rules/capacity.hpp"
#include "lethe/score/rules/expected_mass.hpp"
#include "lethe/score/rules/trigonometric.hpp"
#include "lethe/score/rules/two_pace_mass.hpp"

namespace lethe {

/// Settings of policies::ExpectedAttention.
struct ExpectedAttentionConfig {
  /// How the cache's rows lie; must be given.
  HeadShape heads{};
  /// The query heads, and how queries and keys turn; must be given.
  QueryHeads queries{};
  /// Tokens a layer keeps at a round; 0: as many as the bound allows.
  std::size_t budget = 0;
  /// Sinks, whose queries do not count; the published 4.
  std::size_t first_tokens = 4;
  /// As RandomAttention's; none is published.
  std::size_t recent_tokens = 32;
  /// Positions to come that are expected; the published 512.
  std::size_t horizon = 512;
  /// Added to the expected share of attention before it is weighed by |v|; the published 0.
  float epsilon = 0.0f;

  bool operator==(const ExpectedAttentionConfig&) const = default;
};

/// Settings of policies::TriAttention.
struct TriAttentionConfig {
  HeadShape heads{};
  QueryHeads queries{};
  std::size_t budget = 0;
  std::size_t recent_tokens = 32;
  /// Future distances that scores are averaged over, 1, 2, 4, ...; the published 17.
  std::size_t offsets = 17;

  bool operator==(const TriAttentionConfig&) const = default;
};

/// Settings of policies::CapKV.
struct CapKVConfig {
  HeadShape heads{};
  QueryHeads queries{};
  std::size_t budget = 0;
  std::size_t recent_tokens = 32;
  /// What the cosine of key and mean query is multiplied by; the published 5.
  float sharpness = 5.0f;

  bool operator==(const CapKVConfig&) const = default;
};

/// Settings of policies::GrowPage.
struct GrowPageConfig {
  HeadShape heads{};
  QueryHeads queries{};
  /// Tokens a layer keeps at first, to grow from; 0: half of what a round at the bound keeps. What
  /// is published starts from a budget of its own.
  std::size_t budget = 0;
  /// As RandomAttention's; none is published.
  std::size_t recent_tokens = 32;
  /// Positions of a block, and tokens by which the budget grows; a page of 16, as Blocks'.
  std::size_t block = 16;
  /// What is left of a query's weight in the short and in the long mean; the published 0.9 and
  /// 0.999.
  float short_decay = 0.9f;
  float long_decay = 0.999f;
  /// Share of attention whose tokens are compared; the published 99%.
  float coverage = 0.99f;

  bool operator==(const GrowPageConfig&) const = default;
};

namespace detail {

/// What a layer keeps at first under GrowPage.
[[nodiscard]] inline std::size_t first_budget(const PrunerConfig& pruner, std::size_t budget) {
  if (budget != 0) return budget;
  return std::max<std::size_t>(1, kept_at_bound(pruner.slack_ratio, pruner.capacity) / 2);
}

}  // namespace detail

namespace policies {

/// ExpectedAttention (arXiv 2510.00636): what queries will look at if they go on as they were,
/// times the size of its value. Published with a set for each KV head: Scope::head and as many
/// groups.
class ExpectedAttention : public Pruner<CacheScore<ExpectedMass>, UniformBudget> {
 public:
  /// Throws std::invalid_argument naming the setting that cannot be.
  ExpectedAttention(const PrunerConfig& pruner, const ExpectedAttentionConfig& config)
      : Pruner(pruner,
               {.retention = {.first_tokens = config.first_tokens,
                              .recent_tokens = config.recent_tokens}},
               {.rule = {.queries = config.queries,
                         .horizon = config.horizon,
                         .first_tokens = static_cast<Position>(config.first_tokens),
                         .epsilon = config.epsilon},
                .heads = config.heads},
               {.budget = config.budget}) {}
};

/// TriAttention (arXiv 2604.04921): keys that the mean query meets over many distances to come.
/// Published with the prompt pinned, to which pin() is the way, and a set for each KV head.
class TriAttention : public Pruner<CacheScore<Trigonometric>, UniformBudget> {
 public:
  TriAttention(const PrunerConfig& pruner, const TriAttentionConfig& config)
      : Pruner(
            pruner, {.retention = {.first_tokens = 0, .recent_tokens = config.recent_tokens}},
            {.rule = {.queries = config.queries, .offsets = config.offsets}, .heads = config.heads},
            {.budget = config.budget}) {}
};

/// CapKV (arXiv 2604.25975): values that say what no others do, among those whose keys the mean
/// query looks for. Published with a set for each KV head.
class CapKV : public Pruner<CacheScore<Capacity>, UniformBudget> {
 public:
  CapKV(const PrunerConfig& pruner, const CapKVConfig& config)
      : Pruner(pruner, {.retention = {.first_tokens = 0, .recent_tokens = config.recent_tokens}},
               {.rule = {.queries = config.queries, .sharpness = config.sharpness},
                .heads = config.heads},
               {.budget = config.budget}) {}
};

/// GrowPage (arXiv 2609.03494): what the mean of the last queries or that of many looks for, the
/// best of every block; the budget grows by a block whenever the last queries look at more tokens
/// than many do, up to the bound. A layer that has outgrown its budget is examined every
/// PrunerConfig::round_interval tokens.
class GrowPage : public Pruner<BlockQuota<CacheScore<TwoPaceMass>>, GrowingBudget> {
 public:
  GrowPage(const PrunerConfig& pruner, const GrowPageConfig& config)
      : Pruner(pruner,
               {.retention = {.first_tokens = 0, .recent_tokens = config.recent_tokens},
                .first_threshold = detail::first_budget(pruner, config.budget) + 1},
               {.score = {.rule = {.queries = config.queries,
                                   .short_decay = config.short_decay,
                                   .long_decay = config.long_decay,
                                   .coverage = config.coverage},
                          .heads = config.heads},
                .block = config.block},
               {.budget = detail::first_budget(pruner, config.budget), .step = config.block}) {}
};

}  // namespace policies
}  // namespace lethe
