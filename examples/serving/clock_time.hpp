#pragma once

#include <chrono>
#include <cstddef>
#include <string_view>

#include "csv.hpp"

namespace serving {

/// Seconds since 1970 of "2023-11-16 18:15:46.6805900" (or with a T between); false when `text` is
/// none. O(1).
inline bool read_clock_time(std::string_view text, double& seconds) {
  if (text.size() < 19 || text[4] != '-' || text[7] != '-' || text[13] != ':' || text[16] != ':' ||
      (text[10] != ' ' && text[10] != 'T'))
    return false;
  std::size_t year = 0, month = 0, day = 0, hour = 0, minute = 0;
  double second = 0;
  if (!read_count(text.substr(0, 4), year) || !read_count(text.substr(5, 2), month) ||
      !read_count(text.substr(8, 2), day) || !read_count(text.substr(11, 2), hour) ||
      !read_count(text.substr(14, 2), minute) || !read_number(text.substr(17), second))
    return false;
  const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(year)),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok() || hour > 23 || minute > 59 || !(second >= 0 && second < 61)) return false;
  const auto days = std::chrono::sys_days(date).time_since_epoch().count();
  seconds =
      static_cast<double>(days) * 86400 + static_cast<double>(hour * 3600 + minute * 60) + second;
  return true;
}

}  // namespace serving
