#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "engine_settings.hpp"
#include "link.hpp"
#include "live.hpp"
#include "memory.hpp"
#include "preemption_settings.hpp"
#include "results.hpp"

namespace serving {

/// Preempted requests that go to the host and come back, over the model of the link. While a copy
/// is under way the blocks at both of its ends are the request's.
class Swaps {
 public:
  Swaps(const PreemptionSettings& settings, const EngineSettings& engine, Memory& memory,
        RunResults& results);

  /// A request begins to leave, when all that it has computed is there; false: it is to be computed
  /// again, and nothing has changed. O(blocks).
  bool leave(double now, std::uint32_t slot, Live& live);
  /// A request on the host begins to come back; false when it is still leaving, or blocks for all
  /// that it knows are not free. O(blocks).
  bool come_back(double now, std::uint32_t slot, Live& live);
  /// Ends the copies that are over by `now`; the slots of those that are back, valid until the next
  /// call. O(copies under way + blocks moved).
  const std::vector<std::uint32_t>& end(double now);

  /// Whether copies are under way.
  bool are_moving() const { return !moves_.empty(); }
  /// Requests on their way back.
  std::size_t returning() const {
    return static_cast<std::size_t>(std::count_if(moves_.begin(), moves_.end(),
                                                  [](const Move& move) { return !move.to_host; }));
  }
  /// When the next copy ends; none: infinity.
  double next_event() const {
    double next = std::numeric_limits<double>::infinity();
    for (const Move& move : moves_) next = std::min(next, move.end);
    return next;
  }

 private:
  struct Move {
    double end;
    lethe::layerkv::MigrationId id;
    std::uint32_t slot;
    bool to_host;
  };

  bool is_worth(const Live& live) const;
  bool begin(double now, std::uint32_t slot, Live& live, bool to_host);

  PreemptionSettings settings_;
  EngineSettings engine_;
  Memory& memory_;
  RunResults& results_;
  std::vector<Move> moves_;
  std::vector<std::uint32_t> back_;
  LinkWay in_;
  LinkWay out_;
};

}  // namespace serving
