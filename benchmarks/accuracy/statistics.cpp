#include "statistics.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace accuracy {
namespace {

constexpr double z = 1.959964;  // 95%

/// The logarithm of "n choose k".
double log_choose(double n, double k) {
  return std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1);
}

}  // namespace

Interval wilson(double share, double count) {
  if (!(count > 0)) return {};
  const double middle = share + z * z / (2 * count);
  const double reach = z * std::sqrt(share * (1 - share) / count + z * z / (4 * count * count));
  const double scale = 1 + z * z / count;
  return {.low = std::max(0.0, (middle - reach) / scale),
          .high = std::min(1.0, (middle + reach) / scale)};
}

double Share::value() const {
  return count != 0 ? static_cast<double>(hits) / static_cast<double>(count) : 0;
}

Interval Share::interval() const { return wilson(value(), static_cast<double>(count)); }

void ClusteredShare::add(std::size_t hits, std::size_t count) {
  const auto h = static_cast<double>(hits), n = static_cast<double>(count);
  total_.hits += hits;
  total_.count += count;
  clusters_ += count != 0 ? 1 : 0;
  hits_hits_ += h * h;
  hits_count_ += h * n;
  count_count_ += n * n;
}

double ClusteredShare::effective_count() const {
  const auto trials = static_cast<double>(total_.count), m = static_cast<double>(clusters_);
  const double p = value();
  if (clusters_ < 2 || total_.hits == 0 || total_.hits == total_.count) return trials;
  // The variance of a ratio of sums over clusters.
  const double squares = hits_hits_ - 2 * p * hits_count_ + p * p * count_count_;
  const double variance = std::max(0.0, squares) * m / (m - 1) / (trials * trials);
  return variance * trials > p * (1 - p) ? p * (1 - p) / variance : trials;
}

Interval ClusteredShare::interval() const { return wilson(value(), effective_count()); }

double sign_test(std::size_t ahead, std::size_t behind) {
  const auto n = static_cast<double>(ahead + behind);
  double tail = 0;
  for (std::size_t k = 0; k <= std::min(ahead, behind); ++k) {
    tail += std::exp(log_choose(n, static_cast<double>(k)) - n * std::log(2.0));
  }
  return std::min(1.0, 2 * tail);
}

std::vector<double> holm(const std::vector<double>& values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::vector<double> corrected(values.size());
  double largest = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto left = static_cast<double>(order.size() - i);
    largest = std::max(largest, std::min(1.0, left * values[order[i]]));
    corrected[order[i]] = largest;
  }
  return corrected;
}

}  // namespace accuracy
