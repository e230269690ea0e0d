#pragma once

#include <string>
#include <vector>

namespace decoder::report {

/// One axis: its range, its ticks and their labels.
struct Axis {
  double low = 0;
  double high = 1;                  ///< above low
  bool is_logarithmic = false;      ///< equal ratios are equally far apart; low is above 0
  std::vector<double> ticks;        ///< ascending, inside [low, high]
  std::vector<std::string> labels;  ///< one per tick

  /// Where `value` lies: 0 at low, 1 at high.
  double at(double value) const;
};

/// An axis whose ticks are 1, 2 or 5 times a power of ten and whose ends are ticks.
///
/// @param low, high  range of the data; NaN, or an empty range, is widened to something drawable
/// @param wanted     about how many ticks; 2 or more
Axis nice_axis(double low, double high, int wanted);

/// As nice_axis, but the range stays [low, high] exactly: for time, where a margin misleads.
Axis tight_axis(double low, double high, int wanted);

/// An axis of equal ratios with ticks at 1, 2 and 5 times powers of ten, and ticks at its ends.
///
/// @param low, high  range of the data; what is not above zero is left out by the caller
Axis log_axis(double low, double high);

}  // namespace decoder::report
