/// Policies that look at keys: Knorm, KeyDiff, CUR, LagKV, PagedEviction, R-KV. Included by name.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/budget.hpp"
#include "lethe/budget/whole_blocks.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/blocks.hpp"
#include "lethe/score/cache_score.hpp"
#include "lethe/score/redundancy.hpp"
#include "lethe/score/rules/key_difference.hpp"
#include "lethe/score/rules/key_norm.hpp"
#include "lethe/score/rules/lag.hpp"
#include "lethe/score/rules/leverage.hpp"
#include "lethe/score/rules/value_size.hpp"
#include "lethe/score/window.hpp"

namespace lethe {

/// Settings of policies::Knorm and policies::KeyDiff.
struct KeyRankConfig {
  /// How the cache's rows lie; must be given.
  HeadShape heads{};
  /// Tokens a layer keeps at a round; 0: as many as the bound allows.
  std::size_t budget = 0;
  /// As RandomAttention's; none is published.
  std::size_t recent_tokens = 32;

  bool operator==(const KeyRankConfig&) const = default;
};

/// Settings of policies::CUR.
struct CURConfig {
  HeadShape heads{};
  std::size_t budget = 0;
  /// The published 4.
  std::size_t first_tokens = 4;
  /// As RandomAttention's; none is published.
  std::size_t recent_tokens = 32;
  /// Neighbours among which a token's share is taken; the published 16.
  std::size_t block = 16;
  /// Columns of the random matrix drawn anew at each round (CURResample: 20); 0: none (CurDKV).
  std::size_t sketch = 0;
  std::uint64_t seed = 1;

  bool operator==(const CURConfig&) const = default;
};

/// Settings of policies::LagKV.
struct LagKVConfig {
  HeadShape heads{};
  std::size_t budget = 0;
  /// The published 4.
  std::size_t first_tokens = 4;
  /// Tokens of a partition, and recent tokens always kept; the published 128.
  std::size_t partition = 128;

  bool operator==(const LagKVConfig&) const = default;
};

/// Settings of policies::PagedEviction.
struct PagedEvictionConfig {
  HeadShape heads{};
  std::size_t budget = 0;
  /// Tokens of a page, the newest of which always stays; the published 16.
  std::size_t block = 16;

  bool operator==(const PagedEvictionConfig&) const = default;
};

/// Settings of policies::RKV.
struct RKVConfig {
  /// Must be given; without frequencies keys are compared as they stand in attention, as published.
  KeyShape keys{};
  std::size_t budget = 0;
  /// Queries whose attention counts, and recent tokens always kept; the published 8.
  std::size_t window = 8;
  /// Neighbours pooled; the published 7.
  std::size_t pool = 7;
  /// lambda: what importance weighs against redundancy; the published 0.1.
  float importance_weight = 0.1f;
  /// Cosine above which two keys say the same; the published 0.5.
  float threshold = 0.5f;

  bool operator==(const RKVConfig&) const = default;
};

namespace policies {

/// Knorm (arXiv 2406.11430): tokens with short keys stay.
class Knorm : public Pruner<CacheScore<KeyNorm>, UniformBudget> {
 public:
  Knorm(const PrunerConfig& pruner, const KeyRankConfig& config)
      : Pruner(pruner, {.retention = {.first_tokens = 0, .recent_tokens = config.recent_tokens}},
               {.heads = config.heads}, {.budget = config.budget}) {}
};

/// KeyDiff (arXiv 2504.15364): tokens whose keys differ from the mean key stay.
class KeyDiff : public Pruner<CacheScore<KeyDifference>, UniformBudget> {
 public:
  KeyDiff(const PrunerConfig& pruner, const KeyRankConfig& config)
      : Pruner(pruner, {.retention = {.first_tokens = 0, .recent_tokens = config.recent_tokens}},
               {.heads = config.heads}, {.budget = config.budget}) {}
};

/// CurDKV (arXiv 2509.15038): tokens with large keys and values among their neighbours stay; with a
/// sketch CURResample.
class CUR : public Pruner<CacheScore<Leverage>, UniformBudget> {
 public:
  CUR(const PrunerConfig& pruner, const CURConfig& config)
      : Pruner(pruner,
               {.retention = {.first_tokens = config.first_tokens,
                              .recent_tokens = config.recent_tokens}},
               {.rule = {.block = config.block, .sketch = config.sketch, .seed = config.seed},
                .heads = config.heads},
               {.budget = config.budget}) {}
};

/// LagKV (arXiv 2504.04704): of each partition the tokens that stick out against the next stay.
class LagKV : public Pruner<CacheScore<Lag>, UniformBudget> {
 public:
  LagKV(const PrunerConfig& pruner, const LagKVConfig& config)
      : Pruner(
            pruner,
            {.retention = {.first_tokens = config.first_tokens, .recent_tokens = config.partition}},
            {.rule = {.sinks = config.first_tokens, .partition = config.partition},
             .heads = config.heads},
            {.budget = config.budget}) {}
};

/// PagedEviction (arXiv 2509.04377): whole pages go, those whose values are small for their keys.
class PagedEviction : public Pruner<Blocks<CacheScore<ValueOverKey>>, WholeBlocks> {
 public:
  PagedEviction(const PrunerConfig& pruner, const PagedEvictionConfig& config)
      : Pruner(pruner, {.retention = {.first_tokens = 0, .recent_tokens = config.block}},
               {.score = {.heads = config.heads},
                .block = config.block,
                .combine = BlockScore::mean,
                .recent_tokens = config.block},
               {.block = config.block, .budget = config.budget}) {}
};

/// R-KV (arXiv 2505.24133): mass of the last 8 queries less the redundancy of keys. Published with
/// a set for each KV head: Scope::head and as many groups.
class RKV : public Pruner<Redundant<WindowMass>, UniformBudget> {
 public:
  RKV(const PrunerConfig& pruner, const RKVConfig& config)
      : Pruner(pruner, {.retention = {.first_tokens = 0, .recent_tokens = config.window}},
               {.score = {.window = config.window, .pool = 1},
                .keys = config.keys,
                .importance_weight = config.importance_weight,
                .threshold = config.threshold,
                .recent_tokens = config.window,
                .pool = config.pool},
               {.budget = config.budget}) {}
};

}  // namespace policies
}  // namespace lethe
