#include "report_heat.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>

#include "report_axis.hpp"
#include "report_text.hpp"

namespace decoder::report {
namespace {

constexpr double width = 1140;
constexpr double left = 62;
constexpr double right = 1034;
constexpr double top = 12;
constexpr double scale_left = 1062;
constexpr double scale_width = 16;
constexpr int levels = 48;  // finer steps cannot be told apart, coarser ones show as bands

struct Colour {
  double red = 0;
  double green = 0;
  double blue = 0;
};

// Anchors of the viridis map: even steps in lightness, safe for every kind of colour blindness.
constexpr std::array<Colour, 9> viridis{{{68, 1, 84},
                                         {71, 44, 122},
                                         {59, 81, 139},
                                         {44, 113, 142},
                                         {33, 144, 141},
                                         {39, 173, 129},
                                         {92, 200, 99},
                                         {170, 220, 50},
                                         {253, 231, 37}}};

double row_height(std::size_t rows) {
  return std::clamp(300.0 / static_cast<double>(std::max<std::size_t>(rows, 1)), 5.0, 22.0);
}

Axis value_axis(const HeatMap& map) {
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  for (const auto& row : map.rows)
    for (const double value : row)
      if (std::isfinite(value)) {
        low = std::min(low, value);
        high = std::max(high, value);
      }
  if (map.most > 0) high = std::max(high, map.most);
  return nice_axis(map.is_from_zero ? 0 : low, high, 6);
}

Axis time_axis(const std::vector<double>& x) {
  const double stride = x.size() > 1 ? x[1] - x[0] : 1.0;
  return tight_axis(x.empty() ? 0 : x.front(), (x.empty() ? 0 : x.back()) + stride, 9);
}

int level_of(const Axis& values, double value) {
  if (!std::isfinite(value)) return -1;
  return std::clamp(static_cast<int>(std::lround(values.at(value) * (levels - 1))), 0, levels - 1);
}

std::string level_colour(int level) {
  return heat_colour(static_cast<double>(level) / (levels - 1));
}

std::string cell(double x, double y, double wide, double high, const std::string& colour) {
  return "<path fill=\"" + colour + "\" d=\"M" + fixed(x, 1) + " " + fixed(y, 1) + "h" +
         fixed(wide, 1) + "v" + fixed(high, 1) + "h-" + fixed(wide, 1) + "z\"/>";
}

double to_x(const Axis& time, double value) { return left + time.at(value) * (right - left); }

std::string draw_row(const HeatMap& map, std::size_t layer, const Axis& time, const Axis& values) {
  const double high = row_height(map.rows.size());
  const double y = top + high * static_cast<double>(layer);
  const auto& row = map.rows[layer];
  const std::size_t columns = std::min(row.size(), map.x.size());
  std::string out;
  for (std::size_t i = 0; i < columns;) {
    const int level = level_of(values, row[i]);
    std::size_t end = i + 1;
    while (end < columns && level_of(values, row[end]) == level) ++end;
    const double from = to_x(time, map.x[i]);
    const double until = end < map.x.size() ? to_x(time, map.x[end]) : right;
    if (level >= 0) out += cell(from, y, until - from, high, level_colour(level));
    i = end;
  }
  return out;
}

std::string draw_axes(const HeatMap& map, const Axis& time) {
  const double high = row_height(map.rows.size());
  const double bottom = top + high * static_cast<double>(map.rows.size());
  const std::size_t step = map.rows.size() > 40 ? 10 : 5;
  std::string out;
  for (std::size_t layer = 0; layer < map.rows.size(); layer += step)
    out += svg_text(left - 8, top + high * (static_cast<double>(layer) + 0.5) + 4, "tick end",
                    std::to_string(layer));
  for (std::size_t i = 0; i < time.ticks.size(); ++i) {
    const double x = to_x(time, time.ticks[i]);
    out += svg_line(x, bottom, x, bottom + 5, "axis");
    out += svg_text(x, bottom + 20, "tick middle", time.labels[i]);
  }
  out += svg_text((left + right) / 2, bottom + 44, "axis-title middle", map.caption.x_title);
  return out + "<text class=\"axis-title middle\" transform=\"translate(15 " +
         fixed((top + bottom) / 2, 1) + ") rotate(-90)\">" + escape(map.caption.y_title) +
         "</text>";
}

std::string draw_scale(const HeatMap& map, const Axis& values) {
  const double high = row_height(map.rows.size()) * static_cast<double>(map.rows.size());
  std::string out = "<g shape-rendering=\"crispEdges\">";
  for (int level = 0; level < levels; ++level) {
    const double y = top + high * (1 - static_cast<double>(level + 1) / levels);
    out += cell(scale_left, y, scale_width, high / levels + 0.3, level_colour(level));
  }
  out += "</g>";
  for (std::size_t i = 0; i < values.ticks.size(); ++i) {
    const double y = top + high * (1 - values.at(values.ticks[i]));
    out += svg_text(scale_left + scale_width + 6, y + 4, "tick", values.labels[i]);
  }
  return out + svg_text(width, top + high + 20, "axis-title end", map.value_title);
}

}  // namespace

std::string heat_colour(double share) {
  const double place = std::clamp(share, 0.0, 1.0) * (viridis.size() - 1);
  const auto from = std::min(static_cast<std::size_t>(place), viridis.size() - 2);
  const double part = place - static_cast<double>(from);
  const auto mix = [part](double a, double b) {
    return static_cast<unsigned>(std::lround(a + (b - a) * part)) & 0xFFU;
  };
  const Colour& a = viridis[from];
  const Colour& b = viridis[from + 1];
  std::array<char, 8> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "#%02x%02x%02x", mix(a.red, b.red),
                mix(a.green, b.green), mix(a.blue, b.blue));
  return buffer.data();
}

std::string heat_map(const HeatMap& map) {
  const Axis time = time_axis(map.x);
  const Axis values = value_axis(map);
  const double high = row_height(map.rows.size()) * static_cast<double>(map.rows.size());
  std::string out = open_figure(map.caption, width, top + high + 56);
  out += "<g shape-rendering=\"crispEdges\">";
  for (std::size_t layer = 0; layer < map.rows.size(); ++layer)
    out += draw_row(map, layer, time, values);
  return out + "</g>" + draw_axes(map, time) + draw_scale(map, values) + "</svg></div></figure>\n";
}

}  // namespace decoder::report
