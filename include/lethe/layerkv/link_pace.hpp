/// The speed of a link, kept to by a clock that the caller brings and that may jump.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "lethe/config.hpp"

namespace lethe::layerkv {

/// A link's speed. PCIe 5 to an H100 moves 32 KB pieces at about 5 GB/s and 2 MB pieces at about
/// 50 GB/s (LayerKV, arXiv 2410.00428): 58.3e9 bytes a second and 6e-6 seconds a copy give both.
struct LinkConfig {
  /// 0: as fast as the copier is.
  double bytes_per_second = 0;
  /// What each copy costs, whatever its size.
  double seconds_per_copy = 0;

  bool operator==(const LinkConfig&) const = default;
};

namespace detail {

/// Time that passes between calls, of a clock that may stand still or jump back: it then counts as
/// standing still.
class PolledClock {
 public:
  /// Seconds since the call before; 0 at the first.
  double advance(std::chrono::nanoseconds now) {
    // Unsigned, so that no pair of readings overflows.
    const auto passed = static_cast<std::uint64_t>(now.count()) - static_cast<std::uint64_t>(last_);
    const bool forward = begun_ && now.count() > last_;
    last_ = now.count();
    begun_ = true;
    if (!forward) return 0;
    total_ += passed;
    return static_cast<double>(passed) * 1e-9;
  }
  /// Nanoseconds in all, jumps back left out; to be subtracted, for it may wrap.
  [[nodiscard]] std::uint64_t nanoseconds() const { return total_; }

 private:
  std::chrono::nanoseconds::rep last_ = 0;
  bool begun_ = false;
  std::uint64_t total_ = 0;
};

/// One direction of a link: what was sent earlier delays what is sent now. Only remaining times are
/// held, so that a jump of the clock leaves nothing behind.
class LinkPace {
 public:
  explicit LinkPace(const LinkConfig& config)
      : seconds_per_byte_(config.bytes_per_second > 0 ? 1 / config.bytes_per_second : 0),
        seconds_per_copy_(config.seconds_per_copy) {}

  void advance(double seconds) { backlog_ = std::max(0.0, backlog_ - seconds); }

  /// Sends bytes in so many copies; returns the seconds from now until they are through.
  double send(std::size_t bytes, std::size_t copies) {
    backlog_ += static_cast<double>(bytes) * seconds_per_byte_ +
                static_cast<double>(copies) * seconds_per_copy_;
    return backlog_;
  }

 private:
  double seconds_per_byte_;
  double seconds_per_copy_;
  double backlog_ = 0;
};

/// Throws std::invalid_argument for a speed or a cost that is negative or no number.
inline void check_link(const LinkConfig& config) {
  using lethe::detail::require;
  constexpr double most = 1e18;
  require(config.bytes_per_second >= 0 && config.bytes_per_second <= most, "bytes_per_second",
          config.bytes_per_second, "give the link's speed, or 0 for no limit");
  require(config.seconds_per_copy >= 0 && config.seconds_per_copy <= most, "seconds_per_copy",
          config.seconds_per_copy, "give what one copy costs, or 0");
}

}  // namespace detail
}  // namespace lethe::layerkv
