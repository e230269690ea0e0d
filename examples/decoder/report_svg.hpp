#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace decoder::report {

/// What every picture says about itself: seen, and read out to those who cannot see it.
struct Caption {
  std::string id;           ///< unique in the page; letters, digits and hyphens
  std::string title;        ///< heading of the figure
  std::string description;  ///< one or two sentences: what is drawn and what to look for
  std::string x_title;      ///< with its unit
  std::string y_title;      ///< with its unit
};

/// One line of a chart. `style` picks colour, dashes and marker (0: the whole cache).
struct Series {
  std::string label;
  std::size_t style = 0;
  std::vector<double> x;
  std::vector<double> y;  ///< as many as x; NaN breaks the line
};

/// One labelled point of a chart.
struct Point {
  std::string label;
  std::size_t style = 0;
  double x = 0;
  double y = 0;
  std::string note;  ///< shown when the pointer rests on it
};

/// Lines over a common x; y starts at zero. Returns a <figure> with an inline SVG and a legend.
std::string line_chart(const Caption& caption, const std::vector<Series>& series);

/// A value on the x axis that is worth a line of its own.
struct Reference {
  std::string label;
  double x = 0;
};

/// Labelled points over a logarithmic y axis, a dashed line at the reference.
///
/// @param points     y above 0; others are left out
/// @param from_zero  whether the x axis begins at zero rather than near the data
/// @return a <figure> with an inline SVG
std::string point_chart(const Caption& caption, const std::vector<Point>& points,
                        const Reference& reference, bool from_zero);

/// A marker of the given style around (x, y), in the shape that goes with its colour.
std::string marker(std::size_t style, double x, double y, double radius);

/// A class name such as "s3" that carries a style's colour in the page's style sheet.
std::string style_class(std::size_t style);

/// Opens a figure and its SVG of `width` x `height` units, title and description inside.
std::string open_figure(const Caption& caption, double width, double height);

/// Text at (x, y) in user units, escaped; `classes` such as "tick end".
std::string svg_text(double x, double y, std::string_view classes, std::string_view text);

/// A straight line in user units.
std::string svg_line(double x1, double y1, double x2, double y2, std::string_view classes);

}  // namespace decoder::report
