#include "engine.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "scheduler.hpp"
#include "timeline.hpp"

namespace serving {
namespace {

/// A step that was decided and is not over.
struct Step {
  double end = 0;
  std::vector<StepItem> items;
};

MemorySettings memory_settings(const Trace& trace, const Profile& profile,
                               const EngineSettings& settings) {
  std::size_t longest = 1;
  for (const Request& request : trace.requests)
    longest = std::max<std::size_t>(longest, request.input + request.output);
  return {.block_tokens = settings.block_tokens,
          .device_blocks = profile.device_blocks,
          .requests = settings.sequences,
          .longest = longest,
          .has_prefix_cache = settings.has_prefix_cache};
}

class Engine {
 public:
  Engine(const Trace& trace, const Profile& profile, const EngineSettings& settings)
      : trace_(trace),
        profile_(profile),
        settings_(settings),
        memory_(trace, memory_settings(trace, profile, settings)),
        scheduler_(settings, memory_, results_) {
    results_.requests.resize(trace.requests.size());
  }

  RunResults run(const std::function<void(std::size_t)>& progress) {
    while (done() < trace_.requests.size()) {
      arrive();
      if (under_way_ < depth() && begin()) {
        if (under_way_ < depth()) continue;
      }
      if (under_way_ > 0)
        finish();
      else if (next_ < trace_.requests.size())
        now_ = std::max(now_, trace_.requests[next_].arrival);
      if (progress && results_.steps % 64 == 0) progress(done());
    }
    results_.makespan = now_ - trace_.requests.front().arrival;
    results_.moments = timeline_.take();
    return std::move(results_);
  }

 private:
  std::size_t depth() const { return settings_.schedules_ahead ? 2 : 1; }
  std::size_t done() const { return scheduler_.finished() + refused_; }

  void arrive() {
    for (; next_ < trace_.requests.size() && trace_.requests[next_].arrival <= now_; ++next_) {
      const Request& request = trace_.requests[next_];
      const std::size_t blocks =
          (request.input + request.output + settings_.block_tokens - 1) / settings_.block_tokens;
      if (blocks > memory_.size()) {
        results_.requests[next_].is_refused = true;
        ++refused_;
      } else {
        scheduler_.arrive(static_cast<std::uint32_t>(next_), request);
      }
    }
  }

  /// Decides a step; false when there is nothing to do.
  bool begin() {
    Step& step = steps_[(first_ + under_way_) % steps_.size()];
    scheduler_.schedule(now_, step.items);
    if (step.items.empty()) return false;
    const double begin = std::max(now_, free_at_);
    step.end = begin + seconds(step.items);
    results_.busy += step.end - begin;
    free_at_ = step.end;
    ++results_.steps;
    ++under_way_;
    return true;
  }

  void finish() {
    Step& step = steps_[first_];
    now_ = step.end;
    scheduler_.finish(now_, step.items);
    first_ = (first_ + 1) % steps_.size();
    --under_way_;
    timeline_.add(
        {now_, static_cast<std::uint32_t>(scheduler_.running()),
         static_cast<std::uint32_t>(scheduler_.waiting()),
         1 - static_cast<double>(memory_.available()) / static_cast<double>(memory_.size()), 0});
  }

  double seconds(const std::vector<StepItem>& items) {
    parts_.clear();
    StepWork work;
    for (const StepItem& item : items) {
      if (item.tokens > 1) {
        parts_.push_back({static_cast<double>(item.tokens), static_cast<double>(item.context)});
      } else {
        ++work.decodes;
        work.decode_context += item.context + 1;
      }
    }
    work.prefills = parts_;
    return profile_.times.seconds(work);
  }

  const Trace& trace_;
  const Profile& profile_;
  EngineSettings settings_;
  RunResults results_;
  Memory memory_;
  Scheduler scheduler_;
  Timeline timeline_;
  std::array<Step, 2> steps_;
  std::size_t first_ = 0;
  std::size_t under_way_ = 0;
  std::vector<PrefillPart> parts_;
  std::size_t next_ = 0;
  std::size_t refused_ = 0;
  double now_ = 0;
  double free_at_ = 0;
};

}  // namespace

RunResults serve(const Trace& trace, const Profile& profile, const EngineSettings& settings,
                 const std::function<void(std::size_t)>& progress) {
  return Engine(trace, profile, settings).run(progress);
}

}  // namespace serving
