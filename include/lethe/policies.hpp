/// Named policies: each a scorer, a budget and its protected tokens.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>

#include "lethe/budget.hpp"
#include "lethe/budget/breakpoint.hpp"
#include "lethe/policy_parts.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/decayed_maximum.hpp"
#include "lethe/score/per_age.hpp"
#include "lethe/score/random.hpp"
#include "lethe/score/rasr.hpp"
#include "lethe/score/supersession.hpp"
#include "lethe/score/window.hpp"

namespace lethe {

/// Settings of policies::GKV.
struct GKVConfig {
  std::size_t budget = 0;
  /// Share of a standing left after one more round; the published 0.8.
  float decay = 0.8f;
  /// As SnapKV's.
  std::size_t window = 32;
  std::size_t pool = 7;

  bool operator==(const GKVConfig&) const = default;
};

/// Settings of policies::InertiaKV.
struct InertiaKVConfig {
  std::size_t budget = 0;
  /// Share of a token's momentum left after one more query; the published 0.8.
  float decay = 0.8f;
  /// As RandomAttention's buffer; none is published.
  std::size_t recent_tokens = 32;

  bool operator==(const InertiaKVConfig&) const = default;
};

/// Settings of policies::MassPerAge.
struct MassPerAgeConfig {
  std::size_t budget = 0;
  /// As H2O's.
  float recent_ratio = 0.5f;

  bool operator==(const MassPerAgeConfig&) const = default;
};

/// Settings of policies::Supersession; where the defaults come from: docs/supersession.md.
struct SupersessionConfig {
  /// How the cache's keys lie and turn; must be given.
  KeyShape keys{};
  /// Tokens a layer keeps at a round; 0: as many as the bound allows.
  std::size_t budget = 0;
  /// Cosine from which on a newer token supersedes an older one.
  float threshold = 0.7f;
  /// What a cosine of 1 takes from the logarithm of a score.
  float penalty = 8.0f;
  /// Share of a key's rotated channels that is compared: the slowest.
  float slow_share = 0.5f;
  /// As Lethe's; 0: 1 - 1 / (0.7 capacity), a memory as long as the cache.
  float decay = 0.0f;
  /// As Lethe's.
  float recent_ratio = 0.3f;
  std::size_t first_tokens = 4;

  bool operator==(const SupersessionConfig&) const = default;
};

/// Compositions ready to use; each is constructed from PrunerConfig and its own settings.
namespace policies {

/// Lethe (arXiv 2511.06029): decayed mass, a breakpoint for each layer, triggers that back off.
class Lethe : public Pruner<Rasr, SegmentBreakpoint> {
 public:
  explicit Lethe(const PrunerConfig& pruner, const LetheConfig& config = {})
      : Pruner(pruner, parts_of(config)) {}
};

/// H2O (arXiv 2306.14048): cumulative mass, half the budget recent.
class H2O : public Pruner<Rasr, UniformBudget> {
 public:
  explicit H2O(const PrunerConfig& pruner, const H2OConfig& config = {})
      : Pruner(pruner, parts_of(config)) {}
};

/// TOVA (arXiv 2401.06104): the last query's mass alone, one set for all heads.
class TOVA : public Pruner<WindowMass, UniformBudget> {
 public:
  explicit TOVA(const PrunerConfig& pruner, const TOVAConfig& config = {})
      : Pruner(pruner, parts_of(config)) {}
};

/// SnapKV (arXiv 2404.14469) during decoding: mass of the last window of queries, pooled.
class SnapKV : public Pruner<WindowMass, UniformBudget> {
 public:
  explicit SnapKV(const PrunerConfig& pruner, const SnapKVConfig& config = {})
      : Pruner(pruner, parts_of(config)) {}
};

/// G-KV (arXiv 2512.00504): the best standing in SnapKV's score that a token has had, fading.
class GKV : public Pruner<DecayedMaximum<WindowMass>, UniformBudget> {
 public:
  explicit GKV(const PrunerConfig& pruner, const GKVConfig& config = {})
      : Pruner(pruner, {.retention = {.first_tokens = 0, .recent_tokens = config.window}},
               {.score = {.window = config.window, .pool = config.pool}, .decay = config.decay},
               {.budget = config.budget}) {}
};

/// InertiaKV (arXiv 2609.03515): a running mean of the mass, which ranks as RASR does.
class InertiaKV : public Pruner<Rasr, UniformBudget> {
 public:
  explicit InertiaKV(const PrunerConfig& pruner, const InertiaKVConfig& config = {})
      : Pruner(pruner, {.retention = {.first_tokens = 0, .recent_tokens = config.recent_tokens}},
               {.decay = config.decay}, {.budget = config.budget}) {}
};

/// H2O without its advantage for old tokens: cumulative mass over age.
class MassPerAge : public Pruner<PerAge<Rasr>, UniformBudget> {
 public:
  explicit MassPerAge(const PrunerConfig& pruner, const MassPerAgeConfig& config = {})
      : Pruner(pruner,
               {.retention = {.first_tokens = 0,
                              .recent_tokens = std::numeric_limits<std::size_t>::max(),
                              .recent_share = config.recent_ratio}},
               {.decay = 1.0f}, {.budget = config.budget}) {}
};

/// StreamingLLM (arXiv 2309.17453): first tokens and the most recent ones; reads no attention.
class StreamingLLM : public Pruner<NoScore, UniformBudget> {
 public:
  explicit StreamingLLM(const PrunerConfig& pruner, const StreamingLLMConfig& config = {})
      : Pruner(pruner, parts_of(config)) {}
};

/// Random Attention (arXiv 2609.03430): a uniform draw and a recent buffer; with Scope::head and
/// one group a KV head each head draws its own. Pin the prompt to have the published null.
class RandomAttention : public Pruner<RandomScore, UniformBudget> {
 public:
  explicit RandomAttention(const PrunerConfig& pruner, const RandomAttentionConfig& config = {})
      : Pruner(pruner, parts_of(config)) {}
};

/// What a newer token says again goes first, the rest by decayed mass, less where a newer token is
/// alike; the same count in each layer. Needs a cache with read_keys.
class Supersession : public Pruner<Superseded<Rasr>, UniformBudget> {
 public:
  explicit Supersession(const PrunerConfig& pruner, const SupersessionConfig& config)
      : Pruner(
            pruner,
            {.retention = {.first_tokens = config.first_tokens,
                           .recent_ratio = config.recent_ratio}},
            {.score = {.decay = config.decay != 0.0f ? config.decay : decay_for(pruner.capacity)},
             .keys = config.keys,
             .threshold = config.threshold,
             .penalty = config.penalty,
             .slow_share = config.slow_share},
            {.budget = config.budget}) {}

 private:
  [[nodiscard]] LETHE_EXACT static float decay_for(std::size_t capacity) {
    LETHE_EXACT_BODY
    const double queries = 0.7 * static_cast<double>(std::max<std::size_t>(capacity, 3));
    return static_cast<float>(1.0 - 1.0 / queries);
  }
};

}  // namespace policies
}  // namespace lethe
