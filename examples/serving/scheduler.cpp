#include "scheduler.hpp"

#include <algorithm>

namespace serving {

Scheduler::Scheduler(const EngineSettings& settings, Memory& memory, RunResults& results,
                     const PreemptionSettings& preemption)
    : settings_(settings),
      memory_(memory),
      results_(results),
      swaps_(preemption, settings, memory, results) {}

bool Scheduler::fits(const Request& request) const {
  return settings_.blocks_of(request.input + request.output) <= memory_.size();
}

double Scheduler::device_share() const {
  return 1 - static_cast<double>(memory_.available()) / static_cast<double>(memory_.size());
}

double Scheduler::host_share() const {
  const std::size_t all = memory_.tables().config().host_blocks;
  if (all == 0) return 0;
  const std::size_t free = memory_.tables().free_blocks(lethe::layerkv::Tier::host);
  return 1 - static_cast<double>(free) / static_cast<double>(all);
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
  is_short_ = false;
  end_moves(now);
  std::size_t budget = settings_.batch_tokens;
  schedule_running(now, items, budget);
  if (!is_short_) admit_waiting(now, items, budget);
}

void Scheduler::end_moves(double now) {
  // Who is back stands where it would stand had it stayed: behind all that arrived before.
  for (const std::uint32_t slot : swaps_.end(now))
    running_.insert(std::upper_bound(running_.begin(), running_.end(), slot,
                                     [this](std::uint32_t a, std::uint32_t b) {
                                       return lives_[a].index < lives_[b].index;
                                     }),
                    slot);
}

void Scheduler::schedule_running(double now, std::vector<StepItem>& items, std::size_t& budget) {
  for (std::size_t i = 0; i < running_.size() && budget > 0; ++i) {
    const std::uint32_t slot = running_[i];
    const Live& live = lives_[slot];
    const std::size_t tokens = std::min<std::size_t>(live.missing(), budget);
    if (live.is_ending() || tokens == 0) continue;
    if (!make_room(now, i, slot, live.computed + tokens)) continue;
    add_item(slot, tokens, items, budget);
  }
}

bool Scheduler::make_room(double now, std::size_t position, std::uint32_t slot,
                          std::size_t tokens) {
  while (!memory_.grow(lives_[slot], tokens)) {
    is_short_ = true;
    // A copy out frees blocks when it ends; who comes in would be the next to give way.
    if (swaps_.are_moving()) return false;
    preempt_last(now);
    if (running_.size() <= position) return false;
  }
  return true;
}

void Scheduler::preempt_last(double now) {
  const std::uint32_t slot = running_.back();
  running_.pop_back();
  Live& live = lives_[slot];
  ++live.preemptions;
  ++results_.preemptions;
  waiting_.push_front(slot);
  // Of a request whose last token is under way nothing need be kept.
  if (!live.is_ending() && swaps_.leave(std::max(now, computed_at_), slot, live)) return;
  memory_.release(live);
  live.computed = 0;
}

void Scheduler::admit_waiting(double now, std::vector<StepItem>& items, std::size_t& budget) {
  while (!waiting_.empty() && budget > 0 &&
         running_.size() + swaps_.returning() < settings_.sequences) {
    const std::uint32_t slot = waiting_.front();
    Live& live = lives_[slot];
    if (live.id != lethe::layerkv::no_id) {
      if (!swaps_.come_back(now, slot, live)) return;
      waiting_.pop_front();
      continue;
    }
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
