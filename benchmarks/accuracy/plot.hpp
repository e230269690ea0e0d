/// Charts of shares in percent, from the pieces of the decoder's report.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "report_axis.hpp"
#include "report_svg.hpp"
#include "statistics.hpp"

namespace accuracy {

/// How a policy is drawn on the whole page. The decoder's report has eight styles; those from the
/// ninth on are the same shapes, hollow and in other colours. The oracle has one of its own.
struct Look {
  std::size_t style = 0;
  bool is_oracle = false;

  /// `drawing`, made with this style, in a group that gives it the look. tag: "g" or "span".
  [[nodiscard]] std::string wrap(const std::string& drawing, const std::string& tag = "g") const;
};

/// One policy's line. y in percent; NaN breaks the line.
struct Curve {
  std::string label;
  Look look;
  std::vector<double> x;
  std::vector<double> y;
  /// 95% intervals in percent, one a point; none are drawn when empty.
  std::vector<Interval> intervals = {};
  /// Points from one marker to the next.
  std::size_t marker_stride = 1;
};

struct Plot {
  decoder::report::Caption caption;
  decoder::report::Axis x;
  std::vector<Curve> curves;
  /// Where the y axis begins, in percent; a multiple of ten.
  double y_low = 0;
  /// A level to compare with, in percent: the whole cache's.
  std::optional<double> level = {};
  /// For a row of several charts, with one legend for all.
  bool is_small = false;
};

/// The plot as a <figure> with an inline SVG, without a legend. Points with intervals are set apart
/// sideways by a few units, so that policies at one place can be told apart.
[[nodiscard]] std::string draw(const Plot& plot);

/// What the lines mean, for the plots of these curves. level: what the plots' level means; "" for
/// none.
[[nodiscard]] std::string legend(const std::vector<Curve>& curves, const std::string& level);

/// A small marker for the first column of tables.
[[nodiscard]] std::string swatch(const Look& look);

/// What a page with plots needs beside the decoder's style sheet.
[[nodiscard]] std::string plot_style();

}  // namespace accuracy
