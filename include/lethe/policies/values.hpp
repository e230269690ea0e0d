/// Policies that weigh attention by values: LongFlow, LAVa, VaSE. Included by name.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "lethe/budget.hpp"
#include "lethe/budget/entropy.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/cache_score.hpp"
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
                .count = wide_tokens(pruner, config),
                .first_tokens = config.first_tokens,
                .recent_tokens = config.window},
               {.budget = config.budget}) {}

 private:
  static std::size_t wide_tokens(const PrunerConfig& pruner, const VaSEConfig& config) {
    detail::require(config.wide_share >= 0.0f && config.wide_share <= 1.0f, "wide_share",
                    config.wide_share, "choose a share from 0 to 1");
    const std::size_t most = kept_at_bound(pruner.slack_ratio, pruner.capacity);
    const std::size_t kept = config.budget != 0 ? std::min(config.budget, most) : most;
    return static_cast<std::size_t>(static_cast<double>(config.wide_share) *
                                    static_cast<double>(kept));
  }
};

}  // namespace policies
}  // namespace lethe
