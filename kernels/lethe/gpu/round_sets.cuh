/// A round in two halves, for kept sets that keep equally many tokens: heads of a layer, or the
/// sets of tensor-parallel ranks. First each set says how many tokens it needs; then each selects
/// its own best, as many as the neediest needs. A sequence whose layers keep one set takes the same
/// way.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/gpu/block.cuh"
#include "lethe/gpu/claims.cuh"
#include "lethe/gpu/plan.cuh"
#include "lethe/gpu/round_block.cuh"
#include "lethe/gpu/score_rows.cuh"
#include "lethe/gpu/sequence_scores.cuh"

namespace lethe::gpu {

namespace detail {

[[nodiscard]] LETHE_BLOCK_CODE inline bool keeps_one_set(const Round& round) {
  return round.state.shape.scope == Scope::sequence;
}

/// Of a row of scores.
template <ThreadBlock Block>
using RowPlanner = LayerPlanner<Block, const float*>;

/// The scores that a set is planned from.
template <ThreadBlock Block>
[[nodiscard]] LETHE_BLOCK_CODE const float* set_scores(const Block& block, const Round& round,
                                                       const SetPlace& place) {
  if (keeps_one_set(round)) {
    return round.plans.shares + std::size_t{place.slot} * round.state.shape.capacity;
  }
  const ScoreSource source = source_of(round);
  sum_groups(block, source, place);
  return source.row(place);
}

template <ThreadBlock Block>
[[nodiscard]] LETHE_BLOCK_CODE LayerPlan examine_set(const Block& block, PlanShared& shared,
                                                     const Round& round, const SetPlace& place) {
  const State& state = round.state;
  LayerInput input = input_of(round, place);
  input.cadence = block.read(state.cadences[state.number(place.layer, place.slot)]);
  bool due = is_due(round.settings, input.tokens, input.cadence);
  if (keeps_one_set(round)) {
    const SequenceLayers layers = layers_of(state, round.settings, place.slot);
    LayerPlan busy = untouched(input);
    busy.examined = true;
    busy.outcome = Outcome::busy;
    if (layers.due && !layers.equal) return busy;
    due = layers.due;
  }
  if (!due || input.tokens == 0) return untouched(input);
  input.scores = set_scores(block, round, place);
  const bool forced = is_forced(round.settings, input.tokens);
  return RowPlanner<Block>(block, shared, round.settings, input, input.scores).examined(forced);
}

/// What becomes of one layer, by one lane. plan: its set's slots, where it is pruned.
LETHE_BLOCK_CODE inline void settle_layer(const Round& round, const SetPlace& place,
                                          const Agreement& agreed, const LayerPlan& plan) {
  const State& state = round.state;
  const std::size_t number = state.number(place.layer, place.slot);
  const std::size_t own = number * state.shape.sets() + place.set;
  const std::uint32_t tokens = state.lengths[number];
  const bool pruned = agreed.outcome == Outcome::pruned;
  const std::uint32_t kept = pruned ? plan.kept : tokens;
  const std::uint32_t first_move = pruned ? plan.first_move : tokens;
  round.plans.counts[own] = kept;
  round.plans.first_moves[own] = first_move;
  LayerPlan* const decision = round.decisions != nullptr ? round.decisions + own : nullptr;
  // A layer's first set writes its trigger, so the others must not read it.
  Cadence cadence = place.set == 0 ? state.cadences[number]
                                   : (decision != nullptr ? decision->cadence : Cadence{});
  const bool settled = agreed.examined && agreed.outcome != Outcome::busy;
  if (settled) cadence = next_cadence(round.settings, cadence, tokens, agreed.outcome);
  if (place.set == 0) state.cadences[number] = cadence;
  if (decision == nullptr) return;
  decision->tokens = tokens;
  decision->kept = kept;
  decision->first_move = first_move;
  decision->outcome = agreed.outcome;
  decision->cadence = cadence;
  if (pruned) decision->protected_tokens = plan.protected_tokens;
}

/// The layers of a sequence do as the first.
template <ThreadBlock Block>
LETHE_BLOCK_CODE void copy_first_layer(const Block& block, const Round& round, std::uint32_t slot,
                                       std::uint32_t kept) {
  const State& state = round.state;
  const std::size_t capacity = state.shape.capacity;
  const Slot* const first = round.plans.kept + slot * capacity;
  block.lanes([&](unsigned lane) {
    for (std::uint32_t layer = 1; layer < state.shape.layers; ++layer) {
      const std::size_t number = state.number(layer, slot);
      for (std::uint32_t i = lane; i < kept; i += Block::threads) {
        round.plans.kept[number * capacity + i] = first[i];
      }
      const bool told = round.decisions != nullptr && layer % Block::threads == lane;
      if (told) round.decisions[number] = round.decisions[slot];
    }
  });
}

}  // namespace detail

/// A block of plan_counts: what one kept set asks. With Scope::sequence layer and set are 0.
template <ThreadBlock Block>
LETHE_BLOCK_CODE void count_block(const Block& block, detail::PlanShared& shared,
                                  const Round& round, std::uint32_t layer, std::uint32_t row,
                                  std::uint32_t set) {
  detail::SetPlace place{layer, row, set};
  const State& state = round.state;
  if (!detail::slot_of_row(round.batch, state.shape.slots, row, place.slot)) return;
  const LayerPlan plan = detail::examine_set(block, shared, round, place);
  const std::size_t own = state.number(layer, place.slot) * state.shape.sets() + set;
  block.lanes([&](unsigned lane) {
    if (lane != 0) return;
    round.plans.claims[own] = detail::claim_of(plan, round.first_set + set);
    if (round.decisions != nullptr) round.decisions[own] = plan;
  });
}

/// A block of plan_kept: the slots of one kept set, or those of a whole sequence.
template <ThreadBlock Block>
LETHE_BLOCK_CODE void keep_block(const Block& block, detail::PlanShared& shared, const Round& round,
                                 std::uint32_t layer, std::uint32_t row, std::uint32_t set) {
  detail::SetPlace place{layer, row, set};
  const State& state = round.state;
  if (!detail::slot_of_row(round.batch, state.shape.slots, row, place.slot)) return;
  const std::size_t first = state.number(layer, place.slot) * state.shape.sets();
  const std::uint32_t claim =
      detail::largest_claim(block, round.plans.claims + first, state.shape.sets());
  LayerInput input = detail::input_of(round, place);
  const detail::Agreement agreed = detail::agreement_of(claim, input.tokens);
  LayerPlan plan{};
  if (agreed.outcome == Outcome::pruned) {
    input.scores = detail::set_scores(block, round, place);
    Slot* const kept = round.plans.kept + (first + set) * state.shape.capacity;
    plan = detail::RowPlanner<Block>(block, shared, round.settings, input, input.scores)
               .select_best(agreed.kept, kept);
  }
  const bool whole = detail::keeps_one_set(round);
  if (whole) detail::copy_first_layer(block, round, place.slot, plan.kept);
  const std::uint32_t end = whole ? state.shape.layers : layer + 1;
  block.lanes([&](unsigned lane) {
    for (std::uint32_t own = layer + lane; own < end; own += Block::threads) {
      detail::settle_layer(round, {own, row, set, place.slot}, agreed, plan);
    }
  });
}

}  // namespace lethe::gpu
