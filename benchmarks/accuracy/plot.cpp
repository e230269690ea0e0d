#include "plot.hpp"

#include <algorithm>
#include <cmath>

#include "report_tables.hpp"
#include "report_text.hpp"

namespace accuracy {
namespace {

using decoder::report::Axis;
using decoder::report::escape;
using decoder::report::fixed;
using decoder::report::svg_line;
using decoder::report::svg_text;

/// The drawing area inside the picture, in user units; the margins hold ticks and titles.
struct Area {
  double width = 560, height = 340;
  double left = 62, right = 542, top = 14, bottom = 284;
};

constexpr Area small{
    .width = 390, .height = 270, .left = 56, .right = 370, .top = 10, .bottom = 216};

/// Turns data into places.
class Frame {
 public:
  explicit Frame(const Plot& plot)
      : area_(plot.is_small ? small : Area{}),
        x_(plot.x),
        y_(decoder::report::nice_axis(plot.y_low, 100, 6)) {}

  [[nodiscard]] const Area& area() const { return area_; }
  [[nodiscard]] double x(double value) const {
    return area_.left + x_.at(value) * (area_.right - area_.left);
  }
  [[nodiscard]] double y(double value) const {
    return area_.bottom - y_.at(value) * (area_.bottom - area_.top);
  }

  [[nodiscard]] std::string axes(const decoder::report::Caption& caption) const {
    std::string out;
    for (std::size_t i = 0; i < y_.ticks.size(); ++i) {
      const double at = y(y_.ticks[i]);
      out += svg_line(area_.left, at, area_.right, at, "grid");
      out += svg_text(area_.left - 8, at + 4, "tick end", y_.labels[i]);
    }
    for (std::size_t i = 0; i < x_.ticks.size(); ++i) {
      const double at = x(x_.ticks[i]);
      out += svg_line(at, area_.bottom, at, area_.bottom + 5, "axis");
      out += svg_text(at, area_.bottom + 20, "tick middle", x_.labels[i]);
    }
    return out + svg_line(area_.left, area_.bottom, area_.right, area_.bottom, "axis") +
           titles(caption);
  }

 private:
  [[nodiscard]] std::string titles(const decoder::report::Caption& caption) const {
    return svg_text((area_.left + area_.right) / 2, area_.height - 10, "axis-title middle",
                    caption.x_title) +
           "<text class=\"axis-title middle\" transform=\"translate(15 " +
           fixed((area_.top + area_.bottom) / 2, 1) + ") rotate(-90)\">" + escape(caption.y_title) +
           "</text>";
  }

  Area area_;
  Axis x_;
  Axis y_;
};

/// Whether a point lies on a level line between its neighbours, so that the line needs it not.
bool is_level(const Curve& curve, std::size_t i) {
  if (i == 0 || i + 1 >= curve.y.size()) return false;
  return curve.y[i - 1] == curve.y[i] && curve.y[i] == curve.y[i + 1];
}

std::string path_of(const Frame& frame, const Curve& curve, double aside) {
  std::string path;
  bool is_open = false;
  for (std::size_t i = 0; i < curve.x.size(); ++i) {
    const bool is_drawn = std::isfinite(curve.y[i]);
    if (is_drawn && !is_level(curve, i)) {
      path += (is_open ? 'L' : 'M') + fixed(frame.x(curve.x[i]) + aside, 1) + ' ' +
              fixed(frame.y(curve.y[i]), 1);
    }
    is_open = is_drawn;
  }
  return path;
}

std::string draw_intervals(const Frame& frame, const Curve& curve, double aside) {
  std::string path;
  for (std::size_t i = 0; i < curve.intervals.size(); ++i) {
    const Interval& interval = curve.intervals[i];
    path += 'M' + fixed(frame.x(curve.x[i]) + aside, 1) + ' ' + fixed(frame.y(interval.low), 1) +
            'V' + fixed(frame.y(interval.high), 1);
  }
  if (path.empty()) return {};
  return "<path class=\"reach " + decoder::report::style_class(curve.look.style) + "\" d=\"" +
         path + "\"/>";
}

std::string draw_curve(const Frame& frame, const Curve& curve, double aside) {
  std::string out = draw_intervals(frame, curve, aside);
  out += "<path class=\"line " + decoder::report::style_class(curve.look.style) + "\" d=\"" +
         path_of(frame, curve, aside) + "\"><title>" + escape(curve.label) + "</title></path>";
  // Staggered, so that equal lines show the markers of both.
  const std::size_t stride = curve.marker_stride;
  for (std::size_t i = curve.look.style % stride; i < curve.x.size(); i += stride) {
    if (!std::isfinite(curve.y[i])) continue;
    const double x = frame.x(curve.x[i]) + aside, y = frame.y(curve.y[i]);
    out += decoder::report::marker(curve.look.style, x, y, 4);
  }
  return curve.look.wrap(out);
}

/// How far the curve `index` is set aside, so that intervals at one place do not hide each other.
double aside_of(const Plot& plot, std::size_t index) {
  if (plot.curves[index].intervals.empty()) return 0;
  const auto count = static_cast<double>(plot.curves.size());
  const double step = std::min(6.0, 40 / count);
  return step * (static_cast<double>(index) - (count - 1) / 2);
}

}  // namespace

std::string Look::wrap(const std::string& drawing, const std::string& tag) const {
  if (!is_oracle && style < 8) return drawing;
  return "<" + tag + " class=\"" + (is_oracle ? "oracle" : "hollow") + "\">" + drawing + "</" +
         tag + ">";
}

std::string draw(const Plot& plot) {
  const Frame frame(plot);
  const Area& area = frame.area();
  std::string out = decoder::report::open_figure(plot.caption, area.width, area.height);
  out += frame.axes(plot.caption);
  if (plot.level) {
    out += svg_line(area.left, frame.y(*plot.level), area.right, frame.y(*plot.level), "reference");
  }
  // The first curves are drawn last, on top.
  for (std::size_t i = plot.curves.size(); i-- > 0;) {
    out += draw_curve(frame, plot.curves[i], aside_of(plot, i));
  }
  return out + "</svg></div></figure>\n";
}

std::string legend(const std::vector<Curve>& curves, const std::string& level) {
  const auto entry = [](const std::string& sample, const std::string& label) {
    return "<li><svg viewBox=\"0 0 34 12\" width=\"34\" height=\"12\" aria-hidden=\"true\">" +
           sample + "</svg>" + escape(label) + "</li>";
  };
  std::string out = "<ul class=\"legend\">";
  for (const Curve& curve : curves) {
    const std::size_t style = curve.look.style;
    const std::string line =
        "<path class=\"line " + decoder::report::style_class(style) + "\" d=\"M1 6L33 6\"/>";
    out += entry(curve.look.wrap(line + decoder::report::marker(style, 17, 6, 4)), curve.label);
  }
  if (!level.empty()) out += entry(svg_line(1, 6, 33, 6, "reference"), level);
  return out + "</ul>\n";
}

std::string swatch(const Look& look) {
  return look.wrap(decoder::report::swatch(look.style), "span");
}

std::string plot_style() {
  return R"css(
:root{--t1:#b5179e;--t2:#00798c;--t3:#8f5a00;--t4:#4a6fd0;--t5:#b3404a;--t6:#4f7d1f;--t7:#8a5cb8}
@media (prefers-color-scheme:dark){:root{--t1:#f07fdc;--t2:#4fd0e4;--t3:#e0a84a;--t4:#93b0ff;
--t5:#ff8f98;--t6:#a5d66a;--t7:#cfa3ff}}
.hollow .s1{--c:var(--t1)}.hollow .s2{--c:var(--t2)}.hollow .s3{--c:var(--t3)}
.hollow .s4{--c:var(--t4)}.hollow .s5{--c:var(--t5)}.hollow .s6{--c:var(--t6)}
.hollow .s7,.hollow .s0{--c:var(--t7)}
.hollow .mark{fill:var(--panel);stroke:var(--c);stroke-width:1.8}
.oracle .line{stroke:var(--ink);stroke-width:1.4;stroke-dasharray:1 4}
.oracle .reach{stroke:var(--ink)}.oracle .mark{fill:var(--panel);stroke:var(--ink)}
.reach{stroke:var(--c);stroke-width:1.4;opacity:.55;fill:none}
.trio{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:16px}
.trio+.trio{margin-top:16px}
.group th{text-align:left;padding:18px 20px 6px;color:var(--accent);white-space:normal}
.dim{color:var(--muted);font-weight:400}td small{color:var(--muted);font-size:.8rem}
.trio figure{padding:14px 14px 10px}.trio figure svg{min-width:300px}
.legend{margin:14px 2px 0}.trio+.legend,.pair+.legend{margin-bottom:22px}
)css";
}

}  // namespace accuracy
