#include "curve.hpp"

#include <algorithm>
#include <utility>

namespace serving {

Place place_on(const std::vector<double>& points, double value) {
  if (points.size() < 2 || value <= points.front()) return {};
  const auto above = std::upper_bound(points.begin(), points.end(), value);
  const auto index =
      std::min(static_cast<std::size_t>(above - points.begin()), points.size() - 1) - 1;
  return {index, (value - points[index]) / (points[index + 1] - points[index])};
}

Curve::Curve(std::vector<double> points, std::vector<double> values)
    : points_(std::move(points)), values_(std::move(values)) {}

double Curve::operator()(double value) const {
  if (points_.empty()) return 0;
  const Place place = place_on(points_, value);
  if (place.fraction == 0) return values_[place.index];
  return values_[place.index] + place.fraction * (values_[place.index + 1] - values_[place.index]);
}

void Curve::add(const Curve& other, double weight) {
  std::vector<double> points;
  std::set_union(points_.begin(), points_.end(), other.points_.begin(), other.points_.end(),
                 std::back_inserter(points));
  std::vector<double> values;
  for (const double at : points) values.push_back((*this)(at) + weight * other(at));
  points_ = std::move(points);
  values_ = std::move(values);
}

}  // namespace serving
