/// Which layers a round examines, and how many tokens each is to keep.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "lethe/budget.hpp"
#include "lethe/cache_view.hpp"
#include "lethe/planner.hpp"
#include "lethe/round/space.hpp"
#include "lethe/score.hpp"

namespace lethe::detail {

/// Fills the jobs of a round: from scores and the allocator to tokens to keep.
template <class Scorer, class Allocator, class Cache>
class Examination {
 public:
  explicit Examination(const RoundContext<Scorer, Cache>& round, const Allocator& allocator)
      : round_(round),
        state_(round.state),
        space_(round.space),
        cache_(round.cache),
        tokens_(round.tokens),
        allocator_(allocator) {}

  /// The layers that are due; none when there is nothing to do.
  void find_due() {
    space_.jobs.clear();
    for (std::size_t layer = 0; layer < state_.config.layers; ++layer) {
      space_.planned[layer] = state_.held(layer);
      space_.longest[layer] = state_.slots.longest(layer);
    }
    const bool total_due = over_totals(round_, allocator_, space_.planned, true);
    space_.total_due = total_due;
    const bool all =
        total_due || state_.config.scope == Scope::sequence || GlobalBudgetAllocator<Allocator>;
    bool any = total_due;
    for (std::size_t i = 0; i < state_.config.layers; ++i) {
      const std::size_t layer = (state_.next_layer + i) % state_.config.layers;
      const bool due = state_.layers[layer].tracked != 0 && (total_due || is_due(layer));
      any = any || due;
      if (due || (all && state_.layers[layer].tracked != 0)) add_job(layer);
    }
    if (!any) space_.jobs.clear();
  }

  /// Scores, protection and budget of every job.
  template <bool Traced>
  void examine_all() {
    if (state_.config.scope == Scope::sequence) {
      const auto begin = now<Traced>();
      examine_sequence();
      space_.jobs.front().plan_seconds += seconds_since<Traced>(begin);
      return;
    }
    for (LayerJob& job : space_.jobs) {
      const auto begin = now<Traced>();
      if (ready(job)) examine_layer(job);
      job.plan_seconds += seconds_since<Traced>(begin);
    }
  }

 private:
  void add_job(std::size_t layer) {
    const std::size_t size = state_.slots.size(layer);
    const std::size_t bound = state_.layers[layer].bound;
    const bool overlong = !state_.fits_heads(state_.slots.longest(layer), tokens_);
    const bool forced = size + tokens_ > bound - spread_tokens(state_.config, bound) || overlong;
    const std::size_t hard = std::min(overlong ? mean_of_cut(layer) : size, bound - tokens_);
    const bool one_slot = OverwritableCache<Cache> && tokens_ == 1 && !state_.speculative();
    const std::size_t slack =
        bound - (one_slot ? 1 : slack_tokens(state_.config.slack_ratio, bound));
    space_.jobs.push_back({.layer = layer,
                           .before = size,
                           .limit = forced ? std::min(hard, slack) : hard,
                           .hard_limit = hard,
                           .forced = forced});
  }

  /// The mean of a layer's heads, rounded down, if all were cut to what a head may keep.
  [[nodiscard]] std::size_t mean_of_cut(std::size_t layer) const {
    const std::size_t most = most_kept_by_head(state_.config, tokens_);
    std::size_t all = 0;
    for (std::size_t head = 0; head < state_.config.groups; ++head) {
      all += std::min(state_.slots.size(layer, head), most);
    }
    return all / state_.config.groups;
  }

  [[nodiscard]] bool is_due(std::size_t layer) const {
    const LayerCadence& state = state_.layers[layer];
    const std::size_t size = state_.slots.size(layer);
    if (size + tokens_ > state.bound - spread_tokens(state_.config, state.bound)) return true;
    if (!state_.fits_heads(state_.slots.longest(layer), tokens_)) return true;
    return state_.policy.first_threshold != 0 && size >= state.threshold &&
           state.since_round >= state_.config.round_interval;
  }

  void examine_layer(LayerJob& job) {
    if constexpr (ReadsWindow<Allocator>) job.window = window_of(job.layer);
    if constexpr (ReadsGrowth<Allocator>) job.growth = growth_of(job.layer);
    if (state_.config.scope != Scope::head) {
      return examine(job, space_.layer_scores(state_, job.layer));
    }
    // Heads keep equally many tokens, or so many on average: as many as the neediest.
    LayerJob neediest = job;
    std::size_t most_protected = 0;
    std::size_t most_prefix = 0;
    for (std::size_t head = 0; head < state_.config.groups; ++head) {
      LayerJob own = job;
      examine(own, space_.head_scores(state_, job.layer, head), head);
      most_protected = std::max(most_protected, own.protected_tokens);
      most_prefix = std::max(most_prefix, own.prefix_tokens);
      if (!is_movable(own) || head == 0 || kept_by(own) > kept_by(neediest)) neediest = own;
      if (!is_movable(own)) break;
    }
    job = neediest;
    job.protected_tokens = most_protected;
    job.prefix_tokens = most_prefix;
  }

  [[nodiscard]] WindowStatistics window_of(std::size_t layer) {
    const bool apart = state_.config.scope == Scope::head;
    WindowStatistics sum;
    for (std::size_t group = 0; group < state_.config.groups; ++group) {
      const WindowStatistics own = state_.scorer.window_statistics(
          layer, group, state_.slots.positions(layer, apart ? group : 0));
      sum.entropy += own.entropy;
      sum.variance += own.variance;
    }
    return sum;
  }

  [[nodiscard]] std::size_t growth_of(std::size_t layer) const {
    std::size_t most = 0;
    for (std::size_t group = 0; group < state_.config.groups; ++group) {
      most = std::max(most, state_.scorer.growth(layer, group));
    }
    return most;
  }

  [[nodiscard]] bool ready(LayerJob& job) {
    if (state_of(cache_, job.layer) == LayerState::busy) {
      job.outcome = Outcome::busy;
      return false;
    }
    state_.flush_layer(cache_, job.layer);
    if constexpr (ReadsCache<Scorer>) {
      static_assert(
          CacheReadingScorer<Scorer, Cache>,
          "this score needs a cache with read_keys or read_values(layer, head, slot, out)");
      show_cache(job.layer);
    }
    return true;
  }

  void show_cache(std::size_t layer) {
    const bool apart = state_.config.scope == Scope::head;
    for (std::size_t group = 0; group < state_.config.groups; ++group) {
      state_.scorer.read(cache_, layer, group, state_.slots.positions(layer, apart ? group : 0));
    }
  }

  /// One plan for all layers: examined as one layer, held back when any of them cannot move.
  void examine_sequence() {
    LayerJob& first = space_.jobs.front();
    for (LayerJob& job : space_.jobs) {
      if (!ready(job)) first.outcome = Outcome::busy;
      if (job.before != first.before) {
        refuse("scope", "sequence", "every layer must hold equally many tokens");
      }
      first.limit = std::min(first.limit, job.limit);
      first.hard_limit = std::min(first.hard_limit, job.hard_limit);
      first.forced = first.forced || job.forced;
    }
    if (first.outcome == Outcome::busy) return copy_first_job();
    const std::span<float> sum = std::span(space_.sequence_scores).first(first.before);
    examine(first, space_.planner.sequence_scores(state_.scorer, state_.slots,
                                                  {space_.jobs.data(), space_.jobs.size()},
                                                  state_.config.groups, sum));
    copy_first_job();
  }

  void copy_first_job() {
    for (LayerJob& job : space_.jobs) {
      const std::size_t layer = job.layer;
      job = space_.jobs.front();
      job.layer = layer;
    }
  }

  void examine(LayerJob& job, std::span<const float> scores, std::size_t head = 0) {
    job.summary = summarise(scores);
    if (!job.summary.finite) {
      job.outcome = Outcome::non_finite;
      return;
    }
    const std::span<const Position> positions = state_.slots.positions(job.layer, head);
    const bool ordered = state_.slots.ordered(job.layer);
    const Position prefix = prefix_end(job.layer);
    space_.planner.protect(job, state_.policy.retention, positions, ordered, prefix, job.limit);
    job.limit = std::max(job.limit, std::min(job.prefix_tokens, job.hard_limit));
    const LayerScores view =
        space_.planner.view(job, state_.config.layers, scores, positions, ordered);
    job.budget = allocator_.budget(view);
    if constexpr (GlobalBudgetAllocator<Allocator>) {
      // Heads of their own: the layer claims what its neediest does.
      double& weight = space_.claims[job.layer].weight;
      const double own = usable_weight(allocator_.weight(view));
      weight = head == 0 ? own : std::max(weight, own);
    }
    set_tokens(job, positions, ordered);
  }

  void set_tokens(LayerJob& job, std::span<const Position> positions, bool ordered) {
    if (job.budget.spread_out && !job.forced) {
      job.outcome = Outcome::spread_out;
      return;
    }
    const std::size_t own = std::min(wish(job), job.limit);
    const std::size_t wanted = permitted(job.layer, own, job.limit);
    if (changes_recents(job, state_.policy.retention, wanted)) {
      space_.planner.protect(job, state_.policy.retention, positions, ordered,
                             job.protection.prefix_end, wanted);
    }
    job.tokens = wanted;
    if (wanted < job.protected_tokens) {
      job.tokens =
          std::max(job.protected_tokens, permitted(job.layer, job.protected_tokens, job.limit));
    }
    if (job.tokens >= job.before) job.outcome = Outcome::nothing_to_drop;
  }

  /// Of a total that is shared, and then cut, a layer wants all: a mean would unprotect recents.
  [[nodiscard]] static std::size_t wish(const LayerJob& job) {
    return GlobalBudgetAllocator<Allocator> ? job.limit : job.budget.tokens;
  }

  /// Counts of heads that differ stay as they are: their mean is the count of none.
  [[nodiscard]] std::size_t permitted(std::size_t layer, std::size_t tokens,
                                      std::size_t limit) const {
    return state_.config.head_capacity != 0 ? tokens
                                            : permitted_count(cache_, layer, tokens, limit);
  }

  [[nodiscard]] Position prefix_end(std::size_t layer) const {
    std::size_t end = state_.prefix_end();
    if (state_.config.scope != Scope::sequence) {
      return static_cast<Position>(std::max(end, shared_end(layer)));
    }
    for (const LayerJob& job : space_.jobs) end = std::max(end, shared_end(job.layer));
    return static_cast<Position>(end);
  }

  /// The position behind the slots that a layer shares with other sequences, in any of its heads.
  [[nodiscard]] std::size_t shared_end(std::size_t layer) const {
    const std::size_t shared = shared_prefix_of(cache_, layer);
    std::size_t end = 0;
    for (std::size_t head = 0; shared != 0 && head < state_.kept_sets(); ++head) {
      const std::span<const Position> row = state_.slots.positions(layer, head);
      for (const Position position : row.first(std::min(shared, row.size()))) {
        end = std::max<std::size_t>(end, position + 1u);
      }
    }
    return end;
  }

  const RoundContext<Scorer, Cache>& round_;
  SequenceState<Scorer>& state_;
  RoundSpace& space_;
  Cache& cache_;
  std::size_t tokens_;
  const Allocator& allocator_;
};

}  // namespace lethe::detail
