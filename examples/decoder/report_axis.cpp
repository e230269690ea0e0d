#include "report_axis.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "report_text.hpp"

namespace decoder::report {
namespace {

double nice_step(double range, int wanted) {
  const double rough = range / std::max(1, wanted - 1);
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  const double lead = rough / power;
  if (lead <= 1.0) return power;
  if (lead <= 2.0) return 2 * power;
  return (lead <= 5.0 ? 5 : 10) * power;
}

void add_ticks(Axis& axis, double step) {
  const int digits = std::max(0, static_cast<int>(std::ceil(-std::log10(step) - 1e-9)));
  const auto first = static_cast<long>(std::ceil(axis.low / step - 1e-6));
  const auto last = static_cast<long>(std::floor(axis.high / step + 1e-6));
  for (long i = first; i <= last; ++i) {
    const double tick = static_cast<double>(i) * step;
    axis.ticks.push_back(tick);
    axis.labels.push_back(digits > 0 ? fixed(tick, digits) : grouped(tick));
  }
}

Axis sane_range(double low, double high) {
  if (!std::isfinite(low)) low = 0;
  if (!std::isfinite(high)) high = low + 1;
  if (high - low <= 1e-12 * std::max(1.0, std::abs(high))) high = low + std::max(1.0, low * 0.1);
  return {.low = low, .high = high, .is_logarithmic = false, .ticks = {}, .labels = {}};
}

constexpr std::array<double, 3> log_leads{1, 2, 5};

double log_tick(int index) {
  const auto lead = static_cast<std::size_t>(((index % 3) + 3) % 3);
  return log_leads[lead] * std::pow(10.0, std::floor(index / 3.0));
}

int last_tick_below(double value) {
  int index = 3 * static_cast<int>(std::floor(std::log10(value))) - 1;
  while (log_tick(index + 1) <= value * (1 + 1e-9)) ++index;
  return index;
}

}  // namespace

double Axis::at(double value) const {
  if (is_logarithmic) return std::log(value / low) / std::log(high / low);
  return (value - low) / (high - low);
}

Axis log_axis(double low, double high) {
  if (!std::isfinite(low) || low <= 0) low = 0.01;
  if (!std::isfinite(high) || high < low) high = 10 * low;
  const int first = last_tick_below(low);
  const int last = std::max(first + 2, last_tick_below(high * (1 - 1e-6)) + 1);
  Axis axis{.low = log_tick(first),
            .high = log_tick(last),
            .is_logarithmic = true,
            .ticks = {},
            .labels = {}};
  for (int i = first; i <= last; ++i) {
    axis.ticks.push_back(log_tick(i));
    axis.labels.push_back(plain(axis.ticks.back()));
  }
  return axis;
}

Axis nice_axis(double low, double high, int wanted) {
  Axis axis = sane_range(low, high);
  const double step = nice_step(axis.high - axis.low, wanted);
  axis.low = std::floor(axis.low / step + 1e-9) * step;
  axis.high = std::ceil(axis.high / step - 1e-9) * step;
  add_ticks(axis, step);
  return axis;
}

Axis tight_axis(double low, double high, int wanted) {
  Axis axis = sane_range(low, high);
  add_ticks(axis, nice_step(axis.high - axis.low, wanted));
  return axis;
}

}  // namespace decoder::report
