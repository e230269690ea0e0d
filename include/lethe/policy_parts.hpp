/// What named policies are made of, for a pruner and for a device alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "lethe/budget.hpp"
#include "lethe/budget/breakpoint.hpp"
#include "lethe/pruner_config.hpp"
#include "lethe/score/random.hpp"
#include "lethe/score/rasr.hpp"
#include "lethe/score/window.hpp"

namespace lethe {

/// Settings of policies::Lethe.
struct LetheConfig {
  /// gamma: share of a score left after one more query (docs/defaults.md).
  float decay = 0.98f;
  /// tau: tokens scoring below the best over tau may go; the paper's default.
  float sparsity_ratio = 400.0f;
  /// Share of a layer's tokens, the most recent ones, that stays; the paper's default.
  float recent_ratio = 0.3f;
  /// s_len: attention sinks (StreamingLLM's 4).
  std::size_t first_tokens = 4;
  /// D: segments of the sorted scores (docs/defaults.md).
  std::size_t segments = 64;
  /// L_evict: length at which a layer is first examined (docs/defaults.md).
  std::size_t first_threshold = 256;

  bool operator==(const LetheConfig&) const = default;
};

/// Settings of policies::H2O.
struct H2OConfig {
  /// Tokens a layer keeps at a round; 0: as many as the bound allows.
  std::size_t budget = 0;
  /// Share of the kept tokens that are recent ones, whatever cap set their number; the published
  /// half.
  float recent_ratio = 0.5f;

  bool operator==(const H2OConfig&) const = default;
};

/// Settings of policies::TOVA.
struct TOVAConfig {
  std::size_t budget = 0;

  bool operator==(const TOVAConfig&) const = default;
};

/// Settings of policies::SnapKV.
struct SnapKVConfig {
  std::size_t budget = 0;
  /// Queries whose attention counts, and recent tokens always kept; the published 32.
  std::size_t window = 32;
  /// Neighbours pooled; the published 7.
  std::size_t pool = 7;
  Pooling pooling = Pooling::maximum;

  bool operator==(const SnapKVConfig&) const = default;
};

/// Settings of policies::StreamingLLM.
struct StreamingLLMConfig {
  std::size_t budget = 0;
  /// Attention sinks; the published 4.
  std::size_t first_tokens = 4;

  bool operator==(const StreamingLLMConfig&) const = default;
};

/// Settings of policies::RandomAttention.
struct RandomAttentionConfig {
  std::size_t budget = 0;
  /// Recent tokens always kept (the published buffer of 32).
  std::size_t recent_tokens = 32;
  std::uint64_t seed = 1;

  bool operator==(const RandomAttentionConfig&) const = default;
};

/// Lethe's parts. Never throws; nor do those below, but for StreamingLLM's.
[[nodiscard]] inline PolicyParts<RasrConfig, SegmentBreakpointConfig> parts_of(
    const LetheConfig& config) {
  return {.policy = {.retention = {.first_tokens = config.first_tokens,
                                   .recent_ratio = config.recent_ratio},
                     .first_threshold = config.first_threshold},
          .score = {.decay = config.decay},
          .budget = {.sparsity_ratio = config.sparsity_ratio, .segments = config.segments}};
}

/// H2O's parts.
[[nodiscard]] inline PolicyParts<RasrConfig, UniformBudgetConfig> parts_of(
    const H2OConfig& config) {
  return {.policy = {.retention = {.first_tokens = 0,
                                   .recent_tokens = std::numeric_limits<std::size_t>::max(),
                                   .recent_share = config.recent_ratio}},
          .score = {.decay = 1.0f},
          .budget = {.budget = config.budget}};
}

/// TOVA's parts.
[[nodiscard]] inline PolicyParts<WindowMassConfig, UniformBudgetConfig> parts_of(
    const TOVAConfig& config) {
  return {.policy = {.retention = {.first_tokens = 0}},
          .score = {.window = 1, .pool = 1},
          .budget = {.budget = config.budget}};
}

/// SnapKV's parts.
[[nodiscard]] inline PolicyParts<WindowMassConfig, UniformBudgetConfig> parts_of(
    const SnapKVConfig& config) {
  return {.policy = {.retention = {.first_tokens = 0, .recent_tokens = config.window}},
          .score = {.window = config.window, .pool = config.pool, .pooling = config.pooling},
          .budget = {.budget = config.budget}};
}

/// StreamingLLM's parts. Throws std::invalid_argument unless budget is 0 or above first_tokens.
[[nodiscard]] inline PolicyParts<NoScore::Config, UniformBudgetConfig> parts_of(
    const StreamingLLMConfig& config) {
  detail::require(config.budget == 0 || config.budget > config.first_tokens, "budget",
                  config.budget, "choose more than first_tokens, so that recent tokens stay");
  return {.policy = {.retention = {.first_tokens = config.first_tokens,
                                   .recent_tokens = std::numeric_limits<std::size_t>::max()}},
          .budget = {.budget = config.budget}};
}

/// RandomAttention's parts.
[[nodiscard]] inline PolicyParts<RandomScoreConfig, UniformBudgetConfig> parts_of(
    const RandomAttentionConfig& config) {
  return {.policy = {.retention = {.first_tokens = 0, .recent_tokens = config.recent_tokens}},
          .score = {.seed = config.seed},
          .budget = {.budget = config.budget}};
}

}  // namespace lethe
