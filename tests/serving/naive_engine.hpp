#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <deque>
#include <optional>
#include <vector>

#include "engine_settings.hpp"
#include "profile.hpp"
#include "results.hpp"
#include "trace.hpp"

namespace serving::test {

/// The same engine without tables, prefixes or anything kept between decisions: blocks are counted
/// anew from the lengths of all requests, every time.
class NaiveEngine {
 public:
  NaiveEngine(const Trace& trace, const Profile& profile, const EngineSettings& settings)
      : trace_(trace), profile_(profile), settings_(settings), all_(trace.requests.size()) {
    for (std::size_t i = 0; i < all_.size(); ++i) all_[i].known = trace.requests[i].input;
  }

  std::vector<Served> run() {
    while (done_ < all_.size()) {
      for (; next_ < all_.size() && trace_.requests[next_].arrival <= now_; ++next_)
        waiting_.push_back(next_);
      const std::size_t depth = settings_.schedules_ahead ? 2 : 1;
      if (steps_.size() < depth && decide() && steps_.size() < depth) continue;
      if (!steps_.empty())
        complete();
      else if (next_ < all_.size())
        now_ = std::max(now_, trace_.requests[next_].arrival);
    }
    std::vector<Served> served;
    for (const State& state : all_) served.push_back(state.served);
    return served;
  }

 private:
  struct State {
    Served served;
    std::size_t known = 0, computed = 0, ahead = 0, room = 0;
  };
  struct Part {
    std::size_t request, tokens, context;
    bool gives;
  };
  struct Step {
    double end;
    std::vector<Part> parts;
  };

  std::size_t free_blocks() const {
    std::size_t used = 0;
    for (const State& state : all_) used += blocks(state.room);
    return profile_.device_blocks - used;
  }
  std::size_t blocks(std::size_t tokens) const {
    return (tokens + settings_.block_tokens - 1) / settings_.block_tokens;
  }
  bool fits(std::size_t request, std::size_t tokens) const {
    return blocks(tokens) - std::min(blocks(tokens), blocks(all_[request].room)) <= free_blocks();
  }
  std::size_t last_token(std::size_t i) const {
    return trace_.requests[i].input + trace_.requests[i].output;
  }

  void add(std::size_t i, std::size_t tokens, std::vector<Part>& parts) {
    State& state = all_[i];
    const bool gives = state.computed + tokens == state.known + state.ahead;
    parts.push_back({i, tokens, state.computed, gives});
    state.room = std::max(state.room, state.computed + tokens);
    state.computed += tokens;
    state.ahead += gives ? 1 : 0;
  }

  bool run_those_that_run(std::vector<Part>& parts, std::size_t& budget) {
    for (std::size_t i = 0; i < running_.size() && budget > 0; ++i) {
      const std::size_t request = running_[i];
      State& state = all_[request];
      if (state.ahead > 0 && state.known + state.ahead >= last_token(request)) continue;
      const std::size_t tokens = std::min(state.known + state.ahead - state.computed, budget);
      if (tokens == 0) continue;
      while (i < running_.size() && !fits(request, state.computed + tokens)) evict_last();
      if (i >= running_.size()) return false;
      add(request, tokens, parts);
      budget -= tokens;
    }
    return !evicted_;
  }

  void evict_last() {
    State& state = all_[running_.back()];
    state.room = state.computed = 0;
    ++state.served.preemptions;
    waiting_.push_front(running_.back());
    running_.pop_back();
    evicted_ = true;
  }

  bool decide() {
    std::vector<Part> parts;
    std::size_t budget = settings_.batch_tokens;
    evicted_ = false;
    bool admits = run_those_that_run(parts, budget);
    while (admits && !waiting_.empty() && budget > 0 && running_.size() < settings_.sequences) {
      const std::size_t request = waiting_.front();
      const std::size_t tokens = std::min(all_[request].known, budget);
      if (!fits(request, settings_.reserves_prompt ? all_[request].known : tokens)) break;
      waiting_.pop_front();
      running_.push_back(request);
      if (all_[request].served.scheduled < 0) all_[request].served.scheduled = now_;
      add(request, tokens, parts);
      budget -= tokens;
    }
    if (parts.empty()) return false;
    free_at_ = std::max(now_, free_at_) + seconds(parts);
    steps_.push_back({free_at_, parts});
    return true;
  }

  double seconds(const std::vector<Part>& parts) const {
    std::vector<PrefillPart> prefills;
    StepWork work;
    for (const Part& part : parts) {
      if (part.tokens > 1) {
        prefills.push_back({static_cast<double>(part.tokens), static_cast<double>(part.context)});
        continue;
      }
      ++work.decodes;
      work.decode_context += static_cast<double>(part.context + 1);
    }
    work.prefills = prefills;
    return profile_.times.seconds(work);
  }

  void complete() {
    const Step step = steps_.front();
    steps_.pop_front();
    now_ = step.end;
    for (const Part& part : step.parts) {
      if (!part.gives) continue;
      State& state = all_[part.request];
      ++state.known;
      --state.ahead;
      if (state.served.first < 0) state.served.first = now_;
      if (state.known < last_token(part.request)) continue;
      state.served.end = now_;
      state.room = 0;
      std::erase(running_, part.request);
      std::erase(waiting_, part.request);
      ++done_;
    }
  }

  const Trace& trace_;
  const Profile& profile_;
  EngineSettings settings_;
  std::vector<State> all_;
  std::vector<std::size_t> running_;
  std::deque<std::size_t> waiting_;
  std::deque<Step> steps_;
  std::size_t next_ = 0, done_ = 0;
  double now_ = 0, free_at_ = 0;
  bool evicted_ = false;
};

}  // namespace serving::test
