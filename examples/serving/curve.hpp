#pragma once

#include <array>
#include <cstddef>
#include <vector>

namespace serving {

/// Where a value lies between two points of an axis.
struct Place {
  std::size_t index = 0;  ///< of the point below; index + 1 is the one above
  double fraction = 0;    ///< 0: at the point below; above 1 beyond the last point
};

/// Ascending points. Below the first a value counts as the first, beyond the last the last two are
/// extended. O(log points).
Place place_on(const std::vector<double>& points, double value);

/// A measured function of one variable, linear between its points.
class Curve {
 public:
  /// Nothing: 0 everywhere.
  Curve() = default;
  /// points ascending, one value each; one or more of them.
  Curve(std::vector<double> points, std::vector<double> values);

  double operator()(double value) const;
  bool empty() const { return points_.empty(); }
  const std::vector<double>& points() const { return points_; }

  /// Adds `weight` times another curve; the result has the points of both.
  void add(const Curve& other, double weight);

 private:
  std::vector<double> points_;
  std::vector<double> values_;
};

/// A measured function of `Axes` variables, linear in each between its points.
template <std::size_t Axes>
class Grid {
 public:
  using Point = std::array<double, Axes>;
  using Index = std::array<std::size_t, Axes>;

  Grid() = default;
  /// Each axis ascending, two points or more; all values 0.
  explicit Grid(std::array<std::vector<double>, Axes> axes) : axes_(std::move(axes)) {
    std::size_t size = 1;
    for (const auto& axis : axes_) size *= axis.size();
    values_.resize(size, 0);
  }

  const std::vector<double>& axis(std::size_t i) const { return axes_[i]; }
  double& at(const Index& index) { return values_[offset(index)]; }
  double at(const Index& index) const { return values_[offset(index)]; }

  /// O(2^Axes + the sum of the axes' logarithms).
  double operator()(const Point& point) const {
    std::array<Place, Axes> places;
    for (std::size_t i = 0; i < Axes; ++i) places[i] = place_on(axes_[i], point[i]);
    double sum = 0;
    for (std::size_t corner = 0; corner < std::size_t{1} << Axes; ++corner)
      sum += share(places, corner);
    return sum;
  }

 private:
  std::size_t offset(const Index& index) const {
    std::size_t at = 0;
    for (std::size_t i = 0; i < Axes; ++i) at = at * axes_[i].size() + index[i];
    return at;
  }

  /// What one corner of the cell adds.
  double share(const std::array<Place, Axes>& places, std::size_t corner) const {
    double weight = 1;
    Index index{};
    for (std::size_t i = 0; i < Axes; ++i) {
      const bool is_above = (corner >> i & 1u) != 0;
      weight *= is_above ? places[i].fraction : 1 - places[i].fraction;
      index[i] = places[i].index + (is_above ? 1 : 0);
    }
    return weight == 0 ? 0 : weight * at(index);
  }

  std::array<std::vector<double>, Axes> axes_;
  std::vector<double> values_;
};

}  // namespace serving
