/// Policies that weigh attention by values: LongFlow, LAVa, VaSE, CriticalKV. Included by name.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "lethe/budget.hpp"
#include "lethe/budget/entropy.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/cache_score.hpp"
#include "lethe/score/projected.hpp"
#include "lethe/score/promoted.hpp"
#include "lethe/score/rules/value_size.hpp"
#include "lethe/score/sampled.hpp"
#include "lethe/score/weighted.hpp"
#include "lethe/score/window.hpp"

namespace lethe {

/// Settings of policies::LongFlow.
struct LongFlowConfig {
  /// How the cache's rows lie; must be given.
  HeadShape heads{};
  /// Tokens a layer keeps at a round; 0: as many as the bound allows.
  std::size_t budget = 0;

  bool operator==(const LongFlowConfig&) const = default;
};

/// Settings of policies::LAVa.
struct LAVaConfig {
  HeadShape heads{};
  /// Tokens over all layers at a round; must be given.
  std::size_t total = 0;
  /// Queries whose attention counts, and recent tokens always kept; the published 32.
  std::size_t window = 32;
  /// Neighbours pooled; the published 7.
  std::size_t pool = 7;

  bool operator==(const LAVaConfig&) const = default;
};

/// Settings of policies::VaSE.
struct VaSEConfig {
  HeadShape heads{};
  std::size_t budget = 0;
  /// Attention sinks; the published 4.
  std::size_t first_tokens = 4;
  /// Queries whose attention weighs the draw, and recent tokens always kept; the published 64.
  std::size_t window = 64;
  /// Neighbours pooled; the published 5.
  std::size_t pool = 5;
  /// Share of the budget (or of what the bound leaves) that goes to values of the widest range; the
  /// published quarter.
  float wide_share = 0.25f;
  std::uint64_t seed = 1;

  bool operator==(const VaSEConfig&) const = default;
};

/// Settings of policies::CriticalKV.
struct CriticalKVConfig {
  HeadShape heads{};
  /// The layers' output projections; must be given, and outlive the policy.
  OutputProjection output{};
  std::size_t budget = 0;
  /// The base score is SnapKV's.
  std::size_t window = 32;
  std::size_t pool = 7;
  Pooling pooling = Pooling::maximum;
  /// Added to one head's attention to one query; the published 1e-4.
  float epsilon = 1e-4f;
  /// Share of the budget beyond the window that the base score alone chooses; the published half.
  float first_share = 0.5f;

  bool operator==(const CriticalKVConfig&) const = default;
};

namespace detail {

/// A share of the tokens that a round keeps, `apart` of them left out.
[[nodiscard]] inline std::size_t share_of_kept(const PrunerConfig& pruner, std::size_t budget,
                                               std::size_t apart, const char* field, float share) {
  require(share >= 0.0f && share <= 1.0f, field, share, "choose a share from 0 to 1");
  const std::size_t most = kept_at_bound(pruner.slack_ratio, pruner.capacity);
  const std::size_t kept = budget != 0 ? std::min(budget, most) : most;
  return static_cast<std::size_t>(static_cast<double>(share) *
                                  static_cast<double>(kept - std::min(kept, apart)));
}

}  // namespace detail

namespace policies {

/// LongFlow (arXiv 2603.11504): what the last query looked at, times the size of its value.
class LongFlow : public Pruner<Weighted<WindowMass, ValueNorm>, UniformBudget> {
 public:
  LongFlow(const PrunerConfig& pruner, const LongFlowConfig& config)
      : Pruner(pruner, {.retention = {.first_tokens = 0}},
               {.score = {.window = 1, .pool = 1}, .heads = config.heads},
               {.budget = config.budget}) {}
};

/// LAVa (arXiv 2509.09754): SnapKV's mass, heads weighed by their largest value, layers by the
/// entropy of that. Wants a group for each KV head: with one, heads are not told apart.
class LAVa : public Pruner<Weighted<WindowMass, LargestValueNorm>, EntropyBudget> {
 public:
  LAVa(const PrunerConfig& pruner, const LAVaConfig& config)
      : Pruner(pruner, {.retention = {.first_tokens = 0, .recent_tokens = config.window}},
               {.score = {.window = config.window, .pool = config.pool}, .heads = config.heads},
               {.total = config.total}) {}
};

/// VaSE (arXiv 2606.03928): values of the widest range, and a draw in proportion to the mass of the
/// last queries. Published with a set for each KV head: Scope::head and as many groups.
class VaSE : public Pruner<Promoted<CacheScore<ValueRange>, Sampled<WindowMass>>, UniformBudget> {
 public:
  VaSE(const PrunerConfig& pruner, const VaSEConfig& config)
      : Pruner(pruner,
               {.retention = {.first_tokens = config.first_tokens, .recent_tokens = config.window}},
               {.first = {.heads = config.heads},
                .rest = {.score = {.window = config.window,
                                   .pool = config.pool,
                                   .pooling = Pooling::mean},
                         .seed = config.seed},
                .count = detail::share_of_kept(pruner, config.budget, 0, "wide_share",
                                               config.wide_share),
                .first_tokens = config.first_tokens,
                .recent_tokens = config.window},
               {.budget = config.budget}) {}
};

/// CriticalKV (arXiv 2502.03805) over SnapKV's score: half of the budget by that alone, the rest by
/// (s + epsilon) |W_o v|_1, s being the mean over the window's queries and the query heads; sums
/// stand for means here, and epsilon for as many. Wants a group for each KV head: with one, heads
/// are not told apart.
class CriticalKV : public Pruner<Promoted<WindowMass, Projected<WindowMass>>, UniformBudget> {
 public:
  CriticalKV(const PrunerConfig& pruner, const CriticalKVConfig& config)
      : Pruner(pruner, {.retention = {.first_tokens = 0, .recent_tokens = config.window}},
               {.first = base_of(config),
                .rest = {.score = base_of(config),
                         .output = config.output,
                         .heads = config.heads,
                         .epsilon = epsilon_of_sums(pruner, config)},
                .count = detail::share_of_kept(pruner, config.budget, config.window, "first_share",
                                               config.first_share),
                .recent_tokens = config.window},
               {.budget = config.budget}) {}

 private:
  static WindowMassConfig base_of(const CriticalKVConfig& config) {
    return {.window = config.window, .pool = config.pool, .pooling = config.pooling};
  }

  /// A score is a sum over the window's queries and the query heads of a group.
  static float epsilon_of_sums(const PrunerConfig& pruner, const CriticalKVConfig& config) {
    const double heads = static_cast<double>(config.output.query_heads) /
                         static_cast<double>(std::max<std::size_t>(pruner.groups, 1));
    return static_cast<float>(static_cast<double>(config.epsilon) *
                              static_cast<double>(config.window) * heads);
  }
};

}  // namespace policies
}  // namespace lethe
