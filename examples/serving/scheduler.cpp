#include "scheduler.hpp"

#include <algorithm>

namespace serving {

Scheduler::Scheduler(const EngineSettings& settings, Memory& memory, RunResults& results)
    : settings_(settings), memory_(memory), results_(results) {}

bool Scheduler::fits(const Request& request) const {
  return settings_.blocks_of(request.input + request.output) <= memory_.size();
}

double Scheduler::device_share() const {
  return 1 - static_cast<double>(memory_.available()) / static_cast<double>(memory_.size());
}

void Scheduler::arrive(std::uint32_t index, const Request& request) {
  if (unused_.empty()) {
    unused_.push_back(static_cast<std::uint32_t>(lives_.size()));
    lives_.emplace_back();
  }
  const std::uint32_t slot = unused_.back();
  unused_.pop_back();
  lives_[slot] = {
      .index = index, .input = request.input, .output = request.output, .known = request.input};
  waiting_.push_back(slot);
}

void Scheduler::schedule(double now, std::vector<StepItem>& items) {
  items.clear();
  has_preempted_ = false;
  std::size_t budget = settings_.batch_tokens;
  schedule_running(items, budget);
  if (!has_preempted_) admit_waiting(now, items, budget);
}

void Scheduler::schedule_running(std::vector<StepItem>& items, std::size_t& budget) {
  for (std::size_t i = 0; i < running_.size() && budget > 0; ++i) {
    const std::uint32_t slot = running_[i];
    const Live& live = lives_[slot];
    const std::size_t tokens = std::min<std::size_t>(live.missing(), budget);
    if (live.is_ending() || tokens == 0) continue;
    if (!make_room(i, slot, live.computed + tokens)) return;
    add_item(slot, tokens, items, budget);
  }
}

bool Scheduler::make_room(std::size_t position, std::uint32_t slot, std::size_t tokens) {
  while (!memory_.grow(lives_[slot], tokens)) {
    preempt_last();
    if (running_.size() <= position) return false;
  }
  return true;
}

void Scheduler::preempt_last() {
  const std::uint32_t slot = running_.back();
  running_.pop_back();
  Live& live = lives_[slot];
  memory_.release(live);
  live.computed = 0;
  ++live.preemptions;
  ++results_.preemptions;
  waiting_.push_front(slot);
  has_preempted_ = true;
}

void Scheduler::admit_waiting(double now, std::vector<StepItem>& items, std::size_t& budget) {
  while (!waiting_.empty() && budget > 0 && running_.size() < settings_.sequences) {
    const std::uint32_t slot = waiting_.front();
    Live& live = lives_[slot];
    if (!memory_.admit(live, budget, settings_.reserves_prompt)) return;
    waiting_.pop_front();
    running_.push_back(slot);
    results_.reused_tokens += live.computed;
    if (!live.was_scheduled) results_.requests[live.index].scheduled = now;
    live.was_scheduled = true;
    add_item(slot, std::min<std::size_t>(live.missing(), budget), items, budget);
  }
}

void Scheduler::add_item(std::uint32_t slot, std::size_t tokens, std::vector<StepItem>& items,
                         std::size_t& budget) {
  Live& live = lives_[slot];
  const auto count = static_cast<std::uint32_t>(tokens);
  const bool gives = live.missing() == count;
  items.push_back({slot, count, live.computed, gives});
  live.computed += count;
  live.ahead += gives ? 1 : 0;
  budget -= tokens;
  memory_.publish(live);
}

void Scheduler::finish(double now, const std::vector<StepItem>& items) {
  for (const StepItem& item : items) {
    if (!item.gives_token) continue;
    Live& live = lives_[item.slot];
    ++live.known;
    --live.ahead;
    Served& served = results_.requests[live.index];
    if (served.first < 0) served.first = now;
    if (live.known == live.longest()) end(now, item.slot);
  }
}

void Scheduler::end(double now, std::uint32_t slot) {
  Live& live = lives_[slot];
  Served& served = results_.requests[live.index];
  served.end = now;
  served.preemptions = live.preemptions;
  const auto at = std::find(running_.begin(), running_.end(), slot);
  if (at != running_.end()) {
    memory_.release(live);
    running_.erase(at);
  } else {
    waiting_.erase(std::find(waiting_.begin(), waiting_.end(), slot));
  }
  unused_.push_back(slot);
  ++finished_;
}

}  // namespace serving
