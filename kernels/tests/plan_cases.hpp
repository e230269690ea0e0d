/// Random layers for a round, and the host library's plans for them.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "lethe/gpu/plan.cuh"
#include "lethe/planner.hpp"
#include "samples.hpp"

namespace gpu_test {

struct PlanCase {
  lethe::gpu::PlanSettings settings{};
  std::vector<float> scores{};
  std::vector<lethe::Position> positions{};
  lethe::Position pinned = 0;
  lethe::gpu::Cadence cadence{};

  [[nodiscard]] lethe::gpu::LayerInput input() const {
    return {.scores = scores.data(),
            .positions = positions.data(),
            .tokens = static_cast<std::uint32_t>(scores.size()),
            .pinned = pinned,
            .cadence = cadence};
  }
};

/// A plan and its slots.
struct Planned {
  lethe::gpu::LayerPlan plan{};
  std::vector<lethe::Slot> kept{};
};

inline float denormal(Samples& samples) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(samples.below(8)));
}

inline std::vector<float> random_scores(Samples& samples, std::size_t tokens) {
  std::vector<float> scores = samples.mass(tokens);
  const std::size_t kind = samples.below(12);
  for (float& score : scores) {
    if (kind == 0) score = 0.0f;
    if (kind == 1) score = samples.below(2) == 0 ? 0.0f : -0.0f;
    if (kind == 2) score = denormal(samples);
    if (kind == 3) score = static_cast<float>(samples.below(3)) * 0.25f;
    if (kind == 4)
      score = std::bit_cast<float>(static_cast<std::uint32_t>(samples.word()) & 0xBF7FFFFFu);
    if (kind == 5) score = 1.0f;
  }
  if (kind == 6) scores[samples.below(tokens)] = 1e30f;
  if (kind == 7) scores[samples.below(tokens)] = not_a_number;
  if (kind == 8) scores[samples.below(tokens)] = samples.below(2) == 0 ? infinity : -infinity;
  if (kind == 9) scores[samples.below(tokens)] = std::bit_cast<float>(0x7F7FFFFFu);
  return scores;
}

inline std::vector<lethe::Position> random_positions(Samples& samples, std::size_t tokens,
                                                     bool ordered) {
  const std::size_t gap = 1 + samples.below(3);
  std::vector<lethe::Position> positions(tokens);
  std::size_t next = samples.below(2);
  for (lethe::Position& position : positions) {
    position = static_cast<lethe::Position>(next);
    next += 1 + samples.below(gap);
  }
  for (std::size_t i = 0; !ordered && i < tokens; ++i) {
    std::swap(positions[i], positions[samples.below(tokens)]);
  }
  return positions;
}

inline lethe::gpu::PlanSettings random_settings(Samples& samples, std::size_t capacity) {
  const float ratios[] = {1.5f, 20.0f, 400.0f, 1e6f};
  lethe::gpu::PlanSettings settings{.capacity = capacity};
  settings.step_tokens = 1 + samples.below(std::min<std::size_t>(capacity, 4));
  settings.slack_ratio = samples.between(0.0f, 0.6f);
  settings.round_interval = samples.below(40);
  settings.policy.first_threshold = samples.below(4) == 0 ? 0 : 1 + samples.below(capacity);
  settings.policy.retention = {.first_tokens = samples.below(6),
                               .recent_tokens = samples.below(1 + capacity / 2),
                               .recent_ratio = samples.below(2) == 0 ? 0.0f : samples.uniform(),
                               .recent_share = samples.below(2) == 0 ? 1.0f : samples.uniform()};
  if (samples.below(3) == 0) settings.rule = lethe::gpu::BudgetRule::uniform;
  settings.breakpoint = {.sparsity_ratio = ratios[samples.below(4)],
                         .segments = 1 + samples.below(80)};
  settings.uniform.budget = samples.below(2) == 0 ? 0 : 1 + samples.below(capacity);
  settings.block_tokens = samples.below(4) == 0 ? 16 : 1;
  settings.ordered = samples.below(3) != 0;
  return settings;
}

/// A layer of up to `most` tokens; one of them in eight is full.
inline PlanCase random_case(Samples& samples, std::size_t most) {
  const std::size_t capacity = 1 + samples.below(most);
  const std::size_t kind = samples.below(16);
  const std::size_t tokens = kind < 2 ? capacity : (kind == 2 ? 1 : 1 + samples.below(capacity));
  PlanCase made{.settings = random_settings(samples, capacity)};
  made.scores = random_scores(samples, tokens);
  made.positions = random_positions(samples, tokens, made.settings.ordered);
  made.pinned = static_cast<lethe::Position>(samples.below(4) == 0 ? samples.below(2 * capacity)
                                                                   : samples.below(8));
  made.cadence.threshold = static_cast<std::uint32_t>(
      samples.below(4) == 0 ? made.settings.policy.first_threshold : samples.below(capacity));
  made.cadence.since_round = static_cast<std::uint32_t>(samples.below(80));
  return made;
}

/// What lethe::detail::Examination and Planner do with one layer of a full round.
class HostRound {
 public:
  explicit HostRound(const PlanCase& given)
      : given_(given),
        settings_(given.settings),
        retention_(settings_.policy.retention),
        planner_(settings_.capacity),
        kept_(settings_.capacity + 1) {}

  [[nodiscard]] Planned run() {
    const std::size_t tokens = given_.scores.size();
    const std::size_t bound = settings_.capacity;
    job_.before = tokens;
    job_.tokens = tokens;
    job_.forced = tokens + settings_.step_tokens > bound;
    job_.hard_limit = std::min(tokens, bound - settings_.step_tokens);
    const std::size_t slack = lethe::kept_at_bound(settings_.slack_ratio, bound);
    job_.limit = job_.forced ? std::min(job_.hard_limit, slack) : job_.hard_limit;
    const bool due = settings_.policy.first_threshold != 0 && tokens >= given_.cadence.threshold &&
                     given_.cadence.since_round >= settings_.round_interval;
    job_.outcome = lethe::Outcome::nothing_to_drop;
    if (!job_.forced && !due) return result(false, {});
    job_.summary = lethe::summarise(given_.scores);
    job_.outcome = lethe::Outcome::non_finite;
    if (!job_.summary.finite) return result(true, {});
    job_.outcome = lethe::Outcome::pruned;
    examine();
    if (job_.outcome != lethe::Outcome::pruned) return result(true, {});
    return result(true,
                  planner_.select(job_, given_.scores, given_.positions, settings_.ordered, kept_));
  }

 private:
  void protect(std::size_t most) {
    const auto prefix =
        static_cast<lethe::Position>(std::max<std::size_t>(retention_.first_tokens, given_.pinned));
    planner_.protect(job_, retention_, given_.positions, settings_.ordered, prefix, most);
  }

  [[nodiscard]] lethe::Budget budget() {
    const lethe::LayerScores view =
        planner_.view(job_, 1, given_.scores, given_.positions, settings_.ordered);
    return settings_.rule == lethe::gpu::BudgetRule::uniform
               ? lethe::UniformBudget(settings_.uniform).budget(view)
               : lethe::SegmentBreakpoint(settings_.breakpoint).budget(view);
  }

  [[nodiscard]] std::size_t permitted(std::size_t tokens) const {
    const std::size_t block = settings_.block_tokens;
    const std::size_t rounded = (tokens + block - 1) / block * block;
    return rounded <= job_.limit ? rounded : tokens;
  }

  void examine() {
    protect(job_.limit);
    job_.limit = std::max(job_.limit, std::min(job_.prefix_tokens, job_.hard_limit));
    job_.budget = budget();
    if (job_.budget.spread_out && !job_.forced) {
      job_.outcome = lethe::Outcome::spread_out;
      return;
    }
    const std::size_t wanted = permitted(std::min(job_.budget.tokens, job_.limit));
    if (lethe::detail::changes_recents(job_, retention_, wanted)) protect(wanted);
    job_.tokens = wanted;
    if (wanted < job_.protected_tokens) {
      job_.tokens = std::max(job_.protected_tokens, permitted(job_.protected_tokens));
    }
    if (job_.tokens >= job_.before) job_.outcome = lethe::Outcome::nothing_to_drop;
  }

  [[nodiscard]] Planned result(bool examined, std::span<const lethe::Slot> kept) const {
    const auto tokens = static_cast<std::uint32_t>(job_.before);
    Planned planned{.kept = {kept.begin(), kept.end()}};
    planned.plan = {.tokens = tokens, .kept = tokens, .first_move = tokens};
    planned.plan.cadence = given_.cadence;
    planned.plan.examined = examined;
    planned.plan.outcome = job_.outcome;
    if (!examined) return planned;
    planned.plan.cadence.since_round = 0;
    planned.plan.summary = job_.summary;
    if (!job_.summary.finite) return planned;
    planned.plan.sparsity = lethe::hoyer_sparsity(job_.summary);
    planned.plan.protected_tokens = static_cast<std::uint32_t>(job_.protected_tokens);
    planned.plan.breakpoint = static_cast<std::uint32_t>(job_.budget.breakpoint);
    if (job_.outcome == lethe::Outcome::spread_out && tokens >= given_.cadence.threshold) {
      planned.plan.cadence.threshold = static_cast<std::uint32_t>(
          std::min<std::size_t>(2 * std::size_t{given_.cadence.threshold}, settings_.capacity));
    }
    if (job_.outcome == lethe::Outcome::pruned) {
      planned.plan.kept = static_cast<std::uint32_t>(kept.size());
      planned.plan.first_move = lethe::first_move_of(kept);
    }
    return planned;
  }

  const PlanCase& given_;
  const lethe::gpu::PlanSettings& settings_;
  lethe::Retention retention_;
  lethe::detail::Planner planner_;
  std::vector<lethe::Slot> kept_;
  lethe::detail::LayerJob job_{};
};

/// The first field in which two plans differ; null when they are the same, bit for bit.
inline const char* difference(const Planned& a, const Planned& b) {
  const auto bits = [](double value) { return std::bit_cast<std::uint64_t>(value); };
  const lethe::gpu::LayerPlan& p = a.plan;
  const lethe::gpu::LayerPlan& q = b.plan;
  if (p.outcome != q.outcome || p.examined != q.examined) return "outcome";
  if (p.summary.finite != q.summary.finite) return "summary.finite";
  if (p.summary.finite && p.summary.count != q.summary.count) return "summary.count";
  if (p.summary.finite && bits(p.summary.sum) != bits(q.summary.sum)) return "summary.sum";
  const bool squares = bits(p.summary.square_sum) == bits(q.summary.square_sum);
  if (p.summary.finite && !squares) return "summary.square_sum";
  const bool maxima = bits(p.summary.maximum) == bits(q.summary.maximum);
  if (p.summary.finite && !maxima) return "summary.maximum";
  if (bits(p.sparsity) != bits(q.sparsity)) return "sparsity";
  if (p.breakpoint != q.breakpoint) return "breakpoint";
  if (p.protected_tokens != q.protected_tokens) return "protected_tokens";
  if (p.tokens != q.tokens || p.kept != q.kept) return "kept";
  if (p.first_move != q.first_move) return "first_move";
  if (p.cadence.threshold != q.cadence.threshold) return "threshold";
  if (p.cadence.since_round != q.cadence.since_round) return "since_round";
  return a.kept == b.kept ? nullptr : "slots";
}

}  // namespace gpu_test
