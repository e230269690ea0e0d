// planner.hpp: from a layer's scores to the slots that stay.
#include "lethe/planner.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "lethe/budget.hpp"
#include "lethe/budget/breakpoint.hpp"
#include "ratio.hpp"

namespace {

/// Different scores by turns, so that the branch predictor cannot learn one set by heart.
class Turns {
 public:
  explicit Turns(std::size_t n) {
    for (std::size_t i = 0; i < sets_.size(); ++i) sets_[i] = bench::skewed(n, i + 1);
  }
  [[nodiscard]] std::span<const float> next() { return sets_[turn_++ % sets_.size()]; }

 private:
  std::array<std::vector<float>, 16> sets_;
  std::size_t turn_ = 0;
};

/// All of a round's steps for one layer that fills its bound, up to the check of the plan.
template <class Allocator>
class Round {
 public:
  Round(std::size_t n, const lethe::Retention& retention, const Allocator& allocator)
      : n_(n),
        retention_(retention),
        allocator_(allocator),
        slots_(1, 1, n),
        planner_(n),
        kept_(n + 1) {
    slots_.append(0, n, 0);
  }

  lethe::PlanFault operator()(std::span<const float> scores) {
    const std::span<const lethe::Position> positions = slots_.positions(0);
    lethe::detail::LayerJob job{.before = n_, .limit = n_ - n_ / 8, .hard_limit = n_ - 1};
    job.summary = lethe::summarise(scores);
    planner_.protect(job, retention_, positions, true, 4, job.limit);
    job.budget = allocator_.budget(planner_.view(job, 1, scores, positions, true));
    job.tokens = std::max(std::min(job.budget.tokens, job.limit), job.protected_tokens);
    const std::span<const lethe::Slot> kept =
        planner_.select_guarded(job, scores, positions, true, 1.0, std::identity(), kept_);
    const lethe::EvictionPlan plan{.tokens = static_cast<std::uint32_t>(n_),
                                   .first_move = lethe::first_move_of(kept),
                                   .kept = kept,
                                   .positions = positions};
    return lethe::check_plan(plan, job.protection);
  }

 private:
  std::size_t n_;
  lethe::Retention retention_;
  Allocator allocator_;
  lethe::SlotTable slots_;
  lethe::detail::Planner planner_;
  std::vector<lethe::Slot> kept_;
};

template <class Allocator>
void plan(benchmark::State& state, const lethe::Retention& retention, const Allocator& allocator) {
  const auto n = static_cast<std::size_t>(state.range(0));
  Turns floor_turns(n);
  Turns turns(n);
  std::vector<float> copy(n);
  Round<Allocator> round(n, retention, allocator);
  bench::compare(
      state,
      [&] {
        const std::span<const float> scores = floor_turns.next();
        std::copy(scores.begin(), scores.end(), copy.begin());
        std::nth_element(copy.begin(), copy.begin() + static_cast<std::ptrdiff_t>(n / 4),
                         copy.end(), std::greater<>());
      },
      [&] {
        if (round(turns.next()) != lethe::PlanFault::none) state.SkipWithError("unsound plan");
      });
}

void plan_breakpoint(benchmark::State& state) {
  plan(state, {.recent_ratio = 0.3f}, lethe::SegmentBreakpoint({}));
}
BENCHMARK(plan_breakpoint)->Arg(8192)->Arg(32768)->Iterations(401)->UseManualTime();

void plan_top_k(benchmark::State& state) {
  plan(state, {.first_tokens = 0},
       lethe::UniformBudget({.budget = static_cast<std::size_t>(state.range(0)) / 4}));
}
BENCHMARK(plan_top_k)->Arg(8192)->Arg(32768)->Iterations(401)->UseManualTime();

}  // namespace
