#include "report_svg.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "report_axis.hpp"
#include "report_text.hpp"

namespace decoder::report {
namespace {

// The drawing area inside the picture, in user units; margins hold ticks and titles.
constexpr double width = 560;
constexpr double height = 340;
constexpr double left = 62;
constexpr double right = 542;
constexpr double top = 14;
constexpr double bottom = 284;

std::string number(double value) { return fixed(value, 1); }

struct Frame {
  Axis x;
  Axis y;

  double to_x(double value) const { return left + x.at(value) * (right - left); }
  double to_y(double value) const { return bottom - y.at(value) * (bottom - top); }
};

std::string draw_axes(const Frame& frame, const Caption& caption) {
  std::string out;
  for (std::size_t i = 0; i < frame.y.ticks.size(); ++i) {
    const double y = frame.to_y(frame.y.ticks[i]);
    out += svg_line(left, y, right, y, "grid");
    out += svg_text(left - 8, y + 4, "tick end", frame.y.labels[i]);
  }
  for (std::size_t i = 0; i < frame.x.ticks.size(); ++i) {
    const double x = frame.to_x(frame.x.ticks[i]);
    out += svg_line(x, bottom, x, bottom + 5, "axis");
    out += svg_text(x, bottom + 20, "tick middle", frame.x.labels[i]);
  }
  out += svg_line(left, bottom, right, bottom, "axis");
  out += svg_text((left + right) / 2, height - 10, "axis-title middle", caption.x_title);
  out += "<text class=\"axis-title middle\" transform=\"translate(15 " +
         number((top + bottom) / 2) + ") rotate(-90)\">" + escape(caption.y_title) + "</text>";
  return out;
}

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void add(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

Frame frame_of(const std::vector<Series>& series) {
  Range x;
  Range y;
  y.add(0);
  for (const Series& line : series) {
    for (const double value : line.x) x.add(value);
    for (const double value : line.y) y.add(value);
  }
  return {.x = tight_axis(x.low, x.high, 6), .y = nice_axis(y.low, y.high, 6)};
}

Frame frame_of(const std::vector<Point>& points, const Reference& reference, bool from_zero) {
  Range x;
  Range y;
  x.add(reference.x);
  for (const Point& point : points) {
    x.add(point.x);
    if (point.y > 0) y.add(point.y);
  }
  // Room at both sides, so that the outermost labels have a place.
  const double margin = 0.1 * (x.high - x.low);
  const double first = from_zero ? 0 : x.low - margin;
  return {.x = tight_axis(first, x.high + margin, 7), .y = log_axis(y.low, y.high)};
}

std::string path_of(const Frame& frame, const Series& line) {
  std::string path;
  bool is_open = false;
  for (std::size_t i = 0; i < std::min(line.x.size(), line.y.size()); ++i) {
    const bool is_drawn = std::isfinite(line.y[i]);
    if (is_drawn) {
      path += is_open ? 'L' : 'M';
      path += number(frame.to_x(line.x[i])) + " " + number(frame.to_y(line.y[i]));
    }
    is_open = is_drawn;
  }
  return path;
}

std::string draw_series(const Frame& frame, const Series& line) {
  std::string out = "<path class=\"line " + style_class(line.style) + "\" d=\"" +
                    path_of(frame, line) + "\"><title>" + escape(line.label) + "</title></path>";
  // A few markers tell lines apart without colour; staggered so that equal lines show both.
  const std::size_t count = std::min(line.x.size(), line.y.size());
  const std::size_t stride = std::max<std::size_t>(1, count / 5);
  for (std::size_t i = (stride / 2 + line.style * 2) % stride; i < count; i += stride)
    if (std::isfinite(line.y[i]))
      out += marker(line.style, frame.to_x(line.x[i]), frame.to_y(line.y[i]), 4);
  return out;
}

std::string legend(const std::vector<Series>& series) {
  std::string out = "<ul class=\"legend\">";
  for (const Series& line : series)
    out +=
        "<li><svg viewBox=\"0 0 34 12\" width=\"34\" height=\"12\" aria-hidden=\"true\">"
        "<path class=\"line " +
        style_class(line.style) + "\" d=\"M1 6L33 6\"/>" + marker(line.style, 17, 6, 4) + "</svg>" +
        escape(line.label) + "</li>";
  return out + "</ul>";
}

struct Box {
  double x = 0;
  double y = 0;
  double wide = 0;
  double high = 0;

  bool meets(const Box& other) const {
    return x < other.x + other.wide && other.x < x + wide && y < other.y + other.high &&
           other.y < y + high;
  }
  bool is_inside() const { return x >= left && x + wide <= width && y >= 0 && y + high <= bottom; }
};

/// Puts labels beside their points, where they hide the fewest points and other labels.
class LabelPlacer {
 public:
  void block(double x, double y) { taken_.push_back({x - 7, y - 7, 14, 14}); }

  std::string place(const std::string& label, double x, double y) {
    const double wide = 8.2 * static_cast<double>(label.size());
    Box best = beside(x, y, wide, 0);
    std::size_t fewest = conflicts(best);
    for (std::size_t i = 1; i < 16 && fewest > 0; ++i) {
      const Box box = beside(x, y, wide, i);
      if (const std::size_t found = conflicts(box); found < fewest) {
        fewest = found;
        best = box;
      }
    }
    taken_.push_back(best);
    return svg_text(best.x, best.y + 12, "label", label);
  }

 private:
  // Right, left, above, below, then the corners, near first.
  static Box beside(double x, double y, double wide, std::size_t choice) {
    static constexpr std::array<std::array<double, 2>, 8> sides{
        {{1, 0}, {-1, 0}, {0, -1}, {0, 1}, {1, -1}, {1, 1}, {-1, -1}, {-1, 1}}};
    const auto [across, down] = sides[choice % sides.size()];
    const double reach = choice < sides.size() ? 1.0 : 1.9;
    const double start = across > 0 ? 10 : across < 0 ? -10 - wide : -wide / 2;
    return {x + start, y - 8 + down * 15 * reach, wide, 15};
  }

  std::size_t conflicts(const Box& box) const {
    const auto meets = [&](const Box& other) { return box.meets(other); };
    const auto count = std::count_if(taken_.begin(), taken_.end(), meets);
    return static_cast<std::size_t>(count) + (box.is_inside() ? 0U : 100U);
  }

  std::vector<Box> taken_;
};

std::string draw_reference(const Frame& frame, const Reference& reference) {
  const double x = frame.to_x(reference.x);
  return svg_line(x, top, x, bottom, "reference") + "<text class=\"label\" transform=\"translate(" +
         number(x - 6) + " " + number(top + 2) + ") rotate(-90)\" text-anchor=\"end\">" +
         escape(reference.label) + "</text>";
}

std::string draw_points(const Frame& frame, const std::vector<Point>& points,
                        const Reference& reference) {
  std::string out;
  LabelPlacer placer;
  for (double y = top; y < bottom; y += 14) placer.block(frame.to_x(reference.x) - 6, y);
  for (const Point& point : points) placer.block(frame.to_x(point.x), frame.to_y(point.y));
  for (const Point& point : points) {
    if (point.y <= 0) continue;
    const double x = frame.to_x(point.x);
    const double y = frame.to_y(point.y);
    out += "<g><title>" + escape(point.note) + "</title>" + marker(point.style, x, y, 6.5) + "</g>";
    out += placer.place(point.label, x, y);
  }
  return out;
}

// Corners in units of the radius; the second shape is a circle and has none.
using Corners = std::vector<std::array<double, 2>>;
const std::array<Corners, 8> shapes{{{{-1, -1}, {1, -1}, {1, 1}, {-1, 1}},
                                     {},
                                     {{0, -1.2}, {1.1, 0.8}, {-1.1, 0.8}},
                                     {{0, -1.3}, {1.3, 0}, {0, 1.3}, {-1.3, 0}},
                                     {{0, 1.2}, {1.1, -0.8}, {-1.1, -0.8}},
                                     {{-1.2, -0.45}, {1.2, -0.45}, {1.2, 0.45}, {-1.2, 0.45}},
                                     {{-0.45, -1.2}, {0.45, -1.2}, {0.45, 1.2}, {-0.45, 1.2}},
                                     {}}};

}  // namespace

std::string style_class(std::size_t style) { return "s" + std::to_string(style % 8); }

std::string svg_text(double x, double y, std::string_view classes, std::string_view text) {
  return "<text class=\"" + std::string(classes) + "\" x=\"" + number(x) + "\" y=\"" + number(y) +
         "\">" + escape(text) + "</text>";
}

std::string svg_line(double x1, double y1, double x2, double y2, std::string_view classes) {
  return "<path class=\"" + std::string(classes) + "\" d=\"M" + number(x1) + " " + number(y1) +
         "L" + number(x2) + " " + number(y2) + "\"/>";
}

std::string marker(std::size_t style, double x, double y, double radius) {
  const std::string begin = "class=\"mark " + style_class(style) + "\" ";
  const Corners& corners = shapes[style % shapes.size()];
  if (corners.empty())
    return "<circle " + begin + "cx=\"" + number(x) + "\" cy=\"" + number(y) + "\" r=\"" +
           number(radius) + "\"/>";
  std::string path;
  for (const auto& [across, down] : corners)
    path +=
        (path.empty() ? "M" : "L") + number(x + across * radius) + " " + number(y + down * radius);
  return "<path " + begin + "d=\"" + path + "Z\"/>";
}

std::string open_figure(const Caption& caption, double wide, double high) {
  return "<figure><figcaption>" + escape(caption.title) + "</figcaption><p class=\"note\">" +
         escape(caption.description) + "</p><div class=\"scroll\"><svg viewBox=\"0 0 " +
         fixed(wide, 0) + " " + fixed(high, 0) + "\" role=\"img\" aria-labelledby=\"" + caption.id +
         "-t " + caption.id + "-d\"><title id=\"" + caption.id + "-t\">" + escape(caption.title) +
         "</title><desc id=\"" + caption.id + "-d\">" + escape(caption.description) + "</desc>";
}

std::string line_chart(const Caption& caption, const std::vector<Series>& series) {
  const Frame frame = frame_of(series);
  std::string out = open_figure(caption, width, height) + draw_axes(frame, caption);
  // The first series (the whole cache, then the policy in question) is drawn last, on top.
  for (auto line = series.rbegin(); line != series.rend(); ++line) out += draw_series(frame, *line);
  return out + "</svg></div>" + legend(series) + "</figure>\n";
}

std::string point_chart(const Caption& caption, const std::vector<Point>& points,
                        const Reference& reference, bool from_zero) {
  const Frame frame = frame_of(points, reference, from_zero);
  return open_figure(caption, width, height) + draw_axes(frame, caption) +
         draw_reference(frame, reference) + draw_points(frame, points, reference) +
         "</svg></div></figure>\n";
}

}  // namespace decoder::report
