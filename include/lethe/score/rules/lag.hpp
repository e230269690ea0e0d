/// Tokens that stick out against the tokens that follow them stay. LagKV.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string_view>
#include <vector>

#include "lethe/head_rows.hpp"

namespace lethe {

/// Settings of Lag.
struct LagConfig {
  /// First tokens outside of any partition; the published 4. Let the policy protect as many.
  std::size_t sinks = 4;
  /// Tokens of a partition; the published 128.
  std::size_t partition = 128;

  bool operator==(const LagConfig&) const = default;
};

/// A token's rank in its partition, as a share of 1 (LagKV, arXiv 2504.04704): each channel is
/// brought to the range it has in the next partition, their standard deviation is taken over the
/// channels, made a softmax over the partition, and the mean of the keys' and the values' is
/// ranked. So every partition keeps alike. Tokens without a next partition score between 1 and 2,
/// the newest most; sinks 2. With fewer than two partitions only age counts. O(n x channels).
class Lag {
 public:
  using Config = LagConfig;
  static constexpr std::string_view name = "lag";
  static constexpr bool reads_keys = true;
  static constexpr bool reads_values = true;

  /// Throws std::invalid_argument when partition is below 2.
  Lag(const Config& config, const HeadShape& heads, std::size_t slots)
      : config_(checked(config)),
        lowest_(std::max(heads.key_dimension, heads.value_channels()), 0.0f),
        highest_(lowest_.size(), 0.0f),
        scale_(lowest_.size(), 0.0f),
        row_(lowest_.size(), 0.0f),
        deviation_(std::min(config.partition, slots), 0.0f),
        standing_(deviation_.size(), 0.0f),
        order_(deviation_.size(), 0) {}

  LETHE_EXACT void score(const HeadRows& rows, std::span<float> out) {
    LETHE_EXACT_BODY
    const std::size_t sinks = std::min(config_.sinks, rows.size());
    std::fill_n(out.begin(), sinks, 2.0f);
    const std::size_t whole = (rows.size() - sinks) / config_.partition;
    if (whole < 2) return by_age(out.subspan(sinks), 0.0f);
    std::size_t begin = sinks;
    for (std::size_t p = 0; p + 1 < whole; ++p, begin += config_.partition) {
      std::fill(standing_.begin(), standing_.end(), 0.0f);
      add_standing(rows.keys, begin);
      add_standing(rows.values, begin);
      rank(out.subspan(begin, config_.partition));
    }
    by_age(out.subspan(begin), 1.0f);
  }

 private:
  // The least range but 0, so that a channel that all but stands still does not overflow.
  static constexpr double least_range = 0x1p-60;

  [[nodiscard]] static const Config& checked(const Config& config) {
    detail::require(config.partition >= 2, "partition", config.partition,
                    "choose at least 2 tokens");
    return config;
  }

  /// From `base` on, the newest below base + 1.
  LETHE_EXACT static void by_age(std::span<float> out, float base) {
    LETHE_EXACT_BODY
    const float share = static_cast<float>(detail::reciprocal(static_cast<double>(out.size())));
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = base + LETHE_PRODUCT(static_cast<float>(i), share);
    }
  }

  /// Adds the softmax of the deviations of the partition at `begin`.
  LETHE_EXACT void add_standing(const TokenRows& rows, std::size_t begin) {
    LETHE_EXACT_BODY
    find_ranges(rows, begin + config_.partition);
    float largest = 0;
    for (std::size_t i = 0; i < config_.partition; ++i) {
      deviation_[i] = deviation(rows[begin + i]);
      largest = largest < deviation_[i] ? deviation_[i] : largest;
    }
    double total = 0;
    for (float& entry : deviation_) {
      entry = exact_exp(entry - largest);
      total = total + static_cast<double>(entry);
    }
    detail::add_scaled(standing_.data(), deviation_.data(), deviation_.size(),
                       static_cast<float>(detail::reciprocal(total)));
  }

  /// What the partition at `begin` makes of each channel. One that does not vary there says
  /// nothing.
  LETHE_EXACT void find_ranges(const TokenRows& rows, std::size_t begin) {
    LETHE_EXACT_BODY
    std::copy_n(rows[begin].begin(), rows.channels, lowest_.begin());
    std::copy_n(rows[begin].begin(), rows.channels, highest_.begin());
    float* LETHE_RESTRICT low = lowest_.data();
    float* LETHE_RESTRICT high = highest_.data();
    for (std::size_t i = begin + 1; i < begin + config_.partition; ++i) {
      const float* LETHE_RESTRICT row = rows[i].data();
      for (std::size_t c = 0; c < rows.channels; ++c) {
        low[c] = row[c] < low[c] ? row[c] : low[c];
        high[c] = high[c] < row[c] ? row[c] : high[c];
      }
    }
    for (std::size_t c = 0; c < rows.channels; ++c) {
      const double range = static_cast<double>(high[c]) - static_cast<double>(low[c]);
      scale_[c] = range > 0 ? static_cast<float>(1.0 / std::max(range, least_range)) : 0.0f;
    }
  }

  /// The standard deviation over the channels of a row, each brought to its range.
  [[nodiscard]] LETHE_EXACT float deviation(std::span<const float> row) {
    LETHE_EXACT_BODY
    const std::span<float> relative = std::span(row_).first(row.size());
    bring_to_range(row.data(), relative.data(), row.size());
    const double count = static_cast<double>(row.size());
    const float mean = static_cast<float>(detail::sum(relative) * detail::reciprocal(count));
    for (float& entry : relative) entry = entry - mean;
    const double variance = detail::dot(relative, relative) * detail::reciprocal(count - 1.0);
    return static_cast<float>(std::sqrt(variance));
  }

  LETHE_EXACT void bring_to_range(const float* LETHE_RESTRICT row, float* LETHE_RESTRICT relative,
                                  std::size_t channels) const {
    LETHE_EXACT_BODY
    const float* LETHE_RESTRICT lowest = lowest_.data();
    const float* LETHE_RESTRICT scale = scale_.data();
    for (std::size_t c = 0; c < channels; ++c) relative[c] = (row[c] - lowest[c]) * scale[c];
  }

  /// Ranks by standing, ties to the older token.
  LETHE_EXACT void rank(std::span<float> out) {
    LETHE_EXACT_BODY
    std::iota(order_.begin(), order_.end(), Slot{0});
    std::sort(order_.begin(), order_.end(), [this](Slot a, Slot b) {
      const std::uint32_t left = ordered_key(standing_[a]);
      const std::uint32_t right = ordered_key(standing_[b]);
      return left != right ? left < right : a > b;
    });
    const float share = 1.0f / static_cast<float>(config_.partition);
    for (std::size_t i = 0; i < order_.size(); ++i) out[order_[i]] = static_cast<float>(i) * share;
  }

  Config config_;
  /// Of each channel in the next partition: its range, and what brings that to 1.
  std::vector<float> lowest_;
  std::vector<float> highest_;
  std::vector<float> scale_;
  /// Work space of one row.
  std::vector<float> row_;
  /// Of each token in the partition.
  std::vector<float> deviation_;
  std::vector<float> standing_;
  std::vector<Slot> order_;
};
static_assert(RowRule<Lag>);

}  // namespace lethe
