/// Attention as a sum of waves over distance, one for each rotary pair. TriAttention.
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

/// Settings of Trigonometric.
struct TrigonometricConfig {
  /// Must be given.
  QueryHeads queries{};
  /// Future distances that scores are averaged over, 1, 2, 4, ...; the published 17, up to 2^16.
  std::size_t offsets = 17;

  bool operator==(const TrigonometricConfig&) const = default;
};

/// Over the rotary pairs f, the sum of |Eq| |k| cos(w (distance + offset) + phase) + (E|q| - |Eq|)
/// |k|, mean over the offsets; then, in each query head, less the mean of the tokens and divided by
/// their standard deviation (by 1e-6 at least); the largest of the KV head's query heads
/// (TriAttention, arXiv 2604.04921), raised until the least is 0. Eq and E|q| come from the queries
/// so far, without rotation, where a calibration is published. Channels that are not rotated add Eq
/// k. Memory: QueryStatistics' with the lengths of pairs. O(query heads x n x channels).
class Trigonometric : public QueryRule {
 public:
  using Config = TrigonometricConfig;
  static constexpr std::string_view name = "trigonometric";
  static constexpr bool reads_keys = true;
  static constexpr bool reads_values = false;

  /// Throws std::invalid_argument as QueryRule does, or when offsets is 0 or above 31.
  Trigonometric(const Config& config, const HeadShape& heads, const ScoreShape& shape)
      : QueryRule(config.queries, heads, shape.layers, {.pair_lengths = true}),
        rotation_(config.queries.frequencies, config.queries.pairs,
                  detail::doubling_offsets(config.offsets)),
        mean_(heads.key_dimension, 0.0f),
        surplus_(config.queries.frequencies.size(), 0.0f),
        lengths_(shape.slots * surplus_.size(), 0.0f),
        sums_(shape.slots, 0.0),
        deviations_(shape.slots, 0.0f) {}

  LETHE_EXACT void score(const HeadRows& rows, std::span<float> out) {
    LETHE_EXACT_BODY
    rotation_.set_newest(rows.positions.back());
    measure_pairs(rows.keys, rows.size());
    for (std::size_t h = 0; h < heads_each(); ++h) {
      load(rows.layer, rows.head * heads_each() + h);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        sums_[i] = detail::dot(mean_, rows.keys[i]) + detail::dot(surplus_, lengths_of(i));
      }
      const double factor = standardise(rows.size());
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const float own = static_cast<float>(static_cast<double>(deviations_[i]) * factor);
        out[i] = h == 0 || out[i] < own ? own : out[i];
      }
    }
    const float least = *std::min_element(out.begin(), out.end());
    for (float& entry : out) entry = entry - least;
  }

 private:
  /// |k| of every pair, which no rotation changes.
  LETHE_EXACT void measure_pairs(const TokenRows& keys, std::size_t tokens) {
    LETHE_EXACT_BODY
    for (std::size_t i = 0; i < tokens; ++i) {
      const std::span<float> lengths = lengths_of(i);
      for (std::size_t pair = 0; pair < lengths.size(); ++pair) {
        lengths[pair] = static_cast<float>(pair_length(keys[i], pair));
      }
    }
  }

  [[nodiscard]] LETHE_EXACT double pair_length(std::span<const float> row, std::size_t pair) const {
    LETHE_EXACT_BODY
    const double x = static_cast<double>(row[statistics_.rotation().first_of(pair)]);
    const double y = static_cast<double>(row[statistics_.rotation().second_of(pair)]);
    return std::sqrt(x * x + y * y);
  }

  /// One query head: the mean query under the mean rotation, whose product with a key as it is
  /// stored is the sum of cosines; and by how much pairs are longer than their mean.
  LETHE_EXACT void load(std::size_t layer, std::size_t head) {
    LETHE_EXACT_BODY
    statistics_.mean(layer, head, mean_);
    statistics_.pair_lengths(layer, head, surplus_);
    for (std::size_t pair = 0; pair < surplus_.size(); ++pair) {
      const double length = static_cast<double>(surplus_[pair]);
      surplus_[pair] = static_cast<float>(length - pair_length(mean_, pair));
    }
    rotation_.turn(mean_);
  }

  /// Takes the mean from the sums; returns what brings the rest to a standard deviation of 1.
  [[nodiscard]] LETHE_EXACT double standardise(std::size_t tokens) {
    LETHE_EXACT_BODY
    const double share = 1.0 / static_cast<double>(tokens);
    double total = 0;
    for (std::size_t i = 0; i < tokens; ++i) total = total + sums_[i];
    // In double: of equal sums, a mean rounded to float leaves its error, which would be magnified.
    const double mean = LETHE_PRODUCT(total, share);
    double squares = 0;
    for (std::size_t i = 0; i < tokens; ++i) {
      deviations_[i] = static_cast<float>(sums_[i] - mean);
      squares = squares + static_cast<double>(deviations_[i]) * static_cast<double>(deviations_[i]);
    }
    return 1.0 / std::max(std::sqrt(squares * share), 1e-6);
  }

  [[nodiscard]] std::span<float> lengths_of(std::size_t token) {
    return std::span(lengths_).subspan(token * surplus_.size(), surplus_.size());
  }

  MeanRotation rotation_;
  // One query head; surplus: E|q| - |Eq| of each pair.
  std::vector<float> mean_;
  std::vector<float> surplus_;
  // One KV head's tokens: the lengths of their pairs, and one query head's scores.
  std::vector<float> lengths_;
  std::vector<double> sums_;
  std::vector<float> deviations_;
};
static_assert(QueryRowRule<Trigonometric>);

}  // namespace lethe
