/// The attention that tokens will get if queries go on as they were. ExpectedAttention.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "lethe/head_rows.hpp"
#include "lethe/query_statistics.hpp"

namespace lethe {

/// Settings of ExpectedMass.
struct ExpectedMassConfig {
  /// Must be given.
  QueryHeads queries{};
  /// Positions to come over which rotations are averaged; the published 512.
  std::size_t horizon = 512;
  /// Sinks: neither their queries nor their keys count, and they score as the best; the published
  /// 4.
  Position first_tokens = 4;
  /// Added to the expected share of attention; the published 0.
  float epsilon = 0.0f;

  bool operator==(const ExpectedMassConfig&) const = default;
};

/// (s + epsilon) |v|_2, where s is the softmax over the head's tokens of the logarithm of the
/// expected exponential, mu'k / sqrt(d) + k'Sigma k / 2d, mean over the query heads of the KV head
/// (ExpectedAttention, arXiv 2510.00636). mu and Sigma: mean and covariance of the queries so far,
/// without rotation, under the mean rotation of the next positions. Memory: QueryStatistics' with
/// the covariance. O(query heads x n x channels^2 / 2).
class ExpectedMass : public QueryRule {
 public:
  using Config = ExpectedMassConfig;
  static constexpr std::string_view name = "expected mass";
  static constexpr bool reads_keys = true;
  static constexpr bool reads_values = true;

  /// Throws std::invalid_argument as QueryRule does, or when horizon is 0 or epsilon negative.
  ExpectedMass(const Config& config, const HeadShape& heads, const ScoreShape& shape)
      : QueryRule(config.queries, heads, shape.layers,
                  {.covariance = true, .first_position = config.first_tokens}),
        config_(checked(config)),
        scale_(detail::logit_scale(config.queries, heads)),
        rotation_(config.queries.frequencies, config.queries.pairs,
                  detail::next_offsets(config.horizon)),
        mean_(heads.key_dimension, 0.0f),
        covariance_(QueryStatistics::triangle(heads.key_dimension), 0.0f),
        turned_(shape.slots * heads.key_dimension, 0.0f),
        logits_(shape.slots, 0.0),
        weights_(shape.slots, 0.0f) {}

  LETHE_EXACT void score(const HeadRows& rows, std::span<float> out) {
    LETHE_EXACT_BODY
    const auto sinks = static_cast<std::size_t>(
        std::lower_bound(rows.positions.begin(), rows.positions.end(), config_.first_tokens) -
        rows.positions.begin());
    const std::span<float> others = out.subspan(sinks);
    std::fill(out.begin(), out.end(), 0.0f);
    turn_keys(rows, sinks);
    for (std::size_t h = 0; h < heads_each(); ++h) {
      load(rows.layer, rows.head * heads_each() + h);
      find_logits(others.size());
      detail::add_softmax(std::span(logits_).first(others.size()), weights_, heads_each(), others);
    }
    float best = 0;
    for (std::size_t i = 0; i < others.size(); ++i) {
      others[i] = (others[i] + config_.epsilon) * detail::length(rows.values[sinks + i]);
      best = best < others[i] ? others[i] : best;
    }
    std::fill_n(out.begin(), sinks, best);
  }

 private:
  [[nodiscard]] static const Config& checked(const Config& config) {
    detail::require(config.epsilon >= 0.0f && is_finite(config.epsilon), "epsilon", config.epsilon,
                    "choose a number from 0");
    return config;
  }

  /// Instead of the mean and the covariance of every query head, keys take the mean rotation, the
  /// other way round: the products are the same.
  void turn_keys(const HeadRows& rows, std::size_t sinks) {
    rotation_.set_newest(rows.positions.back());
    for (std::size_t i = sinks; i < rows.size(); ++i) {
      const std::span<float> row = turned(i - sinks);
      std::copy(rows.keys[i].begin(), rows.keys[i].end(), row.begin());
      rotation_.turn_back(row);
    }
  }

  /// One query head's mean, and its covariance with what lies off the diagonal doubled, so that the
  /// lower triangle stands for the whole.
  LETHE_EXACT void load(std::size_t layer, std::size_t head) {
    LETHE_EXACT_BODY
    statistics_.mean(layer, head, mean_);
    statistics_.covariance(layer, head, covariance_);
    float* row = covariance_.data();
    for (std::size_t r = 0; r < mean_.size(); ++r, row += r) {
      for (std::size_t c = 0; c < r; ++c) row[c] = 2.0f * row[c];
    }
  }

  LETHE_EXACT void find_logits(std::size_t tokens) {
    LETHE_EXACT_BODY
    const double mean_scale = scale_;
    const double spread_scale = 0.5 * (scale_ * scale_);
    for (std::size_t i = 0; i < tokens; ++i) {
      const double mean = detail::dot(mean_, turned(i));
      logits_[i] = LETHE_PRODUCT(mean, mean_scale) + LETHE_PRODUCT(spread(turned(i)), spread_scale);
    }
  }

  /// k'Sigma k.
  [[nodiscard]] LETHE_EXACT double spread(std::span<const float> key) const {
    LETHE_EXACT_BODY
    const float* row = covariance_.data();
    double sum = 0;
    for (std::size_t r = 0; r < key.size(); ++r, row += r) {
      // Rounded, so that the product below is exact.
      const float image = static_cast<float>(detail::dot({row, r + 1}, key.first(r + 1)));
      sum = sum + static_cast<double>(image) * static_cast<double>(key[r]);
    }
    return sum;
  }

  [[nodiscard]] std::span<float> turned(std::size_t token) {
    return std::span(turned_).subspan(token * mean_.size(), mean_.size());
  }

  Config config_;
  double scale_;
  MeanRotation rotation_;
  // One query head.
  std::vector<float> mean_;
  std::vector<float> covariance_;
  // One KV head's tokens: keys turned back, and one query head's logits and their exponentials.
  std::vector<float> turned_;
  std::vector<double> logits_;
  std::vector<float> weights_;
};
static_assert(QueryRowRule<ExpectedMass>);

}  // namespace lethe
