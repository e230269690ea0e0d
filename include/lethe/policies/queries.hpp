/// Policies that learn from queries: ExpectedAttention, TriAttention, CapKV. Included by name.
///
/// They read no mass: hand every step's queries to observe(layer, Queries), lse may be null.
#pragma once

#include <cstddef>

#include "lethe/budget.hpp"
#include "lethe/pruner.hpp"
#include "lethe/query_statistics.hpp"
#include "lethe/score/cache_score.hpp"
#include "lethe/score/rules/capacity.hpp"
#include "lethe/score/rules/expected_mass.hpp"
#include "lethe/score/rules/trigonometric.hpp"

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

}  // namespace policies
}  // namespace lethe
