/// Plans one layer: from scores and a budget to the slots that stay. Touches no cache.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/budget.hpp"
#include "lethe/lost_mass.hpp"
#include "lethe/pruner_config.hpp"
#include "lethe/retention.hpp"
#include "lethe/score.hpp"
#include "lethe/selection.hpp"
#include "lethe/slot_table.hpp"
#include "lethe/sparsity.hpp"
#include "lethe/trace.hpp"

namespace lethe::detail {

/// One layer in a round.
struct LayerJob {
  std::size_t layer = 0;
  std::size_t before = 0;
  /// Most tokens that may stay, and most that max_lost_mass may keep.
  std::size_t limit = 0;
  std::size_t hard_limit = 0;
  /// Tokens to keep.
  std::size_t tokens = 0;
  std::size_t protected_tokens = 0;
  std::size_t prefix_tokens = 0;
  Protection protection{};
  MassSummary summary{};
  WindowStatistics window{};
  std::size_t growth = 0;
  Budget budget{};
  bool forced = false;
  Outcome outcome = Outcome::pruned;
  double lost_mass = 0;
  double plan_seconds = 0;
};

/// Whether the layer's tokens may move in this round.
[[nodiscard]] inline bool is_movable(const LayerJob& job) {
  return job.outcome != Outcome::busy && job.outcome != Outcome::non_finite;
}

/// Tokens that a job leaves in its layer.
[[nodiscard]] inline std::size_t kept_by(const LayerJob& job) {
  return job.outcome == Outcome::pruned ? job.tokens : job.before;
}

/// Whether keeping `tokens` changes which recents the job protects.
[[nodiscard]] inline bool changes_recents(const LayerJob& job, const Retention& retention,
                                          std::size_t tokens) {
  return tokens < job.protected_tokens || retention.recent_share < 1.0f;
}

/// What a layer's scores are multiplied by, so that layers of different scale weigh the same. A sum
/// of zero adds nothing.
[[nodiscard]] LETHE_HOST_DEVICE LETHE_EXACT inline double share_factor(double sum) {
  LETHE_EXACT_BODY
  return sum > 0 ? 1.0 / sum : 0.0;
}

/// `sum` and a score's share.
[[nodiscard]] LETHE_HOST_DEVICE LETHE_EXACT inline float with_share(float sum, float score,
                                                                    double factor) {
  LETHE_EXACT_BODY
  return sum + static_cast<float>(static_cast<double>(score) * factor);
}

LETHE_EXACT inline void add_share(std::span<float> out, std::span<const float> scores, double sum) {
  LETHE_EXACT_BODY
  const double factor = share_factor(sum);
  for (std::size_t i = 0; i < scores.size(); ++i) out[i] = with_share(out[i], scores[i], factor);
}

// The lanes are a copy, for only those of a local variable can stay in registers.
[[nodiscard]] LETHE_EXACT inline KeptLanes add_kept_blocks(KeptLanes lanes,
                                                           std::span<const float> scores,
                                                           std::span<const Slot> kept) {
  for (std::size_t i = 0; i + kept_lanes <= kept.size(); i += kept_lanes) {
    for (std::size_t lane = 0; lane < kept_lanes; ++lane) {
      add_kept(lanes.sum[lane], scores[kept[i + lane]]);
    }
  }
  return lanes;
}

/// The share of the score that goes when only `kept` stays.
[[nodiscard]] LETHE_EXACT inline double lost_share(const MassSummary& summary,
                                                   std::span<const float> scores,
                                                   std::span<const Slot> kept) {
  KeptLanes lanes = add_kept_blocks({}, scores, kept);
  const std::size_t rest = kept.size() % kept_lanes;
  for (std::size_t lane = 0; lane < rest; ++lane) {
    add_kept(lanes.sum[lane], scores[kept[kept.size() - rest + lane]]);
  }
  return lost_share(summary, lanes);
}

/// Work space and steps of planning. Nothing is allocated after construction.
class Planner {
 public:
  explicit Planner(std::size_t slots)
      : scores_(slots, 0.0f), combined_(slots, 0.0f), keys_(slots + 1, 0), scratch_(slots + 1, 0) {}

  /// The scores of a layer, its groups summed.
  template <class Scorer>
  [[nodiscard]] std::span<const float> layer_scores(Scorer& scorer, const SlotTable& slots,
                                                    std::size_t layer, std::size_t groups) {
    const std::span<const Position> positions = slots.positions(layer);
    const std::span<const float> first = scorer.score(layer, 0, positions, scores_);
    if (groups == 1) return first;
    const std::span<float> sum = std::span(combined_).first(positions.size());
    std::copy(first.begin(), first.end(), sum.begin());
    for (std::size_t group = 1; group < groups; ++group) {
      add(sum.data(), scorer.score(layer, group, positions, scores_).data(), sum.size());
    }
    return sum;
  }

  /// The scores of all jobs' layers, each normalised, summed.
  template <class Scorer>
  [[nodiscard]] std::span<const float> sequence_scores(Scorer& scorer, const SlotTable& slots,
                                                       std::span<const LayerJob> jobs,
                                                       std::size_t groups, std::span<float> sum) {
    std::fill(sum.begin(), sum.end(), 0.0f);
    for (const LayerJob& job : jobs) {
      const std::span<const float> scores = layer_scores(scorer, slots, job.layer, groups);
      add_share(sum, scores, summarise(scores).sum);
    }
    return sum;
  }

  /// Sets a job's protected tokens; `most`, what a round may keep, caps them, at the cost of the
  /// recents.
  void protect(LayerJob& job, const Retention& retention, std::span<const Position> positions,
               bool ordered, Position prefix_end, std::size_t most) {
    job.prefix_tokens = prefix_count(positions, ordered, prefix_end);
    const std::size_t room = most - std::min(most, job.prefix_tokens);
    const std::size_t recent =
        std::min({recent_count(retention, positions.size()), room, most_recents(retention, most),
                  positions.size() - job.prefix_tokens});
    job.protection.prefix_end = prefix_end;
    job.protection.recent_begin = recent_begin(positions, ordered, recent, scratch_);
    job.protected_tokens = job.prefix_tokens + recent;
    // A cut made under another protection would keep another number of tokens.
    job.budget.cut = {};
  }

  /// A layer as budgets see it.
  [[nodiscard]] LayerScores view(const LayerJob& job, std::size_t layers,
                                 std::span<const float> scores, std::span<const Position> positions,
                                 bool ordered) {
    return {.layer = job.layer,
            .layers = layers,
            .scores = scores,
            .positions = positions,
            .ordered = ordered,
            .protection = job.protection,
            .protected_tokens = job.protected_tokens,
            .limit = std::min(job.limit, scores.size()),
            .summary = job.summary,
            .window = job.window,
            .growth = job.growth,
            .keys = keys_,
            .scratch = scratch_};
  }

  /// Writes the slots of the job.tokens best tokens, protected ones first among them; returns them.
  /// kept: slots + 1 entries.
  [[nodiscard]] std::span<const Slot> select(const LayerJob& job, std::span<const float> scores,
                                             std::span<const Position> positions, bool ordered,
                                             std::span<Slot> kept) {
    if (job.tokens == 0) return {};
    if (ordered && job.tokens >= job.protected_tokens) return select_middle(job, scores, kept);
    const std::span<std::uint32_t> keys = std::span(keys_).first(scores.size());
    make_keys(scores, positions, job.protection, keys);
    const Cut cut = find_cut(keys, job.tokens, scratch_);
    return kept.first(collect(keys, cut, positions, ordered, kept, scratch_));
  }

  /// Selects, and keeps more while more than `most` of the score would be lost.
  /// permitted(tokens): the count to keep instead, not below it.
  template <class Permitted>
  [[nodiscard]] std::span<const Slot> select_guarded(LayerJob& job, std::span<const float> scores,
                                                     std::span<const Position> positions,
                                                     bool ordered, double most,
                                                     Permitted&& permitted, std::span<Slot> kept) {
    std::span<const Slot> best = select(job, scores, positions, ordered, kept);
    job.lost_mass = lost_share(job.summary, scores, best);
    if (job.lost_mass <= most || job.tokens >= job.hard_limit) return best;
    std::size_t low = job.tokens;
    std::size_t high = job.hard_limit;
    while (low + 1 < high) {
      job.tokens = low + (high - low) / 2;
      best = select(job, scores, positions, ordered, kept);
      const bool enough = lost_share(job.summary, scores, best) <= most;
      (enough ? high : low) = job.tokens;
    }
    job.tokens = permitted(high);
    job.outcome = Outcome::guarded;
    best = select(job, scores, positions, ordered, kept);
    job.lost_mass = lost_share(job.summary, scores, best);
    return best;
  }

  /// Room for the scores of one head.
  [[nodiscard]] std::span<float> head_scores() { return scores_; }

 private:
  /// Where slots ascend with positions, protected tokens lie at both ends: only those between
  /// compete.
  [[nodiscard]] std::span<const Slot> select_middle(const LayerJob& job,
                                                    std::span<const float> scores,
                                                    std::span<Slot> kept) {
    const std::size_t begin = job.prefix_tokens;
    const std::size_t end = scores.size() - (job.protected_tokens - begin);
    std::size_t count = begin;
    for (std::size_t i = 0; i < begin; ++i) kept[i] = static_cast<Slot>(i);
    if (job.tokens > job.protected_tokens) {
      const std::span<std::uint32_t> keys = std::span(keys_).first(end - begin);
      make_keys(scores.subspan(begin, keys.size()), keys);
      count += collect_ordered(keys, cut_middle(job, scores, keys), begin, kept.subspan(begin));
    }
    for (std::size_t i = end; i < scores.size(); ++i) kept[count++] = static_cast<Slot>(i);
    LETHE_ASSERT(count == job.tokens);
    return kept.first(count);
  }

  /// The cut through the unprotected tokens' keys: the budget's own where its tokens stand.
  [[nodiscard]] Cut cut_middle(const LayerJob& job, std::span<const float> scores,
                               std::span<const std::uint32_t> keys) {
    Cut cut = job.budget.cut;
    if (cut.ties == 0 || job.tokens != job.budget.tokens) {
      return find_cut(keys, job.tokens - job.protected_tokens, scratch_);
    }
    for (const float score : scores.first(job.prefix_tokens)) {
      if (cut.ties != 0 && ordered_key(score) == cut.key) --cut.ties;
    }
    return cut;
  }

  std::vector<float> scores_;
  std::vector<float> combined_;
  std::vector<std::uint32_t> keys_;
  std::vector<std::uint32_t> scratch_;
};

}  // namespace lethe::detail
