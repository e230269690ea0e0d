/// Random layers for a round, and the host library's plans for them.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "lethe/gpu/policies.hpp"
#include "lethe/gpu/round_block.cuh"
#include "lethe/planner.hpp"
#include "samples.hpp"

namespace gpu_test {

/// Budgets of a table; on a device a copy of them.
inline constexpr std::uint32_t table_budgets[] = {40, 7, 260, 31000};

struct PlanCase {
  lethe::gpu::PlanSettings settings{};
  /// The host's, one a token.
  std::vector<float> scores{};
  std::vector<lethe::Position> positions{};
  lethe::Position pinned = 0;
  lethe::gpu::Cadence cadence{};
  std::uint32_t layer = 0;
  std::uint32_t layers = 1;
  /// Queries that the sequence has seen.
  std::uint32_t seen = 0;
  /// The state's window, where the scores are those of one.
  std::vector<float> window_rows{};
  std::vector<std::uint32_t> window_queries{};

  [[nodiscard]] std::uint32_t tokens() const { return static_cast<std::uint32_t>(scores.size()); }
  [[nodiscard]] std::uint32_t capacity() const {
    return static_cast<std::uint32_t>(settings.capacity);
  }
  [[nodiscard]] lethe::gpu::StateShape shape() const {
    return lethe::gpu::shape_for(settings, layers, 1, capacity());
  }
};

/// Writes a case into its state, copy(target, source, bytes) being the memory's own; layers but the
/// case's hold no token.
template <class Copy>
void fill(const PlanCase& given, const lethe::gpu::State& state, Copy&& copy) {
  const auto write = [&](auto* target, const auto* source, std::size_t count) {
    static_assert(sizeof(*target) == sizeof(*source));
    copy(static_cast<void*>(target), static_cast<const void*>(source), count * sizeof(*source));
  };
  const std::size_t number = state.number(given.layer, 0);
  const std::size_t begin = number * given.capacity();
  std::vector<std::uint32_t> lengths(given.layers, 0);
  lengths[given.layer] = given.tokens();
  write(state.lengths, lengths.data(), lengths.size());
  write(state.positions + begin, given.positions.data(), given.tokens());
  write(state.cadences + number, &given.cadence, 1);
  write(state.pinned, &given.pinned, 1);
  write(state.next_positions, &given.seen, 1);
  const lethe::gpu::MassWindow window = state.window(number);
  if (window.rows != nullptr) {
    write(window.rows, given.window_rows.data(), given.window_rows.size());
    write(window.queries, given.window_queries.data(), given.window_queries.size());
  } else if (state.scores != nullptr) {
    write(state.scores + begin, given.scores.data(), given.tokens());
  }
}

/// A plan and its slots.
struct Planned {
  lethe::gpu::LayerPlan plan{};
  std::vector<lethe::Slot> kept{};
};

/// Whether a plan's slots count.
inline bool drops(lethe::Outcome outcome) {
  return outcome == lethe::Outcome::pruned || outcome == lethe::Outcome::guarded;
}

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

inline lethe::gpu::BudgetRule random_rule(Samples& samples) {
  using lethe::gpu::BudgetRule;
  const BudgetRule rules[] = {BudgetRule::breakpoint,  BudgetRule::breakpoint, BudgetRule::uniform,
                              BudgetRule::mass_target, BudgetRule::pyramid,    BudgetRule::table};
  return rules[samples.below(6)];
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
  settings.rule = random_rule(samples);
  const float shares[] = {0.1f, 0.5f, 0.93f, 1.0f};
  settings.mass_target.share = shares[samples.below(4)];
  settings.pyramid = {.budget = 1 + samples.below(2 * capacity),
                      .beta = 1 + samples.below(30),
                      .window = samples.below(40)};
  settings.table = {table_budgets, 1 + static_cast<std::uint32_t>(samples.below(4))};
  if (samples.below(3) == 0) settings.max_lost_mass = samples.between(0.0f, 0.5f);
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
  made.layers = 1 + static_cast<std::uint32_t>(samples.below(4));
  made.layer = static_cast<std::uint32_t>(samples.below(made.layers));
  return made;
}

template <class Scorer>
std::vector<float> scores_of(Scorer& scorer, std::size_t layer,
                             std::span<const lethe::Position> positions) {
  std::vector<float> scratch(positions.size());
  const std::span<const float> scores = scorer.score(layer, 0, positions, scratch);
  return {scores.begin(), scores.end()};
}

/// A window's masses, some of them from before it, told to the host's scorer and to the case's rows
/// alike; what a query could not see is poison there.
inline void record_window(Samples& samples, lethe::WindowMass& scorer, PlanCase& made) {
  const auto window = static_cast<std::uint32_t>(made.settings.score.window.window);
  made.window_rows.assign(std::size_t{window} * made.capacity(), not_a_number);
  made.window_queries.assign(window, 0);
  const lethe::gpu::MassWindow mass{made.window_rows.data(), made.window_queries.data(), window,
                                    made.capacity()};
  const std::uint32_t last = *std::max_element(made.positions.begin(), made.positions.end()) + 1;
  made.seen = last + static_cast<std::uint32_t>(samples.below(3));
  scorer.advance(made.seen);
  for (std::uint32_t number = made.seen - std::min(made.seen, window + 2) + 1; number <= made.seen;
       ++number) {
    if (samples.below(8) == 0) continue;
    std::vector<float> row = random_scores(samples, made.tokens());
    if (samples.below(15) != 0) {
      for (float& value : row) value = lethe::is_finite(value) ? value : 0.0f;
    }
    for (std::uint32_t slot = 0; slot < made.tokens(); ++slot) {
      const bool seen = made.positions[slot] < number;
      if (!seen) row[slot] = 0.0f;
      if (seen || slot == 0) mass.record(slot, number, row[slot]);
    }
    const auto age = static_cast<std::int64_t>(made.seen - number);
    scorer.record(0, 0, -1 - age, 0, row);
  }
}

/// A layer whose scores come of a window, are drawn, or are all the same.
inline PlanCase random_scored_case(Samples& samples, std::size_t most) {
  using lethe::gpu::ScoreRule;
  PlanCase made = random_case(samples, most);
  const ScoreRule rules[] = {ScoreRule::window, ScoreRule::window, ScoreRule::random,
                             ScoreRule::none};
  made.settings.score = {
      .rule = rules[samples.below(4)],
      .window = {.window = 1 + samples.below(6),
                 .pool = 1 + 2 * samples.below(4),
                 .pooling = samples.below(2) == 0 ? lethe::Pooling::maximum : lethe::Pooling::mean},
      .random = {.seed = samples.word()}};
  const lethe::ScoreShape shape{.layers = made.layers, .slots = made.settings.capacity};
  if (made.settings.score.rule == ScoreRule::window) {
    lethe::WindowMass scorer(made.settings.score.window, {.layers = 1, .slots = shape.slots});
    record_window(samples, scorer, made);
    made.scores = scores_of(scorer, 0, made.positions);
  } else if (made.settings.score.rule == ScoreRule::random) {
    made.seen = static_cast<std::uint32_t>(samples.below(100000));
    lethe::RandomScore scorer(made.settings.score.random, shape);
    scorer.advance(made.seen);
    made.scores = scores_of(scorer, made.layer, made.positions);
  } else {
    made.scores.assign(made.tokens(), 0.0f);
  }
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
    const bool examined = examine_due();
    if (job_.outcome != lethe::Outcome::pruned) return result(examined, {});
    return result(true, select());
  }

  /// Whether the layer is examined.
  bool examine_due() {
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
    if (!job_.forced && !due) return false;
    job_.summary = lethe::summarise(given_.scores);
    job_.outcome = lethe::Outcome::non_finite;
    if (!job_.summary.finite) return true;
    job_.outcome = lethe::Outcome::pruned;
    examine();
    return true;
  }

  [[nodiscard]] const lethe::detail::LayerJob& job() const { return job_; }

  /// The plan of a layer that does as its neediest head, `job`, says (round/examine.hpp, move.hpp).
  [[nodiscard]] Planned run_as(const lethe::detail::LayerJob& job, bool examined) {
    job_.outcome = job.outcome;
    if (job.outcome != lethe::Outcome::pruned) return result(examined, {});
    job_.tokens = job.tokens;
    protect(job.tokens);
    return result(true, select());
  }

 private:
  void protect(std::size_t most) {
    const auto prefix =
        static_cast<lethe::Position>(std::max<std::size_t>(retention_.first_tokens, given_.pinned));
    planner_.protect(job_, retention_, given_.positions, settings_.ordered, prefix, most);
  }

  [[nodiscard]] bool reads_mass() const {
    using lethe::gpu::ScoreRule;
    return settings_.score.rule == ScoreRule::rasr || settings_.score.rule == ScoreRule::window;
  }

  /// As lethe::detail::Move's.
  [[nodiscard]] std::span<const lethe::Slot> select() {
    const double most = reads_mass() ? static_cast<double>(settings_.max_lost_mass) : 1.0;
    job_.hard_limit = std::max(job_.tokens, permitted(job_.hard_limit, job_.hard_limit));
    const auto whole = [&](std::size_t tokens) { return permitted(tokens, job_.hard_limit); };
    return planner_.select_guarded(job_, given_.scores, given_.positions, settings_.ordered, most,
                                   whole, kept_);
  }

  [[nodiscard]] lethe::Budget budget() {
    using lethe::gpu::BudgetRule;
    job_.layer = given_.layer;
    const lethe::LayerScores view =
        planner_.view(job_, given_.layers, given_.scores, given_.positions, settings_.ordered);
    if (settings_.rule == BudgetRule::uniform) {
      return lethe::UniformBudget(settings_.uniform).budget(view);
    }
    if (settings_.rule == BudgetRule::mass_target) {
      return lethe::MassTarget(settings_.mass_target).budget(view);
    }
    if (settings_.rule == BudgetRule::pyramid) {
      return lethe::PyramidBudget(settings_.pyramid).budget(view);
    }
    if (settings_.rule == BudgetRule::table) {
      const lethe::gpu::LayerTable& table = settings_.table;
      return lethe::TableBudget({{table_budgets, table_budgets + table.entries}}).budget(view);
    }
    return lethe::SegmentBreakpoint(settings_.breakpoint).budget(view);
  }

  [[nodiscard]] std::size_t permitted(std::size_t tokens, std::size_t limit) const {
    const std::size_t block = settings_.block_tokens;
    const std::size_t rounded = (tokens + block - 1) / block * block;
    return rounded <= limit ? rounded : tokens;
  }

  void examine() {
    protect(job_.limit);
    job_.limit = std::max(job_.limit, std::min(job_.prefix_tokens, job_.hard_limit));
    job_.budget = budget();
    if (job_.budget.spread_out && !job_.forced) {
      job_.outcome = lethe::Outcome::spread_out;
      return;
    }
    const std::size_t wanted = permitted(std::min(job_.budget.tokens, job_.limit), job_.limit);
    if (lethe::detail::changes_recents(job_, retention_, wanted)) protect(wanted);
    job_.tokens = wanted;
    if (wanted < job_.protected_tokens) {
      job_.tokens = std::max(job_.protected_tokens, permitted(job_.protected_tokens, job_.limit));
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
    if (job_.summary.finite && reads_mass())
      planned.plan.sparsity = lethe::hoyer_sparsity(job_.summary);
    planned.plan.protected_tokens = static_cast<std::uint32_t>(job_.protected_tokens);
    planned.plan.breakpoint = static_cast<std::uint32_t>(job_.budget.breakpoint);
    if (job_.outcome == lethe::Outcome::spread_out && tokens >= given_.cadence.threshold) {
      planned.plan.cadence.threshold = static_cast<std::uint32_t>(
          std::min<std::size_t>(2 * std::size_t{given_.cadence.threshold}, settings_.capacity));
    }
    if (drops(job_.outcome)) {
      if (reads_mass() && settings_.max_lost_mass < 1.0f) planned.plan.lost_mass = job_.lost_mass;
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

/// What the host library does with the heads of one layer (Examination::examine_layer).
inline std::vector<Planned> plan_heads(const std::vector<PlanCase>& heads) {
  std::vector<HostRound> rounds;
  rounds.reserve(heads.size());
  lethe::detail::LayerJob neediest;
  bool examined = false;
  for (const PlanCase& head : heads) {
    HostRound& own = rounds.emplace_back(head);
    const bool first = &head == &heads.front();
    examined = own.examine_due();
    if (!first && !lethe::detail::is_movable(neediest)) continue;
    const bool needier = lethe::detail::kept_by(own.job()) > lethe::detail::kept_by(neediest);
    if (first || needier || !lethe::detail::is_movable(own.job())) neediest = own.job();
  }
  std::vector<Planned> planned;
  for (HostRound& own : rounds) planned.push_back(own.run_as(neediest, examined));
  return planned;
}

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
  if (bits(p.lost_mass) != bits(q.lost_mass)) return "lost_mass";
  if (p.breakpoint != q.breakpoint) return "breakpoint";
  if (p.protected_tokens != q.protected_tokens) return "protected_tokens";
  if (p.tokens != q.tokens || p.kept != q.kept) return "kept";
  if (p.first_move != q.first_move) return "first_move";
  if (p.cadence.threshold != q.cadence.threshold) return "threshold";
  if (p.cadence.since_round != q.cadence.since_round) return "since_round";
  return a.kept == b.kept ? nullptr : "slots";
}

}  // namespace gpu_test
