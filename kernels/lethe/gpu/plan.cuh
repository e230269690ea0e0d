/// One layer's plan by one thread block: from scores to the slots that stay, the same as the host
/// library's, bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/budget.hpp"
#include "lethe/budget/breakpoint.hpp"
#include "lethe/gpu/block.cuh"
#include "lethe/gpu/select.cuh"
#include "lethe/gpu/state.hpp"
#include "lethe/plan.hpp"
#include "lethe/pruner_config.hpp"
#include "lethe/retention.hpp"
#include "lethe/sparsity.hpp"
#include "lethe/trace.hpp"

namespace lethe::gpu {

/// Who decides how many tokens a layer keeps.
enum class BudgetRule : std::uint8_t { breakpoint, uniform };

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
  BudgetRule rule = BudgetRule::breakpoint;
  SegmentBreakpointConfig breakpoint{};
  UniformBudgetConfig uniform{};
  /// Kept counts are rounded up to a multiple of this, as far as the limit allows (BlockCache).
  std::size_t block_tokens = 1;
  /// Positions ascend with slots, as they do wherever rows were only appended and compacted.
  bool ordered = true;
};

/// One layer of one sequence, as a round finds it.
struct LayerInput {
  /// One score and one position a token.
  const float* scores = nullptr;
  const Position* positions = nullptr;
  std::uint32_t tokens = 0;
  /// Positions below this are pinned; first tokens apart.
  Position pinned = 0;
  Cadence cadence{};
};

/// What a round decides for one layer.
struct LayerPlan {
  MassSummary summary{};
  double sparsity = 0;
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
  lethe::detail::SummaryLanes lanes;
  MassSummary summary;
};

/// Summarises scores in the host's 16 lanes: each is one thread's, from the first token to the
/// last.
template <ThreadBlock Block>
[[nodiscard]] LETHE_BLOCK_CODE MassSummary summarise(const Block& block, PlanShared& shared,
                                                     const float* scores, std::uint32_t tokens) {
  constexpr unsigned lanes = lethe::detail::summary_lanes;
  block.lanes([&](unsigned lane) {
    if (lane >= lanes) return;
    double sum = 0;
    double square = 0;
    float maximum = scores[0];
    std::uint32_t odd_bits = 0;
    for (std::uint32_t slot = lane; slot < tokens; slot += lanes) {
      lethe::detail::add_to_lane(sum, square, maximum, odd_bits, scores[slot]);
    }
    shared.lanes.sum[lane] = sum;
    shared.lanes.square[lane] = square;
    shared.lanes.maximum[lane] = maximum;
    shared.lanes.odd_bits[lane] = odd_bits;
  });
  block.lanes([&](unsigned lane) {
    if (lane == 0) shared.summary = lethe::detail::fold(shared.lanes, tokens);
  });
  return block.read(shared.summary);
}

/// The steps of a plan, in the host's order (lethe/round/examine.hpp, lethe/planner.hpp).
template <ThreadBlock Block>
class LayerPlanner {
 public:
  LETHE_BLOCK_CODE LayerPlanner(const Block& block, PlanShared& shared,
                                const PlanSettings& settings, const LayerInput& input)
      : block_(block),
        shared_(shared),
        settings_(settings),
        input_(input),
        tokens_(input.tokens),
        row_(block, input.scores, input.tokens) {}

  /// Examines a layer that is due. kept: as many entries as tokens.
  LETHE_BLOCK_CODE LayerPlan plan(bool forced, Slot* kept) {
    forced_ = forced;
    LayerPlan plan{.tokens = tokens_, .kept = tokens_, .first_move = tokens_, .examined = true};
    plan.cadence = {input_.cadence.threshold, 0};
    plan.summary = summarise(block_, shared_, input_.scores, tokens_);
    if (!plan.summary.finite) {
      plan.outcome = Outcome::non_finite;
      return plan;
    }
    plan.sparsity = hoyer_sparsity(plan.summary);
    examine(plan);
    plan.protected_tokens = protected_tokens();
    if (plan.outcome == Outcome::pruned) select(plan, kept);
    return plan;
  }

 private:
  /// Tokens to keep by the budget, and the cut that makes them.
  struct Wanted {
    std::size_t tokens = 0;
    bool spread_out = false;
    std::uint32_t breakpoint = 0;
    Cut cut{};
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
    if (wanted_.spread_out) back_off(plan.cadence);
  }

  /// As slack_tokens, whose ratio the host has checked.
  [[nodiscard]] LETHE_BLOCK_CODE std::size_t slack(std::size_t bound) const {
    const double share = static_cast<double>(settings_.slack_ratio) * static_cast<double>(bound);
    const auto tokens = static_cast<std::size_t>(share);
    return tokens < 1 ? 1 : tokens;
  }

  /// The trigger doubles when a layer that has reached it is left whole.
  LETHE_BLOCK_CODE void back_off(Cadence& cadence) const {
    if (forced_ || tokens_ < cadence.threshold) return;
    const std::size_t doubled = 2 * std::size_t{cadence.threshold};
    cadence.threshold = static_cast<std::uint32_t>(smaller(doubled, settings_.capacity));
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
    if (settings_.rule == BudgetRule::uniform) {
      const std::size_t own = settings_.uniform.budget;
      return {.tokens = own != 0 ? own : limit_};
    }
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
      return {.tokens = std::size_t{protected_tokens()} + others, .breakpoint = count, .cut = cut};
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
            .cut = rest};
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
    const std::size_t wanted = permitted(smaller(wanted_.tokens, limit_));
    const bool recents_change =
        wanted < protected_tokens() || settings_.policy.retention.recent_share < 1.0f;
    if (recents_change) protect(wanted);
    std::size_t keep = wanted;
    if (wanted < protected_tokens()) {
      keep = permitted(protected_tokens());
      keep = keep < protected_tokens() ? protected_tokens() : keep;
    }
    cut_stands_ = settings_.ordered && wanted_.breakpoint != 0 && !wanted_.spread_out &&
                  !recents_change && keep == wanted_.tokens;
    keep_ = static_cast<std::uint32_t>(smaller(keep, tokens_));
    return keep >= tokens_ ? Outcome::nothing_to_drop : Outcome::pruned;
  }

  [[nodiscard]] LETHE_BLOCK_CODE std::size_t permitted(std::size_t count) const {
    const std::size_t block = settings_.block_tokens;
    const std::size_t rounded = (count + block - 1) / block * block;
    return rounded <= limit_ ? rounded : count;
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
  std::uint32_t tokens_;
  KeyRow<Block> row_;
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

}  // namespace detail

/// Plans one layer of one sequence; kept: as many entries as tokens, written when the outcome is
/// pruned. All lanes get the plan. max_lost_mass is not heeded. O(tokens).
template <ThreadBlock Block>
[[nodiscard]] LETHE_BLOCK_CODE LayerPlan plan_layer(const Block& block, detail::PlanShared& shared,
                                                    const PlanSettings& settings,
                                                    const LayerInput& input, Slot* kept) {
  if (!detail::is_due(settings, input.tokens, input.cadence) || input.tokens == 0) {
    return {.tokens = input.tokens,
            .kept = input.tokens,
            .first_move = input.tokens,
            .cadence = input.cadence};
  }
  const bool forced = detail::is_forced(settings, input.tokens);
  return detail::LayerPlanner<Block>(block, shared, settings, input).plan(forced, kept);
}

}  // namespace lethe::gpu
