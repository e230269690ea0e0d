#pragma once

#include <string>
#include <vector>

#include "report_svg.hpp"

namespace decoder::report {

/// A layer-by-time picture: one row of cells per layer.
struct HeatMap {
  Caption caption;
  std::string value_title;                ///< what the colours mean, with its unit
  std::vector<double> x;                  ///< where each column begins, ascending
  std::vector<std::vector<double>> rows;  ///< [layer][column]; NaN is left blank
  bool is_from_zero = false;              ///< colours begin at zero rather than at the least value
  double most = 0;  ///< colours end here or later, so that maps can be compared
};

/// Colour-blind-safe colour for a share in [0, 1], dark to bright: "#rrggbb".
std::string heat_colour(double share);

/// The heat map as a <figure> with an inline SVG and a colour scale; O(cells).
std::string heat_map(const HeatMap& map);

}  // namespace decoder::report
