/// Work space of a round, and what its steps share. Nothing is allocated after construction.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <span>
#include <vector>

#include "lethe/budget.hpp"
#include "lethe/cache_view.hpp"
#include "lethe/fixed_list.hpp"
#include "lethe/planner.hpp"
#include "lethe/sequence_state.hpp"

namespace lethe::detail {

/// The jobs and plans of one round.
struct RoundSpace {
  /// kept_sets: plans of a layer.
  RoundSpace(const PrunerConfig& config, std::size_t kept_sets)
      : planner(head_slots(config)),
        kept(config.layers * kept_sets * (head_slots(config) + 1), 0),
        shares(config.head_capacity != 0 ? config.groups : 0),
        head_jobs(shares.size()),
        share_keys(shares.size() * config.head_capacity, 0),
        share_scratch(2 * share_keys.size() + 1, 0),
        sequence_scores(config.scope == Scope::sequence ? config.capacity : 0, 0.0f),
        claims(config.layers),
        jobs(config.layers),
        plans(config.layers * kept_sets),
        plan_protection(config.layers * kept_sets),
        planned(config.layers, 0),
        longest(config.layers, 0) {}

  /// The job of a layer whose tokens may move in this round; null when there is none.
  [[nodiscard]] const LayerJob* job_of(std::size_t layer) const {
    for (const LayerJob& job : jobs) {
      if (job.layer == layer) return is_movable(job) ? &job : nullptr;
    }
    return nullptr;
  }

  /// The scores of one head that keeps a set of its own.
  template <class Scorer>
  [[nodiscard]] std::span<const float> head_scores(SequenceState<Scorer>& state, std::size_t layer,
                                                   std::size_t head) {
    return state.scorer.score(layer, head, state.slots.positions(layer, head),
                              planner.head_scores());
  }

  /// The scores of a layer, its groups summed.
  template <class Scorer>
  [[nodiscard]] std::span<const float> layer_scores(SequenceState<Scorer>& state,
                                                    std::size_t layer) {
    return planner.layer_scores(state.scorer, state.slots, layer, state.config.groups);
  }

  Planner planner;
  std::vector<Slot> kept;
  /// One layer's heads, where they keep unequal counts.
  std::vector<HeadShare> shares;
  std::vector<LayerJob> head_jobs;
  std::vector<std::uint32_t> share_keys;
  std::vector<std::uint32_t> share_scratch;
  std::vector<float> sequence_scores;
  std::vector<Claim> claims;
  FixedList<LayerJob> jobs;
  FixedList<EvictionPlan> plans;
  FixedList<Protection> plan_protection;
  /// Tokens that each layer will hold: what it holds now, or what its plan keeps.
  std::vector<std::size_t> planned;
  /// The same of its longest head.
  std::vector<std::size_t> longest;
  /// The round was called for by a limit over all layers.
  bool total_due = false;
};

/// The most tokens of one head that a round leaves, the step's yet to come; with room to spare, so
/// that the head is not due again at once.
[[nodiscard]] inline std::size_t most_kept_by_head(const PrunerConfig& config, std::size_t tokens) {
  const std::size_t slots = head_slots(config);
  return slots - std::max(tokens, slack_tokens(config.slack_ratio, slots));
}

/// With a limit on moves, rounds come half the slack before a bound or a total, so that layers can
/// be taken in turn.
[[nodiscard]] inline std::size_t spread_tokens(const PrunerConfig& config, std::size_t bound) {
  return config.max_move_bytes != 0 ? slack_tokens(config.slack_ratio, bound) / 2 : 0;
}

/// What a round works on: the step's `tokens` are yet to be appended.
template <class Scorer, class Cache>
struct RoundContext {
  SequenceState<Scorer>& state;
  RoundSpace& space;
  Cache& cache;
  std::size_t tokens = 0;
};

/// Whether a cap over all layers would be passed by the step, if layers held counts[layer]; early:
/// or nearly.
template <class Scorer, class Cache>
[[nodiscard]] bool over_caps(const RoundContext<Scorer, Cache>& round,
                             std::span<const std::size_t> counts, bool early = false) {
  if (round.state.config.total_capacity == 0 && round.state.config.total_bytes == 0) return false;
  std::size_t count = 0;
  std::size_t bytes = 0;
  for (std::size_t layer = 0; layer < round.state.config.layers; ++layer) {
    if (round.state.layers[layer].tracked == 0) continue;
    count += counts[layer] + round.tokens;
    bytes += (counts[layer] + round.tokens) * token_bytes_of(round.cache, layer);
  }
  const auto passed = [&](std::size_t held, std::size_t total) {
    return total != 0 && held + (early ? spread_tokens(round.state.config, total) : 0) > total;
  };
  return passed(count, round.state.config.total_capacity) ||
         passed(bytes, round.state.config.total_bytes);
}

/// The same of those caps and of a budget that all layers share, which the slack may outgrow.
template <class Scorer, class Cache, class Allocator>
[[nodiscard]] bool over_totals(const RoundContext<Scorer, Cache>& round, const Allocator& allocator,
                               std::span<const std::size_t> counts, bool early = false) {
  if constexpr (GlobalBudgetAllocator<Allocator>) {
    const PrunerConfig& config = round.state.config;
    const std::size_t total = allocator.total();
    std::size_t held = early ? spread_tokens(config, total) : 0;
    for (std::size_t layer = 0; layer < config.layers; ++layer) {
      if (round.state.layers[layer].tracked != 0) held += counts[layer] + round.tokens;
    }
    if (held > total + slack_tokens(config.slack_ratio, total)) return true;
  }
  return over_caps(round, counts, early);
}

/// Seconds on the system's clock, 0 when nobody asks. <ctime>, since <chrono> alone takes as long
/// to compile as the rest.
template <bool Traced>
[[nodiscard]] double now() {
  std::timespec time{};
  if constexpr (Traced) std::timespec_get(&time, TIME_UTC);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

/// Never negative, also when the clock has been set back.
template <bool Traced>
[[nodiscard]] double seconds_since(double begin) {
  const double seconds = now<Traced>() - begin;
  return seconds > 0 ? seconds : 0;
}

}  // namespace lethe::detail
