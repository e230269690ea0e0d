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
  /// Cosine from which on a newer token supersedes an older one; above 0, at most 1.
  float threshold = 0.7f;
  /// The same in layer 0, where keys know nothing but the token: only the same one should count.
  /// 0: threshold; so where this pruner's layer 0 is a later one of the model.
  float first_layer_threshold = 0.9f;
  /// What a cosine of 1 takes from the logarithm of a score; 0 to 20.
  float penalty = 12.0f;
  /// Share of a key's rotated channels that is compared: the slowest.
  float slow_share = 0.5f;
  /// As Lethe's; 0: 1 - 1 / (0.7 capacity), a memory as long as the cache.
  float decay = 0.0f;
  /// As Lethe's.
  float recent_ratio = 0.3f;
  std::size_t first_tokens = 4;

  bool operator==(const SupersessionConfig&) const = default;
};

/// G-KV's parts. Never throws; nor do those below.
[[nodiscard]] inline PolicyParts<DecayedMaximumConfig<WindowMass>, UniformBudgetConfig> parts_of(
    const GKVConfig& config) {
  return {.policy = {.retention = {.first_tokens = 0, .recent_tokens = config.window}},
          .score = {.score = {.window = config.window, .pool = config.pool}, .decay = config.decay},
          .budget = {.budget = config.budget}};
}

/// InertiaKV's parts.
[[nodiscard]] inline PolicyParts<RasrConfig, UniformBudgetConfig> parts_of(
    const InertiaKVConfig& config) {
  return {.policy = {.retention = {.first_tokens = 0, .recent_tokens = config.recent_tokens}},
          .score = {.decay = config.decay},
          .budget = {.budget = config.budget}};
}

/// MassPerAge's parts.
[[nodiscard]] inline PolicyParts<RasrConfig, UniformBudgetConfig> parts_of(
    const MassPerAgeConfig& config) {
  return {.policy = {.retention = {.first_tokens = 0,
                                   .recent_tokens = std::numeric_limits<std::size_t>::max(),
                                   .recent_share = config.recent_ratio}},
          .score = {.decay = 1.0f},
          .budget = {.budget = config.budget}};
}

/// The parts of a policy in a pruner of these settings, which few policies depend on.
template <class Config>
[[nodiscard]] auto parts_of(const Config& config, const PrunerConfig&) {
  return parts_of(config);
}

namespace detail {

/// The decay of a memory as long as the cache.
[[nodiscard]] LETHE_EXACT inline float decay_for(std::size_t capacity) {
  LETHE_EXACT_BODY
  const double queries = 0.7 * static_cast<double>(std::max<std::size_t>(capacity, 3));
  return static_cast<float>(1.0 - 1.0 / queries);
}

}  // namespace detail

/// Supersession's parts.
[[nodiscard]] inline PolicyParts<SupersededConfig<Rasr>, UniformBudgetConfig> parts_of(
    const SupersessionConfig& config, const PrunerConfig& pruner) {
  const float decay = config.decay != 0.0f ? config.decay : detail::decay_for(pruner.capacity);
  return {.policy = {.retention = {.first_tokens = config.first_tokens,
                                   .recent_ratio = config.recent_ratio}},
          .score = {.score = {.decay = decay},
                    .keys = config.keys,
                    .threshold = config.threshold,
                    .first_layer_threshold = config.first_layer_threshold,
                    .penalty = config.penalty,
                    .slow_share = config.slow_share},
          .budget = {.budget = config.budget}};
}

/// A pruner that is made from a named policy's settings.
template <class Scorer, class Budget, class Config>
class Composition : public Pruner<Scorer, Budget> {
 public:
  /// Throws std::invalid_argument naming the setting that cannot be, its value and the remedy.
  explicit Composition(const PrunerConfig& pruner, const Config& config = {})
      : Pruner<Scorer, Budget>(pruner, parts_of(config, pruner)) {}
};

/// Compositions ready to use; each is constructed from PrunerConfig and its own settings. Names,
/// not classes: a file compiles those that it uses.
namespace policies {

/// Lethe (arXiv 2511.06029): decayed mass, a breakpoint for each layer, triggers that back off.
using Lethe = Composition<Rasr, SegmentBreakpoint, LetheConfig>;

/// H2O (arXiv 2306.14048): cumulative mass, half the budget recent.
using H2O = Composition<Rasr, UniformBudget, H2OConfig>;

/// TOVA (arXiv 2401.06104): the last query's mass alone, one set for all heads.
using TOVA = Composition<WindowMass, UniformBudget, TOVAConfig>;

/// SnapKV (arXiv 2404.14469) during decoding: mass of the last window of queries, pooled.
using SnapKV = Composition<WindowMass, UniformBudget, SnapKVConfig>;

/// G-KV (arXiv 2512.00504): the best standing in SnapKV's score that a token has had, fading.
using GKV = Composition<DecayedMaximum<WindowMass>, UniformBudget, GKVConfig>;

/// InertiaKV (arXiv 2609.03515): a running mean of the mass, which ranks as RASR does.
using InertiaKV = Composition<Rasr, UniformBudget, InertiaKVConfig>;

/// H2O without its advantage for old tokens: cumulative mass over age.
using MassPerAge = Composition<PerAge<Rasr>, UniformBudget, MassPerAgeConfig>;

/// StreamingLLM (arXiv 2309.17453): first tokens and the most recent ones; reads no attention.
using StreamingLLM = Composition<NoScore, UniformBudget, StreamingLLMConfig>;

/// Random Attention (arXiv 2609.03430): a uniform draw and a recent buffer; with Scope::head and
/// one group a KV head each head draws its own. Pin the prompt to have the published null.
using RandomAttention = Composition<RandomScore, UniformBudget, RandomAttentionConfig>;

/// What a newer token says again goes first, the rest by decayed mass, less where a newer token is
/// alike; the same count in each layer. Needs a cache with read_keys.
using Supersession = Composition<Superseded<Rasr>, UniformBudget, SupersessionConfig>;

}  // namespace policies
}  // namespace lethe
