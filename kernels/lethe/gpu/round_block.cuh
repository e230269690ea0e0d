/// A round over a batch: what each block of its grid does, and what the host refuses beforehand.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/gpu/block.cuh"
#include "lethe/gpu/observe_block.cuh"
#include "lethe/gpu/plan.cuh"
#include "lethe/gpu/score_rows.cuh"
#include "lethe/gpu/state.hpp"
#include "lethe/gpu/status.hpp"
#include "lethe/gpu/window_block.cuh"

namespace lethe::gpu {

/// Plans every layer of every row of a batch.
struct Round {
  State state{};
  Batch batch{};
  PlanSettings settings{};
  PlanBuffers plans{};
  /// What was decided, by plan number, in device memory; null: nobody asks. With several kept sets
  /// each tells what its own scores are like, and the layer's outcome and count.
  LayerPlan* decisions = nullptr;
  /// Scores to plan from in place of the state's, with ScoreRule::rasr: those of gather_scores,
  /// summed over ranks. Null: the state's.
  const float* scores = nullptr;
  /// This rank's first kept set among those of all ranks that agree on counts. Where several sets
  /// leave a layer whole, the first of them says why, as on the host.
  std::uint32_t first_set = 0;
};

namespace detail {

[[nodiscard]] inline const char* fault_of_retention(const Retention& retention) {
  const bool ratio = retention.recent_ratio >= 0.0f && retention.recent_ratio < 1.0f;
  if (!ratio) return "recent_ratio: choose a share from 0 to below 1";
  const bool share = retention.recent_share >= 0.0f && retention.recent_share <= 1.0f;
  return share ? nullptr : "recent_share: choose a share from 0 to 1";
}

[[nodiscard]] inline const char* fault_of_score(const ScoreSettings& score,
                                                const StateShape& shape) {
  if (score.rule == ScoreRule::random || score.rule == ScoreRule::none) return nullptr;
  if (!shape.scores) return "scores: this score needs them in the state's shape";
  const std::size_t window = score.rule == ScoreRule::window ? score.window.window : 0;
  if (score.rule == ScoreRule::window && window == 0) return "window: choose at least 1 query";
  if (window != shape.window) return "window: give the state's shape that of the score, else 0";
  if (score.window.pool % 2 == 0) return "pool: choose an odd number of tokens";
  return nullptr;
}

/// Sets that agree on a count have it from their decayed mass and their budget alone.
[[nodiscard]] inline const char* fault_of_agreement(const PlanSettings& settings) {
  const bool rasr = settings.score.rule == ScoreRule::rasr;
  if (!rasr) return "score: choose rasr where sets agree on a count";
  const bool guarded = settings.max_lost_mass < 1.0f;
  return guarded ? "max_lost_mass: leave it at 1 where sets agree on a count" : nullptr;
}

[[nodiscard]] inline const char* fault_of_scope(const PlanSettings& settings,
                                                const StateShape& shape) {
  if (shape.scope != Scope::layer) return fault_of_agreement(settings);
  const bool summed = shape.groups != 1 && settings.score.rule != ScoreRule::rasr;
  return summed ? "score: choose rasr where a layer has groups" : nullptr;
}

[[nodiscard]] inline const char* fault_of_table(const LayerTable& table) {
  if (table.budgets == nullptr) return "table: give the layers' budgets, in device memory";
  return table.entries == 0 ? "table: give at least one entry" : nullptr;
}

[[nodiscard]] inline const char* fault_of_budget(const PlanSettings& settings) {
  const bool ratio = settings.breakpoint.sparsity_ratio > 1.0f;
  if (!ratio) return "sparsity_ratio: choose a value above 1";
  const std::size_t segments = settings.breakpoint.segments;
  if (segments < 1 || segments >> 32 != 0) return "segments: choose 1 to 2^32 - 1";
  const float share = settings.mass_target.share;
  if (!(share > 0.0f && share <= 1.0f)) return "share: choose a share above 0 and at most 1";
  if (settings.pyramid.budget == 0) return "budget: choose at least 1 token for a pyramid";
  if (settings.pyramid.beta == 0) return "beta: choose at least 1";
  const bool table = settings.rule == BudgetRule::table;
  if (const char* fault = table ? fault_of_table(settings.table) : nullptr) return fault;
  const bool lost = settings.max_lost_mass >= 0.0f && settings.max_lost_mass <= 1.0f;
  if (!lost) return "max_lost_mass: choose a share from 0 to 1";
  return settings.block_tokens >= 1 ? nullptr : "block_tokens: give 1 where counts are free";
}

[[nodiscard]] inline const char* fault_of_settings(const PlanSettings& settings,
                                                   const StateShape& shape) {
  if (settings.capacity != shape.capacity) return "capacity: give that of the state";
  if (settings.step_tokens > settings.capacity) return "step_tokens: append at most the capacity";
  const bool slack = settings.slack_ratio >= 0.0f && settings.slack_ratio < 1.0f;
  if (!slack) return "slack_ratio: choose a share from 0 to below 1";
  const char* fault = fault_of_retention(settings.policy.retention);
  if (fault == nullptr) fault = fault_of_score(settings.score, shape);
  if (fault == nullptr) fault = fault_of_scope(settings, shape);
  return fault != nullptr ? fault : fault_of_budget(settings);
}

[[nodiscard]] inline const char* fault_of_plans(const Round& round) {
  const StateShape& shape = round.state.shape;
  const PlanBuffers& plans = round.plans;
  if (plans.kept == nullptr) return "plans: give them memory by place_plans";
  if (round.scores != nullptr && round.settings.score.rule != ScoreRule::rasr) {
    return "scores: gathered ones are for rasr; choose it, or give null";
  }
  const bool summed = shape.groups != shape.sets() && round.scores == nullptr;
  const bool whole = shape.scope == Scope::sequence;
  if ((summed && plans.sums == nullptr) || (whole && plans.shares == nullptr)) {
    return "plans: give place_plans the groups and the scope of the state";
  }
  const bool fits = round.first_set <= most_sets - shape.sets();
  return fits ? nullptr : "first_set: all ranks together have at most 2^29 sets";
}

/// A set as a round finds it, apart from its scores and its layer's trigger.
[[nodiscard]] LETHE_BLOCK_CODE inline LayerInput input_of(const Round& round,
                                                          const SetPlace& place) {
  const State& state = round.state;
  const std::size_t number = state.number(place.layer, place.slot);
  return {.positions = state.position_row(number, place.set),
          .tokens = state.lengths[number],
          .pinned = state.pinned[place.slot],
          .layer = place.layer,
          .layers = state.shape.layers};
}

[[nodiscard]] LETHE_BLOCK_CODE inline ScoreSource source_of(const Round& round) {
  return {round.state, round.scores, round.batch.rows, round.plans.sums};
}

[[nodiscard]] inline const char* fault_of_round(const Round& round) {
  const char* fault = fault_of_state(round.state);
  if (fault == nullptr) fault = fault_of_batch(round.batch, round.state.shape.slots);
  if (fault == nullptr) fault = fault_of_settings(round.settings, round.state.shape);
  return fault != nullptr ? fault : fault_of_plans(round);
}

}  // namespace detail

/// What the host can tell before anything is launched; the status names the field and the remedy.
/// O(1).
[[nodiscard]] inline Status check(const Round& round) {
  const char* fault = detail::fault_of_round(round);
  return fault == nullptr ? Status{} : refused("plan_round", fault);
}

/// The same for a half of a round, by the name of its `call`: whatever the scope, its sets agree on
/// a count, so ScoreRule::rasr and a max_lost_mass of 1 are required.
[[nodiscard]] inline Status check_half(const char* call, const Round& round) {
  const char* fault = detail::fault_of_round(round);
  if (fault == nullptr) fault = detail::fault_of_agreement(round.settings);
  return fault == nullptr ? Status{} : refused(call, fault);
}

namespace detail {

/// Plans a layer by the scores that the settings name; they are made only where it is due.
template <ThreadBlock Block>
[[nodiscard]] LETHE_BLOCK_CODE LayerPlan plan_scored(const Block& block, PlanShared& shared,
                                                     const Round& round, std::uint32_t slot,
                                                     const LayerInput& input, Slot* kept) {
  const PlanSettings& settings = round.settings;
  const ScoreSettings& score = settings.score;
  const std::uint32_t seen = round.state.next_positions[slot];
  if (score.rule == ScoreRule::random || score.rule == ScoreRule::none) {
    const std::uint64_t stream =
        lethe::detail::draw_stream(score.random.seed, seen, input.layer, 0);
    const DrawnScores drawn(input.positions, stream, score.rule == ScoreRule::random);
    return plan_layer(block, shared, settings, input, drawn, kept);
  }
  if (score.rule == ScoreRule::window && is_due(settings, input.tokens, input.cadence)) {
    const WindowInput window{.mass = round.state.window(round.state.number(input.layer, slot)),
                             .positions = input.positions,
                             .tokens = input.tokens,
                             .seen = seen,
                             .ordered = settings.ordered};
    float* scores = round.state.scores + round.state.number(input.layer, slot) * settings.capacity;
    window_scores(block, window, score.window, scores, kept);
  }
  return plan_layer(block, shared, settings, input, input.scores, kept);
}

}  // namespace detail

/// A block of plan_round where a layer is one kept set: one layer of one row.
template <ThreadBlock Block>
LETHE_BLOCK_CODE void plan_block(const Block& block, detail::PlanShared& shared, const Round& round,
                                 std::uint32_t layer, std::uint32_t row) {
  detail::SetPlace place{layer, row};
  const State& state = round.state;
  if (!detail::slot_of_row(round.batch, state.shape.slots, row, place.slot)) return;
  const std::size_t number = state.number(layer, place.slot);
  LayerInput input = detail::input_of(round, place);
  input.cadence = block.read(state.cadences[number]);
  if (state.scores != nullptr && detail::is_due(round.settings, input.tokens, input.cadence)) {
    const detail::ScoreSource source = detail::source_of(round);
    detail::sum_groups(block, source, place);
    input.scores = source.row(place);
  }
  Slot* const kept = round.plans.kept + number * state.shape.capacity;
  const LayerPlan plan = detail::plan_scored(block, shared, round, place.slot, input, kept);
  block.lanes([&](unsigned lane) {
    if (lane != 0) return;
    state.cadences[number] = plan.cadence;
    round.plans.counts[number] = plan.kept;
    round.plans.first_moves[number] = plan.first_move;
    if (round.decisions != nullptr) round.decisions[number] = plan;
  });
}

}  // namespace lethe::gpu
