#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "arrivals.hpp"
#include "engine_settings.hpp"
#include "profile.hpp"
#include "results.hpp"
#include "scheduler.hpp"
#include "step_times.hpp"
#include "timeline.hpp"
#include "trace.hpp"

namespace serving {

/// Runs a trace through a scheduler, step by step.
///
/// A step is decided while the one before it runs, where the settings say so: then its tokens count
/// as known though their values are not, and what the running step frees is not free yet.
template <class Policy>
class EngineLoop {
 public:
  /// policy writes into `results`, whose requests are as many as the trace's.
  EngineLoop(const Trace& trace, const StepTimes& times, const EngineSettings& settings,
             Policy& policy, RunResults& results)
      : trace_(trace),
        times_(times),
        settings_(settings),
        policy_(policy),
        results_(results),
        arrivals_(trace, policy, results) {}

  void run(const std::function<void(std::size_t)>& progress) {
    while (arrivals_.done() < trace_.requests.size()) {
      arrivals_.until(now_);
      if (under_way_ < depth() && begin() && under_way_ < depth()) continue;
      if (under_way_ > 0)
        finish();
      else
        wait();
      if (progress && results_.steps % 64 == 0) progress(arrivals_.done());
    }
    results_.makespan = now_ - trace_.requests.front().arrival;
    results_.moments = timeline_.take();
  }

 private:
  /// A step that was decided and is not over.
  struct Step {
    double end = 0;
    std::vector<StepItem> items;
  };

  std::size_t depth() const { return settings_.schedules_ahead ? 2 : 1; }

  /// Decides a step; false when there is nothing to do.
  bool begin() {
    Step& step = steps_[(first_ + under_way_) % steps_.size()];
    policy_.schedule(now_, step.items);
    if (step.items.empty()) return false;
    const double begin = std::max(now_, free_at_);
    const double spent = seconds(step.items) * times_.slowdown(begin);
    step.end = policy_.end_of_step(begin, spent, step.items);
    results_.busy += step.end - begin;
    free_at_ = step.end;
    ++results_.steps;
    ++under_way_;
    return true;
  }

  void finish() {
    Step& step = steps_[first_];
    now_ = step.end;
    policy_.finish(now_, step.items);
    first_ = (first_ + 1) % steps_.size();
    --under_way_;
    timeline_.add(moment_of(now_, policy_));
  }

  /// Nothing runs: until the next arrival, or blocks that come free.
  void wait() {
    if (arrivals_.done() == trace_.requests.size()) return;
    const double next = std::min(policy_.next_event(), arrivals_.next());
    if (!std::isfinite(next)) throw std::logic_error("the engine waits for nothing");
    now_ = std::max(now_, next);
  }

  double seconds(const std::vector<StepItem>& items) {
    parts_.clear();
    StepWork work;
    for (const StepItem& item : items) {
      const double context = policy_.context(item.slot, item.context);
      if (item.tokens > 1) {
        parts_.push_back({static_cast<double>(item.tokens), context});
      } else {
        ++work.decodes;
        work.decode_context += context + 1;
      }
    }
    work.prefills = parts_;
    return times_.seconds(work);
  }

  const Trace& trace_;
  const StepTimes& times_;
  EngineSettings settings_;
  Policy& policy_;
  RunResults& results_;
  Arrivals<Policy> arrivals_;
  Timeline timeline_;
  std::array<Step, 2> steps_;
  std::size_t first_ = 0;
  std::size_t under_way_ = 0;
  std::vector<PrefillPart> parts_;
  double now_ = 0;
  double free_at_ = 0;
};

}  // namespace serving
