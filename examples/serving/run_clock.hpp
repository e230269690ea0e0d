#pragma once

#include <chrono>

#include "stopwatch.hpp"

namespace serving {

/// The seconds of a run, without the pauses in which something else was measured.
class RunClock {
 public:
  double seconds() const { return watch_.seconds() - paused_; }
  std::chrono::nanoseconds now() const {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
        std::chrono::duration<double>(seconds()));
  }
  /// Calls what is not to count.
  template <class Pause>
  void leave_out(const Pause& pause) {
    const decoder::TimeInto watch(paused_);
    pause();
  }

 private:
  decoder::Stopwatch watch_;
  double paused_ = 0;
};

}  // namespace serving
