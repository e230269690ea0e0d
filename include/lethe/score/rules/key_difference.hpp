/// Tokens whose keys point elsewhere than the mean key stay. KeyDiff.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "lethe/head_rows.hpp"

namespace lethe {

/// 1 - cos(k, mean of the head's keys brought to length 1), in [0, 2] (KeyDiff, arXiv 2504.15364).
/// A key of zeros is at a right angle to all. O(n x channels).
class KeyDifference {
 public:
  using Config = NoSettings;
  static constexpr std::string_view name = "key difference";
  static constexpr bool reads_keys = true;
  static constexpr bool reads_values = false;

  KeyDifference(const Config&, const HeadShape& heads, std::size_t)
      : sum_(heads.key_dimension, 0.0), anchor_(heads.key_dimension, 0.0f) {}

  LETHE_EXACT void score(const HeadRows& rows, std::span<float> out) {
    LETHE_EXACT_BODY
    std::fill(sum_.begin(), sum_.end(), 0.0);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      out[i] = factor_to_unit(rows.keys[i]);
      add_scaled(rows.keys[i], out[i]);
    }
    for (std::size_t c = 0; c < sum_.size(); ++c) anchor_[c] = static_cast<float>(sum_[c]);
    const double anchor_factor = static_cast<double>(factor_to_unit(anchor_));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const double factor = static_cast<double>(out[i]) * anchor_factor;
      // A float of its own, so that no compiler fuses the product with the subtraction.
      const float cosine = static_cast<float>(detail::dot(rows.keys[i], anchor_) * factor);
      out[i] = cosine > 1.0f ? 0.0f : 1.0f - cosine;
    }
  }

 private:
  /// 1 / |row|; 0 for one too short for that to be a float.
  [[nodiscard]] LETHE_EXACT static float factor_to_unit(std::span<const float> row) {
    LETHE_EXACT_BODY
    const double square = detail::dot(row, row);
    return square > 0x1p-240 ? static_cast<float>(1.0 / std::sqrt(square)) : 0.0f;
  }

  LETHE_EXACT void add_scaled(std::span<const float> key, float factor) {
    LETHE_EXACT_BODY
    double* LETHE_RESTRICT sum = sum_.data();
    for (std::size_t c = 0; c < key.size(); ++c) {
      sum[c] = sum[c] + static_cast<double>(key[c]) * static_cast<double>(factor);
    }
  }

  /// The mean but for its length, which no cosine sees.
  std::vector<double> sum_;
  std::vector<float> anchor_;
};
static_assert(RowRule<KeyDifference>);

}  // namespace lethe
