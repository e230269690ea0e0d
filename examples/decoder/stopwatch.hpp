#pragma once

#include <chrono>

namespace decoder {

/// Runs from its making on.
class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

/// Adds its lifetime to a sum of seconds.
class TimeInto {
 public:
  explicit TimeInto(double& sum) : sum_(sum) {}
  TimeInto(const TimeInto&) = delete;
  TimeInto& operator=(const TimeInto&) = delete;
  ~TimeInto() { sum_ += watch_.seconds(); }

 private:
  double& sum_;
  Stopwatch watch_;
};

}  // namespace decoder
