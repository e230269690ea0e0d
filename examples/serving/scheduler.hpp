#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "engine_settings.hpp"
#include "live.hpp"
#include "memory.hpp"
#include "results.hpp"
#include "swaps.hpp"

namespace serving {

/// What a step computes of one request.
struct StepItem {
  std::uint32_t slot = 0;
  std::uint32_t tokens = 0;
  std::uint32_t context = 0;  ///< tokens before them
  bool gives_token = false;   ///< the step generates one
};

/// Decides what each step computes, by vLLM's rules: who runs goes first, in the order of
/// admission; then who waits, first come first served, if its blocks are there. When a running
/// request lacks a block, the one admitted last loses all of its blocks and waits again, before all
/// others; nobody is admitted in such a step. Where its blocks go to the host instead, whoever
/// lacked one waits until the copy has ended, and it goes on where it was when it is back.
class Scheduler {
 public:
  /// results.requests, as long as the trace, receives the times of admission.
  Scheduler(const EngineSettings& settings, Memory& memory, RunResults& results,
            const PreemptionSettings& preemption = {});

  /// A request arrives. O(1).
  void arrive(std::uint32_t index, const Request& request);
  /// Fills `items` with the next step; empty when there is nothing to do. O(running).
  void schedule(double now, std::vector<StepItem>& items);
  /// The step is over: counts its tokens; returns through `finished` who got the last one.
  void finish(double now, const std::vector<StepItem>& items);

  /// When a step ends that begins at `begin` and computes for so many seconds.
  double end_of_step(double begin, double seconds, const std::vector<StepItem>&) {
    return computed_at_ = begin + seconds;
  }
  /// The next moment at which blocks come free without a step; none: infinity.
  double next_event() const { return swaps_.next_event(); }
  /// Tokens that attention reads of a request's cache.
  double context(std::uint32_t, double tokens) const { return tokens; }
  /// Whether a request could ever be served.
  bool fits(const Request& request) const;
  /// A request by the slot of its items.
  const Live& live(std::uint32_t slot) const { return lives_[slot]; }
  const lethe::layerkv::BlockTables& tables() const { return memory_.tables(); }
  /// Takes note of copies that have ended.
  void end_moves(double now);
  double device_share() const;
  double host_share() const;
  std::size_t running() const { return running_.size(); }
  std::size_t waiting() const { return waiting_.size() + swaps_.returning(); }
  std::size_t finished() const { return finished_; }

 private:
  void schedule_running(double now, std::vector<StepItem>& items, std::size_t& budget);
  void admit_waiting(double now, std::vector<StepItem>& items, std::size_t& budget);
  bool make_room(double now, std::size_t position, std::uint32_t slot, std::size_t tokens);
  void preempt_last(double now);
  void add_item(std::uint32_t slot, std::size_t tokens, std::vector<StepItem>& items,
                std::size_t& budget);
  void end(double now, std::uint32_t slot);

  EngineSettings settings_;
  Memory& memory_;
  RunResults& results_;
  Swaps swaps_;
  std::vector<Live> lives_;
  std::vector<std::uint32_t> unused_;
  std::vector<std::uint32_t> running_;  ///< slots, in the order of arrival and admission
  std::deque<std::uint32_t> waiting_;   ///< those with a table are on the host
  double computed_at_ = 0;              ///< when the steps decided so far end
  std::size_t finished_ = 0;
  bool is_short_ = false;  ///< a running request lacked a block in this step
};

}  // namespace serving
