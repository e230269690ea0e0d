/// Named policies on the device: what a round is told, and the state that they need.
#pragma once

#include <cstdint>

#include "lethe/gpu/plan.cuh"
#include "lethe/gpu/state.hpp"
#include "lethe/policy_parts.hpp"

namespace lethe::gpu {

/// The shape of a state for a round's settings: those of its scores in memory.
[[nodiscard]] inline StateShape shape_for(const PlanSettings& settings, std::uint32_t layers,
                                          std::uint32_t slots, std::uint32_t capacity) {
  const ScoreRule rule = settings.score.rule;
  const bool windowed = rule == ScoreRule::window;
  return {.layers = layers,
          .slots = slots,
          .capacity = capacity,
          .window = windowed ? static_cast<std::uint32_t>(settings.score.window.window) : 0u,
          .scores = windowed || rule == ScoreRule::rasr};
}

/// The host's policies as settings of a round; capacity and step_tokens are left to the engine.
namespace policies {

namespace detail {

template <class Score>
[[nodiscard]] PlanSettings with_uniform(const PolicyParts<Score, UniformBudgetConfig>& parts,
                                        const ScoreSettings& score) {
  return {
      .policy = parts.policy, .score = score, .rule = BudgetRule::uniform, .uniform = parts.budget};
}

}  // namespace detail

/// As lethe::policies::Lethe; its decay goes to RasrWeights.
[[nodiscard]] inline PlanSettings lethe(const LetheConfig& config = {}) {
  const auto parts = parts_of(config);
  return {.policy = parts.policy, .breakpoint = parts.budget};
}

/// As lethe::policies::H2O; RasrWeights with a decay of 1.
[[nodiscard]] inline PlanSettings h2o(const H2OConfig& config = {}) {
  return detail::with_uniform(parts_of(config), {});
}

/// As lethe::policies::TOVA.
[[nodiscard]] inline PlanSettings tova(const TOVAConfig& config = {}) {
  const auto parts = parts_of(config);
  return detail::with_uniform(parts, {.rule = ScoreRule::window, .window = parts.score});
}

/// As lethe::policies::SnapKV.
[[nodiscard]] inline PlanSettings snap_kv(const SnapKVConfig& config = {}) {
  const auto parts = parts_of(config);
  return detail::with_uniform(parts, {.rule = ScoreRule::window, .window = parts.score});
}

/// As lethe::policies::StreamingLLM, which throws std::invalid_argument as it does.
[[nodiscard]] inline PlanSettings streaming_llm(const StreamingLLMConfig& config = {}) {
  return detail::with_uniform(parts_of(config), {.rule = ScoreRule::none});
}

/// As lethe::policies::RandomAttention.
[[nodiscard]] inline PlanSettings random_attention(const RandomAttentionConfig& config = {}) {
  const auto parts = parts_of(config);
  return detail::with_uniform(parts, {.rule = ScoreRule::random, .random = parts.score});
}

}  // namespace policies
}  // namespace lethe::gpu
