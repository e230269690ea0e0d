/// Policies whose heads keep counts of their own: AdaKV, LAVa by head. Included by name.
///
/// They want Scope::head, a group for each KV head, and a cache whose heads may hold unequal counts
/// (UnequalHeadsCache).
#pragma once

#include <cstddef>

#include "lethe/budget.hpp"
#include "lethe/budget/entropy.hpp"
#include "lethe/budget/flat_heads.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/cache_score.hpp"
#include "lethe/score/rules/value_size.hpp"
#include "lethe/score/weighted.hpp"
#include "lethe/score/window.hpp"

namespace lethe {

/// Settings of policies::AdaKV.
struct AdaKVConfig {
  /// Tokens a head keeps on average at a round; 0: as many as the bound allows.
  std::size_t budget = 0;
  /// Queries whose attention counts, and recent tokens always kept; the published 32.
  std::size_t window = 32;
  /// Neighbours pooled; the published 7.
  std::size_t pool = 7;
  Pooling pooling = Pooling::maximum;
  /// Share of its even part that each head is sure of; kvpress's 0.2, as FlatHeadsConfig's.
  float safeguard = 0.2f;

  bool operator==(const AdaKVConfig&) const = default;
};

/// Settings of policies::LAVaByHead.
struct LAVaByHeadConfig {
  /// How the cache's rows lie; must be given.
  HeadShape heads{};
  /// Tokens over all layers at a round, a layer's being the mean of its heads'; must be given.
  std::size_t total = 0;
  /// As policies::LAVa's.
  std::size_t window = 32;
  std::size_t pool = 7;
  /// Share of a head's count that is the even part; the published 0.5.
  float even_share = 0.5f;

  bool operator==(const LAVaByHeadConfig&) const = default;
};

namespace policies {

/// AdaKV (arXiv 2407.11550) over SnapKV's score: of a layer's tokens the best of all heads stay, so
/// that heads whose attention is spread keep more.
class AdaKV : public Pruner<WindowMass, FlatHeads<UniformBudget>> {
 public:
  /// Throws std::invalid_argument naming the setting that cannot be.
  explicit AdaKV(const PrunerConfig& pruner, const AdaKVConfig& config = {})
      : Pruner(pruner, {.retention = {.first_tokens = 0, .recent_tokens = config.window}},
               {.window = config.window, .pool = config.pool, .pooling = config.pooling},
               {.budget = {.budget = config.budget}, .safeguard = config.safeguard}) {}
};

/// LAVa (arXiv 2509.09754) with its head budgets: as policies::LAVa, and a layer's heads share its
/// tokens half evenly, half by how many each has among the layer's best.
class LAVaByHead : public Pruner<Weighted<WindowMass, LargestValueNorm>, FlatHeads<EntropyBudget>> {
 public:
  LAVaByHead(const PrunerConfig& pruner, const LAVaByHeadConfig& config)
      : Pruner(pruner, {.retention = {.first_tokens = 0, .recent_tokens = config.window}},
               {.score = {.window = config.window, .pool = config.pool}, .heads = config.heads},
               {.budget = {.total = config.total},
                .safeguard = 0.0f,
                .even_share = config.even_share}) {}
};

}  // namespace policies
}  // namespace lethe
