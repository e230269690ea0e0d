#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "results.hpp"
#include "trace.hpp"

namespace serving {

/// The requests of a trace, which come to a scheduler when their time has come; those that could
/// never be served are refused.
template <class Policy>
class Arrivals {
 public:
  /// trace, policy, results: outlive it.
  Arrivals(const Trace& trace, Policy& policy, RunResults& results)
      : trace_(trace), policy_(policy), results_(results) {}

  /// Lets in what has arrived. O(1) a request.
  void until(double now) {
    for (; next_ < trace_.requests.size() && trace_.requests[next_].arrival <= now; ++next_) {
      const Request& request = trace_.requests[next_];
      if (policy_.fits(request)) {
        policy_.arrive(static_cast<std::uint32_t>(next_), request);
        continue;
      }
      results_.requests[next_].is_refused = true;
      ++refused_;
    }
  }

  /// When the next one comes; infinity: none is left.
  double next() const {
    return next_ < trace_.requests.size() ? trace_.requests[next_].arrival
                                          : std::numeric_limits<double>::infinity();
  }
  /// Requests that have ended, or were refused.
  std::size_t done() const { return policy_.finished() + refused_; }

 private:
  const Trace& trace_;
  Policy& policy_;
  RunResults& results_;
  std::size_t next_ = 0;
  std::size_t refused_ = 0;
};

/// How a scheduler stands when a step has ended.
template <class Policy>
Moment moment_of(double now, const Policy& policy) {
  return {now, static_cast<std::uint32_t>(policy.running()),
          static_cast<std::uint32_t>(policy.waiting()), policy.device_share(), policy.host_share()};
}

}  // namespace serving
