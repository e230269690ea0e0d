/// The plans of a round, their check, and the move.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

#include "lethe/cache_view.hpp"
#include "lethe/planner.hpp"
#include "lethe/round/space.hpp"

namespace lethe::detail {

/// Turns jobs into plans and applies them, to the cache, the scores and the positions.
template <class Scorer, class Allocator, class Cache>
class Move {
 public:
  explicit Move(const RoundContext<Scorer, Cache>& round, const Allocator& allocator)
      : round_(round),
        state_(round.state),
        space_(round.space),
        cache_(round.cache),
        tokens_(round.tokens),
        allocator_(allocator) {}

  /// Plans every job that drops tokens, as far as max_move_bytes goes, one layer at least; and of
  /// those that would wait as many as a total over all layers needs.
  template <bool Traced>
  void plan_all() {
    space_.plans.clear();
    space_.plan_protection.clear();
    std::size_t moved = 0;
    for (LayerJob& job : space_.jobs) {
      if (job.outcome != Outcome::pruned) continue;
      const std::size_t bytes = bytes_moved(job);
      const bool first = moved == 0 && (job.forced || space_.total_due);
      if (may_wait(job) && !first && moved + bytes > state_.config.max_move_bytes) {
        job.outcome = Outcome::postponed;
        continue;
      }
      moved += bytes;
      plan_timed<Traced>(job);
    }
    for (LayerJob& job : space_.jobs) {
      const bool waits = job.outcome == Outcome::postponed;
      if (!waits || !over_totals(round_, allocator_, space_.planned)) continue;
      job.outcome = Outcome::pruned;
      plan_timed<Traced>(job);
    }
  }

  /// Checks every plan, then moves all of them. Returns seconds.
  template <bool Traced>
  [[nodiscard]] double apply_all() {
    const auto begin = now<Traced>();
    for (std::size_t i = 0; i < space_.plans.size(); ++i) {
      const PlanFault fault = check_plan(space_.plans[i], space_.plan_protection[i]);
      if (fault != PlanFault::none) refuse_plan(space_.plans[i], fault);
    }
    pass_turn();
    if (space_.plans.empty()) return 0;
    if (!overwritten()) {
      cache_.apply(std::span<const EvictionPlan>(space_.plans.data(), space_.plans.size()));
      for (const EvictionPlan& plan : space_.plans) follow(plan);
    }
    return seconds_since<Traced>(begin);
  }

 private:
  [[nodiscard]] bool may_wait(const LayerJob& job) const {
    return state_.config.max_move_bytes != 0 &&
           job.before + tokens_ <= state_.layers[job.layer].bound &&
           state_.fits_heads(space_.longest[job.layer], tokens_);
  }

  /// The most bytes that a job's plan moves.
  [[nodiscard]] std::size_t bytes_moved(const LayerJob& job) const {
    const std::size_t most = state_.guards() ? std::max(job.hard_limit, job.tokens) : job.tokens;
    return (most - job.prefix_tokens) * token_bytes_of(cache_, job.layer);
  }

  /// The next round begins with the first layer that waits, or behind the last that moves.
  void pass_turn() {
    for (const LayerJob& job : space_.jobs) {
      if (job.outcome != Outcome::postponed) continue;
      state_.next_layer = job.layer;
      return;
    }
    if (space_.plans.empty()) return;
    state_.next_layer = (space_.plans[space_.plans.size() - 1].layer + 1u) % state_.config.layers;
  }

  template <bool Traced>
  void plan_timed(LayerJob& job) {
    const auto begin = now<Traced>();
    plan_layer(job);
    job.plan_seconds += seconds_since<Traced>(begin);
  }

  void plan_layer(LayerJob& job) {
    if (state_.config.scope == Scope::head) return plan_heads(job);
    if (state_.config.scope == Scope::sequence && !space_.plans.empty()) {
      job.lost_mass = space_.jobs.front().lost_mass;
      job.outcome = space_.jobs.front().outcome;
      return add_plan(job, all_heads, space_.plans.front().kept);
    }
    const bool whole = state_.config.scope == Scope::sequence;
    const std::span<const float> scores =
        whole ? std::span<const float>(space_.sequence_scores).first(job.before)
              : space_.layer_scores(state_, job.layer);
    add_plan(job, all_heads, select(job, scores, 0));
  }

  void plan_heads(LayerJob& job) {
    if constexpr (HeadBudgetAllocator<Allocator>) return plan_unequal_heads(job);
    // Recents stay those of the budget: a guard's extra tokens are for scores.
    const std::size_t budget = job.tokens;
    if (state_.guards()) guard_heads(job);
    job.protected_tokens = 0;
    double lost = 0;
    for (std::size_t head = 0; head < state_.config.groups; ++head) {
      LayerJob own = head_job(job, head, budget);
      own.hard_limit = job.tokens;
      job.protected_tokens = std::max(job.protected_tokens, own.protected_tokens);
      const std::span<const Slot> kept =
          select(own, space_.head_scores(state_, job.layer, head), head);
      add_plan(own, static_cast<std::uint32_t>(head), kept);
      lost += own.lost_mass / static_cast<double>(state_.config.groups);
    }
    job.lost_mass = lost;
  }

  /// Heads keep job.tokens on average, each as many as the allocator says.
  void plan_unequal_heads(LayerJob& job) {
    const std::size_t heads = state_.config.groups;
    for (std::size_t head = 0; head < heads; ++head) put_share(job, head);
    allocator_.share(std::span(space_.shares), job.tokens * heads, space_.share_scratch);
    std::size_t all = 0;
    std::size_t longest = 0;
    double lost = 0;
    for (std::size_t head = 0; head < heads; ++head) {
      LayerJob& own = space_.head_jobs[head];
      own.tokens = own.hard_limit = space_.shares[head].tokens;
      const std::span<const Slot> kept =
          select(own, space_.head_scores(state_, job.layer, head), head);
      add_plan(own, static_cast<std::uint32_t>(head), kept);
      all += kept.size();
      longest = std::max(longest, kept.size());
      lost += own.lost_mass / static_cast<double>(heads);
    }
    job.lost_mass = lost;
    space_.planned[job.layer] = (all + heads - 1) / heads;
    space_.longest[job.layer] = longest;
  }

  /// Shows the allocator one head: what of it is not protected, and how much it may keep.
  void put_share(const LayerJob& job, std::size_t head) {
    LayerJob& own = space_.head_jobs[head];
    own = head_job(job, head, job.tokens);
    const std::span<const Position> positions = state_.slots.positions(job.layer, head);
    const std::size_t open = positions.size() - own.protected_tokens;
    const std::span<std::uint32_t> keys =
        std::span(space_.share_keys).subspan(head * state_.config.head_capacity, open);
    make_keys(space_.head_scores(state_, job.layer, head).subspan(own.prefix_tokens, open), keys);
    space_.shares[head] = {
        .keys = keys,
        .positions = positions.subspan(own.prefix_tokens, open),
        .protected_tokens = own.protected_tokens,
        .ceiling = std::min(positions.size(), most_kept_by_head(state_.config, tokens_))};
  }

  /// Heads keep equally many tokens: as many as the one that would lose most needs.
  void guard_heads(LayerJob& job) {
    std::size_t tokens = job.tokens;
    for (std::size_t head = 0; head < state_.config.groups; ++head) {
      LayerJob own = head_job(job, head, job.tokens);
      static_cast<void>(select(own, space_.head_scores(state_, job.layer, head), head));
      tokens = std::max(tokens, own.tokens);
    }
    if (tokens > job.tokens) job.outcome = Outcome::guarded;
    job.tokens = tokens;
  }

  /// A layer's job as one head sees it; budget: tokens that recents may take.
  [[nodiscard]] LayerJob head_job(const LayerJob& job, std::size_t head, std::size_t budget) {
    LayerJob own = job;
    own.summary = summarise(space_.head_scores(state_, job.layer, head));
    space_.planner.protect(own, state_.policy.retention, state_.slots.positions(job.layer, head),
                           state_.slots.ordered(job.layer), job.protection.prefix_end, budget);
    return own;
  }

  [[nodiscard]] std::span<const Slot> select(LayerJob& job, std::span<const float> scores,
                                             std::size_t head) {
    const std::size_t each = head_slots(state_.config) + 1;
    const std::size_t row = (job.layer * state_.kept_sets() + head) * each;
    const std::span<Slot> kept = std::span(space_.kept).subspan(row, each);
    const double most = Scorer::reads_mass ? static_cast<double>(state_.config.max_lost_mass) : 1.0;
    const auto permitted = [&](std::size_t tokens) {
      return std::max(tokens, permitted_count(cache_, job.layer, tokens, job.hard_limit));
    };
    job.hard_limit =
        std::max(job.tokens, permitted_count(cache_, job.layer, job.hard_limit, job.hard_limit));
    return space_.planner.select_guarded(job, scores, state_.slots.positions(job.layer, head),
                                         state_.slots.ordered(job.layer), most, permitted, kept);
  }

  void add_plan(const LayerJob& job, std::uint32_t head, std::span<const Slot> kept) {
    const std::span<const Position> positions =
        state_.slots.positions(job.layer, head == all_heads ? 0 : head);
    space_.plans.push_back({.layer = static_cast<std::uint32_t>(job.layer),
                            .head = head,
                            .tokens = static_cast<std::uint32_t>(positions.size()),
                            .first_move = first_move_of(kept),
                            .kept = kept,
                            .positions = positions});
    space_.plan_protection.push_back(job.protection);
    space_.planned[job.layer] = space_.longest[job.layer] = kept.size();
  }

  [[noreturn]] LETHE_COLD static void refuse_plan(const EvictionPlan& plan, PlanFault fault) {
    raise<std::logic_error>("lethe: the plan of layer " + std::to_string(plan.layer) +
                            " is not sound: " + name(fault) + "; nothing was moved");
  }

  void follow(const EvictionPlan& plan) {
    const std::size_t first = plan.head == all_heads ? 0 : plan.head;
    const std::size_t last = plan.head == all_heads ? state_.config.groups : first + 1;
    for (std::size_t group = first; group < last; ++group) state_.scorer.keep(plan, group);
    state_.slots.keep(plan);
  }

  /// One token into full layers that allow it: the worst token's slot is handed on, nothing moves.
  [[nodiscard]] bool overwritten() {
    if constexpr (OverwritableCache<Cache>) {
      const auto full = [&](const EvictionPlan& plan) {
        return plan.tokens == state_.layers[plan.layer].bound && plan.head == all_heads &&
               plan.kept.size() + 1 == plan.tokens;
      };
      // A draft may be rejected, and the token whose slot it took would be lost.
      const bool stands = state_.step_tokens == 1 && !state_.speculative();
      if (!stands || !std::all_of(space_.plans.begin(), space_.plans.end(), full)) return false;
      for (const EvictionPlan& plan : space_.plans) overwrite(plan);
      return true;
    }
    return false;
  }

  void overwrite(const EvictionPlan& plan) {
    Slot victim = 0;
    for_each_dropped_range(plan, [&](Slot begin, Slot) { victim = begin; });
    cache_.overwrite(plan.layer, victim);
    state_.slots.vacate(plan.layer, victim);
    state_.forget(plan.layer, victim);
  }

  const RoundContext<Scorer, Cache>& round_;
  SequenceState<Scorer>& state_;
  RoundSpace& space_;
  Cache& cache_;
  std::size_t tokens_;
  const Allocator& allocator_;
};

}  // namespace lethe::detail
