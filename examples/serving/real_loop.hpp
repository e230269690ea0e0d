#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "arrivals.hpp"
#include "results.hpp"
#include "run_clock.hpp"
#include "scheduler.hpp"
#include "step_runner.hpp"
#include "timeline.hpp"
#include "trace.hpp"

namespace serving {

/// The tokens of each request: its prompt, and behind it what was generated.
using Texts = std::vector<std::vector<std::int32_t>>;

/// Called between steps of a run.
struct RunHooks {
  std::function<void(std::size_t)> progress;  ///< told how many requests are done; may be empty
  /// Told how many seconds have passed; the clock stands still meanwhile. May be empty.
  std::function<void(double)> pause;
};

/// EngineLoop with a clock on the wall: requests arrive when their time has come, and the steps
/// that a scheduler decides are computed.
template <class Policy, class Runner>
class RealLoop {
 public:
  /// texts: the prompts, as the trace says how long; what is generated is appended.
  RealLoop(const Trace& trace, Policy& policy, Runner& runner, RunClock& clock, RunResults& results,
           Texts& texts)
      : trace_(trace),
        policy_(policy),
        runner_(runner),
        clock_(clock),
        results_(results),
        texts_(texts),
        arrivals_(trace, policy, results) {}

  /// Serves all requests, and waits until no layer is on its way.
  void run(const RunHooks& hooks) {
    while (arrivals_.done() < trace_.requests.size()) {
      arrivals_.until(clock_.seconds());
      policy_.schedule(clock_.seconds(), items_);
      if (items_.empty())
        wait();
      else
        step();
      if (hooks.progress) hooks.progress(arrivals_.done());
      if (hooks.pause) clock_.leave_out([&] { hooks.pause(clock_.seconds()); });
    }
    results_.makespan = clock_.seconds() - trace_.requests.front().arrival;
    results_.moments = timeline_.take();
    while (are_moving()) pause(0);
  }

 private:
  void step() {
    idle_ = 0;
    parts_.clear();
    for (const StepItem& item : items_) {
      const Live& live = policy_.live(item.slot);
      parts_.push_back({live.id, std::span(texts_[live.index]).subspan(item.context, item.tokens),
                        item.context});
    }
    const double begin = clock_.seconds();
    const std::span<const std::int32_t> drawn = runner_.run(policy_.tables(), parts_);
    for (std::size_t i = 0; i < items_.size(); ++i)
      if (items_[i].gives_token) texts_[policy_.live(items_[i].slot).index].push_back(drawn[i]);
    // What the scheduler thinks of the link comes from its model; what has passed, from the clock.
    static_cast<void>(policy_.end_of_step(begin, runner_.seconds().compute(), items_));
    const double now = clock_.seconds();
    policy_.finish(now, items_);
    ++results_.steps;
    results_.busy += now - begin;
    timeline_.add(moment_of(now, policy_));
  }

  bool are_moving() {
    policy_.end_moves(clock_.seconds());
    return std::isfinite(policy_.next_event());
  }

  /// Nothing can be computed: until the next arrival, or a while for layers on their way.
  void wait() {
    const bool is_moving = are_moving();
    if (std::isfinite(arrivals_.next()))
      return pause(is_moving ? 0 : arrivals_.next() - clock_.seconds());
    if (!is_moving && arrivals_.done() < trace_.requests.size() && ++idle_ > most_idle)
      throw std::logic_error("the engine waits for nothing");
    pause(0);
  }

  static void pause(double seconds) {
    std::this_thread::sleep_for(std::chrono::duration<double>(std::max(seconds, 2e-4)));
  }

  /// Layers that arrived since the last look may have made room.
  static constexpr std::size_t most_idle = 16;

  const Trace& trace_;
  Policy& policy_;
  Runner& runner_;
  RunClock& clock_;
  RunResults& results_;
  Texts& texts_;
  Arrivals<Policy> arrivals_;
  Timeline timeline_;
  std::vector<StepItem> items_;
  std::vector<StepPart> parts_;
  std::size_t idle_ = 0;
};

}  // namespace serving
