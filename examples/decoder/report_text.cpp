#include "report_text.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace decoder::report {

namespace {

std::string_view entity(char c) {
  switch (c) {
    case '&':
      return "&amp;";
    case '<':
      return "&lt;";
    case '>':
      return "&gt;";
    case '"':
      return "&quot;";
    case '\'':
      return "&#39;";
    default:
      return {};
  }
}

}  // namespace

std::string escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const std::string_view name = entity(c);
    if (name.empty())
      out += c;
    else
      out += name;
  }
  return out;
}

std::string fixed(double value, int digits) {
  if (!std::isfinite(value)) return "-";
  std::array<char, 64> buffer{};
  const int length = std::snprintf(buffer.data(), buffer.size(), "%.*f", digits, value);
  const auto size = static_cast<std::size_t>(std::clamp(length, 0, 63));
  return {buffer.data(), size};
}

std::string figure(double value) {
  const double size = std::abs(value);
  if (!std::isfinite(value)) return "-";
  if (size == 0) return "0";
  if (size >= 1e6 || size < 1e-3) {
    std::array<char, 32> buffer{};
    std::snprintf(buffer.data(), buffer.size(), "%.2e", value);
    return buffer.data();
  }
  const int places = 2 - static_cast<int>(std::floor(std::log10(size)));
  return fixed(value, std::clamp(places, 0, 5));
}

std::string plain(double value) {
  std::array<char, 32> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.6g", value);
  return buffer.data();
}

std::string grouped(double value) {
  const std::string digits = fixed(value, 0);
  if (digits.size() <= 4) return digits;
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0 && digits[i - 1] != '-') out += "\xE2\x80\xAF";
    out += digits[i];
  }
  return out;
}

std::string bytes(double count) {
  static constexpr std::array<const char*, 5> units{"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  for (; std::abs(count) >= 1024 && unit + 1 < units.size(); ++unit) count /= 1024;
  return (unit == 0 ? fixed(count, 0) : figure(count)) + " " + units[unit];
}

std::string percent(double share) {
  const double value = share * 100;
  return fixed(value, value >= 99.95 || value == 0 ? 0 : 1) + "%";
}

std::string seconds(double time) {
  if (time < 1e-3) return figure(time * 1e6) + " us";
  if (time < 1) return figure(time * 1e3) + " ms";
  return figure(time) + " s";
}

}  // namespace decoder::report
