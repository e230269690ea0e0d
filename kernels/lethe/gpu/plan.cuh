/// One layer's plan by one thread block: from scores to the slots that stay, the same as the host
/// library's, bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/budget.hpp"
#include "lethe/budget/breakpoint.hpp"
#include "lethe/gpu/block.cuh"
#include "lethe/gpu/draw.cuh"
#include "lethe/gpu/lost_mass.cuh"
#include "lethe/gpu/mass_cut.cuh"
#include "lethe/gpu/rules.hpp"
#include "lethe/gpu/select.cuh"
#include "lethe/gpu/state.hpp"
#include "lethe/gpu/summary.cuh"
#include "lethe/plan.hpp"
#include "lethe/pruner_config.hpp"
#include "lethe/retention.hpp"
#include "lethe/sparsity.hpp"
#include "lethe/trace.hpp"

namespace lethe::gpu {

/// Settings of a round, the same for all layers and sequences; the host library's own, where it has
/// them.
struct PlanSettings {
  /// Most tokens a layer holds.
  std::size_t capacity = 0;
  /// Tokens that the coming step appends.
  std::size_t step_tokens = 1;
  /// A round at the bound keeps this share of it free (PrunerConfig::slack_ratio).
  float slack_ratio = PrunerConfig{}.slack_ratio;
  /// Fewest tokens between two examinations below the bound (PrunerConfig::round_interval).
  std::size_t round_interval = PrunerConfig{}.round_interval;
  PolicySettings policy{};
  ScoreSettings score{};
  BudgetRule rule = BudgetRule::breakpoint;
  SegmentBreakpointConfig breakpoint{};
  UniformBudgetConfig uniform{};
  MassTargetConfig mass_target{};
  PyramidBudgetConfig pyramid{};
  LayerTable table{};
  /// A plan that would drop more than this share of a layer's score keeps more, up to the bound
  /// (PrunerConfig::max_lost_mass); 1: never.
  float max_lost_mass = PrunerConfig{}.max_lost_mass;
  /// Kept counts are rounded up to a multiple of this, as far as the limit allows (BlockCache).
  std::size_t block_tokens = 1;
  /// Positions ascend with slots, as they do wherever rows were only appended and compacted.
  bool ordered = true;
};

/// One layer of one sequence, as a round finds it.
struct LayerInput {
  /// One score and one position a token; no scores where they are drawn.
  const float* scores = nullptr;
  const Position* positions = nullptr;
  std::uint32_t tokens = 0;
  /// Positions below this are pinned; first tokens apart.
  Position pinned = 0;
  Cadence cadence{};
  /// For budgets that differ by layer.
  std::uint32_t layer = 0;
  std::uint32_t layers = 1;
};

/// What a round decides for one layer.
struct LayerPlan {
  MassSummary summary{};
  /// 0 where the score reads no attention.
  double sparsity = 0;
  /// Share of the score that the plan drops; 0 where max_lost_mass asks for none.
  double lost_mass = 0;
  /// Tokens before the plan, and after it.
  std::uint32_t tokens = 0;
  std::uint32_t kept = 0;
  /// First slot whose row changes (EvictionPlan::first_move).
  std::uint32_t first_move = 0;
  std::uint32_t protected_tokens = 0;
  /// Salient tokens found by the breakpoint; 0: no breakpoint was sought.
  std::uint32_t breakpoint = 0;
  /// The trigger from now on.
  Cadence cadence{};
  /// Whether the layer was due; else it keeps its tokens and nothing above but the counts is set.
  bool examined = false;
  Outcome outcome = Outcome::nothing_to_drop;
};

namespace detail {

/// Shared memory of a plan.
struct PlanShared {
  SelectShared select;
  MassShared mass;
  lethe::detail::KeptLanes kept;
  SummaryShared summary;
};

/// What a budget that looks at no score keeps; limit: what a round may.
[[nodiscard]] LETHE_BLOCK_CODE inline std::size_t fixed_budget(const PlanSettings& settings,
                                                               const LayerInput& input,
                                                               std::size_t limit) {
  if (settings.rule == BudgetRule::table) return settings.table.of(input.layer);
  if (settings.rule == BudgetRule::pyramid) {
    return lethe::detail::pyramid_tokens(settings.pyramid, input.layer, input.layers, input.tokens);
  }
  return settings.uniform.budget != 0 ? settings.uniform.budget : limit;
}

/// The trigger of a layer that has been examined: doubled when a layer that has reached it is left
/// whole.
[[nodiscard]] LETHE_BLOCK_CODE inline Cadence next_cadence(const PlanSettings& settings,
                                                           const Cadence& cadence,
                                                           std::uint32_t tokens, Outcome outcome) {
  if (outcome != Outcome::spread_out || tokens < cadence.threshold) return {cadence.threshold, 0};
  const std::size_t doubled = 2 * std::size_t{cadence.threshold};
  const std::size_t threshold = doubled < settings.capacity ? doubled : settings.capacity;
  return {static_cast<std::uint32_t>(threshold), 0};
}

/// The steps of a plan, in the host's order (lethe/round/examine.hpp, lethe/planner.hpp). Scores: a
/// row of them, or what stands in its place.
template <ThreadBlock Block, class Scores>
class LayerPlanner {
 public:
  LETHE_BLOCK_CODE LayerPlanner(const Block& block, PlanShared& shared,
                                const PlanSettings& settings, const LayerInput& input,
                                const Scores& scores)
      : block_(block),
        shared_(shared),
        settings_(settings),
        input_(input),
        scores_(scores),
        tokens_(input.tokens),
        row_(block, scores, input.tokens) {}

  /// Examines a layer that is due. kept: as many entries as tokens.
  LETHE_BLOCK_CODE LayerPlan plan(bool forced, Slot* kept) {
    LayerPlan plan = examined(forced);
    plan.cadence = next_cadence(settings_, input_.cadence, tokens_, plan.outcome);
    if (plan.outcome == Outcome::pruned) select_guarded(plan, kept);
    return plan;
  }

  /// The same without its slots and its cadence: how many are to stay.
  LETHE_BLOCK_CODE LayerPlan examined(bool forced) {
    forced_ = forced;
    LayerPlan plan{.tokens = tokens_, .kept = tokens_, .first_move = tokens_, .examined = true};
    plan.cadence = input_.cadence;
    plan.summary = summarise(block_, shared_.summary, scores_, tokens_);
    if (!plan.summary.finite) {
      plan.outcome = Outcome::non_finite;
      return plan;
    }
    if (of_mass<Scores>) plan.sparsity = hoyer_sparsity(plan.summary);
    examine(plan);
    plan.protected_tokens = protected_tokens();
    if (plan.outcome == Outcome::pruned) plan.kept = keep_;
    return plan;
  }

  /// Selects the best `count` tokens, where others than this layer's scores have decided how many.
  LETHE_BLOCK_CODE LayerPlan select_best(std::uint32_t count, Slot* kept) {
    LayerPlan plan{.tokens = tokens_, .kept = tokens_, .first_move = tokens_};
    count_prefix();
    protect(count);
    keep_ = count;
    plan.protected_tokens = protected_tokens();
    select(plan, kept);
    return plan;
  }

 private:
  /// Tokens to keep by the budget, and the cut that makes them.
  struct Wanted {
    std::size_t tokens = 0;
    bool spread_out = false;
    std::uint32_t breakpoint = 0;
    /// Through the tokens that are not protected, where slots are in order.
    Cut cut{};
    bool cut_made = false;
  };

  [[nodiscard]] LETHE_BLOCK_CODE static std::size_t smaller(std::size_t a, std::size_t b) {
    return b < a ? b : a;
  }

  [[nodiscard]] LETHE_BLOCK_CODE std::uint32_t protected_tokens() const {
    return prefix_tokens_ + recent_tokens_;
  }

  LETHE_BLOCK_CODE void examine(LayerPlan& plan) {
    const std::size_t bound = settings_.capacity;
    const std::size_t hard = smaller(tokens_, bound - settings_.step_tokens);
    count_prefix();
    limit_ = forced_ ? smaller(hard, bound - slack(bound)) : hard;
    protect(limit_);
    const std::size_t prefix = smaller(prefix_tokens_, hard);
    limit_ = limit_ < prefix ? prefix : limit_;
    wanted_ = budget(plan.summary);
    plan.breakpoint = wanted_.breakpoint;
    plan.outcome = settle_tokens();
  }

  /// As slack_tokens, whose ratio the host has checked.
  [[nodiscard]] LETHE_BLOCK_CODE std::size_t slack(std::size_t bound) const {
    const double share = static_cast<double>(settings_.slack_ratio) * static_cast<double>(bound);
    const auto tokens = static_cast<std::size_t>(share);
    return tokens < 1 ? 1 : tokens;
  }

  LETHE_BLOCK_CODE void count_prefix() {
    const std::size_t first = settings_.policy.retention.first_tokens;
    const std::size_t end = first < input_.pinned ? input_.pinned : first;
    protection_.prefix_end = static_cast<Position>(end);
    if (settings_.ordered) {
      prefix_tokens_ = lower_bound(protection_.prefix_end);
    } else {
      prefix_tokens_ = count_if(block_, positions(), [&](std::uint32_t, Position position) {
        return position < protection_.prefix_end;
      });
    }
  }

  [[nodiscard]] LETHE_BLOCK_CODE PositionRow<Block> positions() const {
    return {input_.positions, tokens_};
  }

  /// The first slot whose position is not below `end`; positions ascend.
  [[nodiscard]] LETHE_BLOCK_CODE std::uint32_t lower_bound(Position end) const {
    std::uint32_t low = 0;
    std::uint32_t high = tokens_;
    while (low < high) {
      const std::uint32_t middle = low + (high - low) / 2;
      if (input_.positions[middle] < end) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }

  /// `most`, what a round may keep, caps the recents.
  LETHE_BLOCK_CODE void protect(std::size_t most) {
    const Retention& retention = settings_.policy.retention;
    std::size_t recent = recent_count(retention, tokens_);
    recent = smaller(recent, most - smaller(most, prefix_tokens_));
    recent = smaller(recent, most_recents(retention, most));
    recent = smaller(recent, tokens_ - prefix_tokens_);
    recent_tokens_ = static_cast<std::uint32_t>(recent);
    if (settings_.ordered) return;
    protection_.recent_begin = ~Position{0};
    if (recent == 0) return;
    const auto all = [](std::uint32_t, Position) { return true; };
    const auto own = [](std::uint32_t, Position position) { return position; };
    const Cut cut = find_cut(block_, shared_.select, positions(), recent_tokens_, all, own);
    protection_.recent_begin = cut.key;
  }

  [[nodiscard]] LETHE_BLOCK_CODE bool covers(std::uint32_t slot) const {
    if (!settings_.ordered) return protection_.covers(input_.positions[slot]);
    return slot < prefix_tokens_ || slot >= tokens_ - recent_tokens_;
  }

  [[nodiscard]] LETHE_BLOCK_CODE Wanted budget(const MassSummary& summary) {
    if (settings_.rule == BudgetRule::breakpoint) return breakpoint(summary);
    if (settings_.rule == BudgetRule::mass_target) return mass_target(summary);
    return {.tokens = fixed_budget(settings_, input_, limit_)};
  }

  [[nodiscard]] LETHE_BLOCK_CODE Wanted mass_target(const MassSummary& summary) {
    if (!(summary.maximum > 0.0f)) return {.tokens = tokens_, .spread_out = true};
    const lethe::detail::MassCut found =
        find_mass_target(block_, shared_.mass, row_, summary.maximum,
                         lethe::detail::counted_share(settings_.mass_target.share),
                         [&](std::uint32_t slot) { return covers(slot); });
    const std::size_t kept = protected_tokens() + found.tokens;
    return {.tokens = kept,
            .spread_out = kept >= tokens_,
            .cut = found.cut,
            .cut_made = found.tokens != 0};
  }

  [[nodiscard]] LETHE_BLOCK_CODE Wanted breakpoint(const MassSummary& summary) {
    const Wanted spread_out{.tokens = tokens_, .spread_out = true, .breakpoint = tokens_};
    if (!(summary.maximum > 0.0f)) return spread_out;
    const std::uint32_t level =
        ordered_key(salience_level(summary.maximum, settings_.breakpoint.sparsity_ratio));
    const std::uint32_t salient =
        count_if(block_, row_, [&](std::uint32_t, std::uint32_t key) { return key >= level; });
    const auto boundary = static_cast<std::uint32_t>(
        segment_boundary(salient, tokens_, settings_.breakpoint.segments));
    return boundary >= tokens_ ? spread_out : best(boundary);
  }

  /// The best `count` tokens, and the protected ones.
  [[nodiscard]] LETHE_BLOCK_CODE Wanted best(std::uint32_t count) {
    const auto all = [](std::uint32_t, std::uint32_t) { return true; };
    const auto own = [](std::uint32_t, std::uint32_t key) { return key; };
    const Cut cut = find_cut(block_, shared_.select, row_, count, all, own);
    if (!settings_.ordered) {
      const Position last = youngest_tie(cut, own);
      const std::uint32_t others =
          count_if(block_, row_, [&](std::uint32_t slot, std::uint32_t key) {
            return survives(slot, key, cut, last) && !covers(slot);
          });
      return {.tokens = std::size_t{protected_tokens()} + others, .breakpoint = count};
    }
    // Ties go to the older token, so those of the prefix come first.
    const Cut rest{cut.key, cut.ties - smaller(cut.ties, ties_of_prefix(cut.key))};
    const std::uint32_t above = count_if(block_, row_, [&](std::uint32_t slot, std::uint32_t key) {
      return key > cut.key && !covers(slot);
    });
    const std::uint32_t tied = count_if(block_, row_, [&](std::uint32_t slot, std::uint32_t key) {
      return key == cut.key && !covers(slot);
    });
    return {.tokens = protected_tokens() + above + smaller(tied, rest.ties),
            .breakpoint = count,
            .cut = rest,
            .cut_made = true};
  }

  [[nodiscard]] LETHE_BLOCK_CODE std::uint32_t ties_of_prefix(std::uint32_t tie) const {
    return count_if(block_, row_, [&](std::uint32_t slot, std::uint32_t key) {
      return key == tie && slot < prefix_tokens_;
    });
  }

  /// The position of the last tied token that the cut keeps, where slots are not in order.
  template <class KeyOf>
  [[nodiscard]] LETHE_BLOCK_CODE Position youngest_tie(const Cut& cut, KeyOf&& key_of) {
    const auto tied = [&](std::uint32_t slot, std::uint32_t key) {
      return key_of(slot, key) == cut.key;
    };
    const auto older = [&](std::uint32_t slot, std::uint32_t) { return ~input_.positions[slot]; };
    const auto ties = static_cast<std::uint32_t>(cut.ties);
    return ~find_cut(block_, shared_.select, row_, ties, tied, older).key;
  }

  [[nodiscard]] LETHE_BLOCK_CODE bool survives(std::uint32_t slot, std::uint32_t key,
                                               const Cut& cut, Position last) const {
    return key > cut.key || (key == cut.key && input_.positions[slot] <= last);
  }

  /// Tokens to keep, between the protected ones and the limit.
  [[nodiscard]] LETHE_BLOCK_CODE Outcome settle_tokens() {
    if (wanted_.spread_out && !forced_) return Outcome::spread_out;
    const std::size_t wanted = permitted(smaller(wanted_.tokens, limit_), limit_);
    const bool recents_change =
        wanted < protected_tokens() || settings_.policy.retention.recent_share < 1.0f;
    if (recents_change) protect(wanted);
    std::size_t keep = wanted;
    if (wanted < protected_tokens()) {
      keep = permitted(protected_tokens(), limit_);
      keep = keep < protected_tokens() ? protected_tokens() : keep;
    }
    cut_stands_ = wanted_.cut_made && settings_.ordered && !wanted_.spread_out && !recents_change &&
                  keep == wanted_.tokens;
    keep_ = static_cast<std::uint32_t>(smaller(keep, tokens_));
    return keep >= tokens_ ? Outcome::nothing_to_drop : Outcome::pruned;
  }

  [[nodiscard]] LETHE_BLOCK_CODE std::size_t permitted(std::size_t count, std::size_t limit) const {
    const std::size_t block = settings_.block_tokens;
    const std::size_t rounded = (count + block - 1) / block * block;
    return rounded <= limit ? rounded : count;
  }

  /// Selects, and keeps more while max_lost_mass says so.
  LETHE_BLOCK_CODE void select_guarded(LayerPlan& plan, Slot* kept) {
    const std::size_t hard = smaller(tokens_, settings_.capacity - settings_.step_tokens);
    LostMassSearch search(keep_, static_cast<std::uint32_t>(hard));
    do {
      select(plan, kept);
      if (!of_mass<Scores> || !(settings_.max_lost_mass < 1.0f)) return;
      plan.lost_mass =
          lost_share(block_, shared_.select, shared_.kept, plan.summary, scores_, kept, plan.kept);
      if (!search.goes_on(plan.lost_mass, settings_.max_lost_mass)) return;
      const std::size_t tokens = search.tokens();
      keep_ = static_cast<std::uint32_t>(search.is_last() ? permitted(tokens, hard) : tokens);
      cut_stands_ = false;
      plan.outcome = Outcome::guarded;
    } while (true);
  }

  LETHE_BLOCK_CODE void select(LayerPlan& plan, Slot* kept) {
    const auto masked = [&](std::uint32_t slot, std::uint32_t key) {
      return covers(slot) ? protected_key : key;
    };
    const auto all = [](std::uint32_t, std::uint32_t) { return true; };
    if (keep_ == 0) {
      plan.kept = plan.first_move = 0;
      return;
    }
    const Cut cut =
        cut_stands_ ? wanted_.cut : find_cut(block_, shared_.select, row_, keep_, all, masked);
    const Position last = settings_.ordered ? 0 : youngest_tie(cut, masked);
    const auto standing = [&](std::uint32_t slot, std::uint32_t own) {
      const std::uint32_t key = masked(slot, own);
      if (key > cut.key) return Standing::kept;
      if (key < cut.key) return Standing::dropped;
      if (settings_.ordered) return Standing::tied;
      return input_.positions[slot] <= last ? Standing::kept : Standing::dropped;
    };
    const Collected collected =
        collect(block_, row_, static_cast<std::uint32_t>(cut.ties), standing, kept);
    plan.kept = collected.count;
    plan.first_move = collected.first_dropped;
  }

  const Block& block_;
  PlanShared& shared_;
  const PlanSettings& settings_;
  const LayerInput& input_;
  Scores scores_;
  std::uint32_t tokens_;
  KeyRow<Block, Scores> row_;
  bool forced_ = false;
  bool cut_stands_ = false;
  std::uint32_t prefix_tokens_ = 0;
  std::uint32_t recent_tokens_ = 0;
  std::uint32_t keep_ = 0;
  std::size_t limit_ = 0;
  Protection protection_{};
  Wanted wanted_{};
};

/// Whether the coming step does not fit.
[[nodiscard]] LETHE_BLOCK_CODE inline bool is_forced(const PlanSettings& settings,
                                                     std::uint32_t tokens) {
  return tokens + settings.step_tokens > settings.capacity;
}

/// Whether a round examines a layer.
[[nodiscard]] LETHE_BLOCK_CODE inline bool is_due(const PlanSettings& settings,
                                                  std::uint32_t tokens, const Cadence& cadence) {
  return is_forced(settings, tokens) ||
         (settings.policy.first_threshold != 0 && tokens >= cadence.threshold &&
          cadence.since_round >= settings.round_interval);
}

/// The plan of a layer that nobody examines: all stay.
[[nodiscard]] LETHE_BLOCK_CODE inline LayerPlan untouched(const LayerInput& input) {
  return {.tokens = input.tokens,
          .kept = input.tokens,
          .first_move = input.tokens,
          .cadence = input.cadence};
}

}  // namespace detail

/// Plans one layer of one sequence by scores[slot] of each token; kept: as many entries as tokens,
/// written when the outcome is pruned or guarded. All lanes get the plan. O(tokens), and again for
/// each halving of what max_lost_mass may add.
template <ThreadBlock Block, class Scores>
[[nodiscard]] LETHE_BLOCK_CODE LayerPlan plan_layer(const Block& block, detail::PlanShared& shared,
                                                    const PlanSettings& settings,
                                                    const LayerInput& input, const Scores& scores,
                                                    Slot* kept) {
  if (!detail::is_due(settings, input.tokens, input.cadence) || input.tokens == 0) {
    return detail::untouched(input);
  }
  const bool forced = detail::is_forced(settings, input.tokens);
  return detail::LayerPlanner<Block, Scores>(block, shared, settings, input, scores)
      .plan(forced, kept);
}

/// The same by a row of scores.
template <ThreadBlock Block>
[[nodiscard]] LETHE_BLOCK_CODE LayerPlan plan_layer(const Block& block, detail::PlanShared& shared,
                                                    const PlanSettings& settings,
                                                    const LayerInput& input, Slot* kept) {
  return plan_layer(block, shared, settings, input, input.scores, kept);
}

}  // namespace lethe::gpu
