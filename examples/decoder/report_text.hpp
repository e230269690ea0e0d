#pragma once

#include <string>
#include <string_view>

namespace decoder::report {

/// `text` with the characters that HTML gives a meaning (& < > " ') replaced; O(length).
std::string escape(std::string_view text);

/// `value` with `digits` places after the point; "-" for NaN and infinities.
std::string fixed(double value, int digits);

/// `value` with three significant digits and no exponent in [0.001, 1e6): "0.0312", "1.42", "118".
std::string figure(double value);

/// `value` with as few digits as say it, at most six: "0.02", "5", "1000".
std::string plain(double value);

/// A whole number with thin spaces between thousands: "12 288" (as HTML text).
std::string grouped(double value);

/// Bytes in the largest binary unit that leaves one or more: "14.2 MiB".
std::string bytes(double count);

/// A share in [0, 1] as a percentage: "94.2%".
std::string percent(double share);

/// Seconds in a unit that suits: "850 us", "12.4 ms", "3.21 s".
std::string seconds(double time);

}  // namespace decoder::report
