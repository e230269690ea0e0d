/// Tokens whose values say what no others do, among those that queries look for. CapKV.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "lethe/head_rows.hpp"
#include "lethe/query_statistics.hpp"

namespace lethe {

/// Settings of Capacity.
struct CapacityConfig {
  /// Must be given.
  QueryHeads queries{};
  /// What the cosine of key and mean query is multiplied by; the published 5.
  float sharpness = 5.0f;
  /// Positions to come over which the mean query's rotation is averaged. None is published; as
  /// ExpectedMass's.
  std::size_t horizon = 512;

  bool operator==(const CapacityConfig&) const = default;
};

/// The leverage w v'A^-1 v of each value, with w = exp(sharpness cos(k, mu)) and A = I + the sum of
/// w v v' over the head's tokens (CapKV, arXiv 2604.25975); in [0, 1). mu: mean over the KV head's
/// query heads of the queries so far, without rotation, under the mean rotation of the next
/// positions. Keys or a mean of zeros are at a right angle. O((n + channels) x channels^2), in
/// channels of a value.
class Capacity : public QueryRule {
 public:
  using Config = CapacityConfig;
  static constexpr std::string_view name = "capacity";
  static constexpr bool reads_keys = true;
  static constexpr bool reads_values = true;

  /// Throws std::invalid_argument as QueryRule does, or when sharpness is negative or above 25, or
  /// horizon is 0.
  Capacity(const Config& config, const HeadShape& heads, const ScoreShape& shape)
      : QueryRule(config.queries, heads, shape.layers, {}),
        sharpness_(checked(config).sharpness),
        rotation_(config.queries.frequencies, config.queries.pairs,
                  detail::next_offsets(config.horizon)),
        head_mean_(heads.key_dimension, 0.0f),
        mean_(heads.key_dimension, 0.0f),
        channels_(heads.value_channels()),
        weighted_(shape.slots * channels_, 0.0f),
        matrix_(channels_ * channels_, 0.0),
        rest_(channels_, 0.0) {}

  void score(const HeadRows& rows, std::span<float> out) {
    load(rows);
    weigh(rows);
    std::fill(matrix_.begin(), matrix_.end(), 0.0);
    for (std::size_t c = 0; c < channels_; ++c) column(c)[c] = 1.0;
    for (std::size_t i = 0; i < rows.size(); ++i) add_square(weighted(i));
    factorise();
    for (std::size_t i = 0; i < rows.size(); ++i) out[i] = leverage(weighted(i));
  }

 private:
  [[nodiscard]] static const Config& checked(const Config& config) {
    detail::require(config.sharpness >= 0.0f && config.sharpness <= 25.0f, "sharpness",
                    config.sharpness, "choose a number from 0 to 25: doubles tell no more apart");
    return config;
  }

  /// The mean query of the KV head as it will be turned.
  LETHE_EXACT void load(const HeadRows& rows) {
    LETHE_EXACT_BODY
    const float share = static_cast<float>(1.0 / static_cast<double>(heads_each()));
    std::fill(mean_.begin(), mean_.end(), 0.0f);
    for (std::size_t h = 0; h < heads_each(); ++h) {
      statistics_.mean(rows.layer, rows.head * heads_each() + h, head_mean_);
      detail::add_scaled(mean_.data(), head_mean_.data(), mean_.size(), share);
    }
    rotation_.set_newest(rows.positions.back());
    rotation_.turn(mean_);
  }

  /// Values times the root of their weights, so that w v v' is the square of a row.
  LETHE_EXACT void weigh(const HeadRows& rows) {
    LETHE_EXACT_BODY
    const double mean_factor = factor_to_unit(mean_);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const double factor = factor_to_unit(rows.keys[i]) * mean_factor;
      const float cosine = static_cast<float>(detail::dot(rows.keys[i], mean_) * factor);
      const float bounded = std::clamp(cosine, -1.0f, 1.0f);
      const std::span<float> row = weighted(i);
      std::copy(rows.values[i].begin(), rows.values[i].end(), row.begin());
      detail::scale(row, exact_exp(0.5f * (sharpness_ * bounded)));
    }
  }

  /// 1 / |row|; 0 for a row of zeros.
  [[nodiscard]] LETHE_EXACT static double factor_to_unit(std::span<const float> row) {
    LETHE_EXACT_BODY
    return detail::reciprocal(std::sqrt(detail::dot(row, row)));
  }

  /// Adds a row's square to the lower triangle, column by column.
  LETHE_EXACT void add_square(std::span<const float> row) {
    LETHE_EXACT_BODY
    const float* LETHE_RESTRICT entries = row.data();
    for (std::size_t c = 0; c < channels_; ++c) {
      double* LETHE_RESTRICT target = column(c);
      const double own = static_cast<double>(entries[c]);
      for (std::size_t r = c; r < channels_; ++r) {
        target[r] = target[r] + own * static_cast<double>(entries[r]);
      }
    }
  }

  /// Cholesky: the lower triangle becomes L with A = LL', its diagonal inverted. A is at least the
  /// identity, so its pivots are at least 1, and what is below is rounding.
  LETHE_EXACT void factorise() {
    LETHE_EXACT_BODY
    for (std::size_t c = 0; c < channels_; ++c) {
      double* own = column(c);
      own[c] = 1.0 / std::sqrt(std::max(own[c], 1.0));
      for (std::size_t r = c + 1; r < channels_; ++r) own[r] = own[r] * own[c];
      for (std::size_t j = c + 1; j < channels_; ++j) {
        subtract(column(j) + j, own + j, channels_ - j, own[j]);
      }
    }
  }

  /// x'A^-1 x = |L^-1 x|^2.
  [[nodiscard]] LETHE_EXACT float leverage(std::span<const float> row) {
    LETHE_EXACT_BODY
    std::copy(row.begin(), row.end(), rest_.begin());
    double sum = 0;
    for (std::size_t c = 0; c < channels_; ++c) {
      const double* own = column(c);
      const double entry = rest_[c] * own[c];
      sum = sum + LETHE_PRODUCT(entry, entry);
      subtract(rest_.data() + c + 1, own + c + 1, channels_ - c - 1, entry);
    }
    return static_cast<float>(sum);
  }

  /// target[i] -= source[i] x factor.
  LETHE_EXACT static void subtract(double* LETHE_RESTRICT target,
                                   const double* LETHE_RESTRICT source, std::size_t count,
                                   double factor) {
    LETHE_EXACT_BODY
    for (std::size_t i = 0; i < count; ++i) {
      target[i] = target[i] - LETHE_PRODUCT(source[i], factor);
    }
  }

  [[nodiscard]] double* column(std::size_t c) { return matrix_.data() + c * channels_; }
  [[nodiscard]] std::span<float> weighted(std::size_t token) {
    return std::span(weighted_).subspan(token * channels_, channels_);
  }

  float sharpness_;
  MeanRotation rotation_;
  std::vector<float> head_mean_;
  std::vector<float> mean_;
  /// Of a value.
  std::size_t channels_;
  /// Each token's value times the root of its weight.
  std::vector<float> weighted_;
  /// The lower triangle, column by column.
  std::vector<double> matrix_;
  std::vector<double> rest_;
};
static_assert(QueryRowRule<Capacity>);

}  // namespace lethe
