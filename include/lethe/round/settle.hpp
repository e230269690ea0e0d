/// Around the move: the promise of make_room, checked; then cadence and trace.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "lethe/planner.hpp"
#include "lethe/round/space.hpp"
#include "lethe/sparsity.hpp"
#include "lethe/trace.hpp"

namespace lethe::detail {

/// Closes a round and checks that the step fits.
template <class Scorer, class Cache>
class Settlement {
 public:
  explicit Settlement(const RoundContext<Scorer, Cache>& round)
      : round_(round), state_(round.state), space_(round.space), tokens_(round.tokens) {}

  /// Refuses a step that will not fit, before anything moves; tells the trace of layers that
  /// cannot.
  template <class Trace>
  void require_room(Trace&& trace) const {
    const std::size_t full = first_full_layer();
    const bool over = over_caps(round_, space_.planned);
    if (full == state_.config.layers && !over) return;
    for (const LayerJob& job : space_.jobs) {
      if (!is_movable(job)) trace(statistics(job, 0));
    }
    state_.abandon_step();
    if (full != state_.config.layers) refuse_room(full);
    refuse_total();
  }

  /// Tells the trace of every job; returns the tokens dropped.
  template <class Trace>
  std::size_t settle(double apply_seconds, Trace&& trace) {
    std::size_t dropped = 0;
    for (const LayerJob& job : space_.jobs) {
      LayerCadence& state = state_.layers[job.layer];
      const bool waits = job.outcome == Outcome::busy || job.outcome == Outcome::postponed;
      if (!waits) state.since_round = 0;
      if (job.outcome == Outcome::spread_out && job.before >= state.threshold) {
        state.threshold = std::min<std::uint64_t>(2 * state.threshold, state.bound);
      }
      dropped += job.before - state_.slots.held(job.layer);
      trace(statistics(job, apply_seconds));
    }
    return dropped;
  }

 private:
  /// The first layer in which the step will not fit; layers when there is none.
  [[nodiscard]] std::size_t first_full_layer() const {
    std::size_t layer = 0;
    for (; layer < state_.config.layers; ++layer) {
      const bool fits = space_.planned[layer] + tokens_ <= state_.layers[layer].bound &&
                        state_.fits_heads(space_.longest[layer], tokens_);
      if (state_.layers[layer].tracked != 0 && !fits) break;
    }
    return layer;
  }

  [[nodiscard]] RoundStatistics statistics(const LayerJob& job, double apply_seconds) const {
    return {
        .layer = job.layer,
        .outcome = job.outcome,
        .tokens_seen = static_cast<std::size_t>(state_.committed),
        .tokens_before = job.before,
        .tokens_after = state_.slots.held(job.layer),
        .tokens_protected = job.protected_tokens,
        .sparsity = Scorer::reads_mass && job.summary.finite ? hoyer_sparsity(job.summary) : 0.0,
        .breakpoint = job.budget.breakpoint,
        .threshold = state_.layers[job.layer].threshold,
        .lost_mass = Scorer::reads_mass ? job.lost_mass : 0.0,
        .plan_seconds = job.plan_seconds,
        .apply_seconds = apply_seconds};
  }

  [[noreturn]] LETHE_COLD static void refuse_total() {
    raise<std::length_error>(
        "lethe: the total over all layers cannot be held: protected tokens, busy layers or layers "
        "with non-finite scores fill it; raise total_capacity or total_bytes. Nothing was moved");
  }

  /// Why a layer cannot be pruned far enough.
  [[nodiscard]] LETHE_COLD std::string obstacle(std::size_t layer) const {
    for (const LayerJob& job : space_.jobs) {
      if (job.layer != layer || is_movable(job)) continue;
      return job.outcome == Outcome::busy
                 ? "it is busy"
                 : "it has non-finite scores, which forget_scores(layer) starts anew";
    }
    return "its protected tokens leave no room";
  }

  [[noreturn]] LETHE_COLD void refuse_room(std::size_t layer) const {
    if (space_.planned[layer] + tokens_ <= state_.layers[layer].bound) refuse_head(layer);
    raise<std::length_error>("lethe: layer " + std::to_string(layer) + " holds " +
                             std::to_string(state_.slots.held(layer)) + " tokens, its bound is " +
                             std::to_string(state_.layers[layer].bound) + ", and " +
                             std::to_string(tokens_) + " more cannot fit: " + obstacle(layer) +
                             ". Nothing was moved");
  }

  /// The layer has room, and its longest head has none.
  [[noreturn]] LETHE_COLD void refuse_head(std::size_t layer) const {
    raise<std::length_error>("lethe: layer " + std::to_string(layer) + " holds " +
                             std::to_string(state_.slots.longest(layer)) +
                             " tokens in its longest head, head_capacity is " +
                             std::to_string(state_.config.head_capacity) + ", and " +
                             std::to_string(tokens_) + " more cannot fit: " + obstacle(layer) +
                             "; raise head_capacity. Nothing was moved");
  }

  const RoundContext<Scorer, Cache>& round_;
  SequenceState<Scorer>& state_;
  RoundSpace& space_;
  std::size_t tokens_;
};

}  // namespace lethe::detail
