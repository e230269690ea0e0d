/// Tokens whose keys and values weigh most among their neighbours stay. CUR, CURResample.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "lethe/head_rows.hpp"

namespace lethe {

/// Settings of Leverage.
struct LeverageConfig {
  /// Neighbours in position among which a token's share is taken; the published 16.
  std::size_t block = 16;
  /// Columns of the random matrix that rows are multiplied by first (CURResample: 20); 0: none.
  std::size_t sketch = 0;
  /// Equal seeds give equal matrices, on every machine.
  std::uint64_t seed = 1;

  bool operator==(const LeverageConfig&) const = default;
};

/// A token's share of |k|^2 in its block times its share of |v|^2 there, divided by the head's sum
/// (CurDKV, arXiv 2509.15038). With a sketch, k and v are first multiplied by one matrix of normal
/// entries, drawn anew for each layer, head and round. O(n x channels), times sketch if there is
/// one.
class Leverage {
 public:
  using Config = LeverageConfig;
  static constexpr std::string_view name = "leverage";
  static constexpr bool reads_keys = true;
  static constexpr bool reads_values = true;

  /// Throws std::invalid_argument when block is 0 or sketch above 4,096.
  Leverage(const Config& config, const HeadShape& heads, std::size_t slots)
      : config_(checked(config)),
        matrix_(config.sketch * std::max(heads.key_dimension, heads.value_channels()), 0.0f),
        image_(config.sketch, 0.0),
        squares_(slots, 0.0),
        value_shares_(slots, 0.0f) {}

  LETHE_EXACT void score(const HeadRows& rows, std::span<float> out) {
    LETHE_EXACT_BODY
    if (config_.sketch != 0) draw(rows);
    const std::span<float> value_shares = std::span(value_shares_).first(rows.size());
    take_shares(rows.keys, out);
    take_shares(rows.values, value_shares);
    double total = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      out[i] = out[i] * value_shares[i];
      total = total + static_cast<double>(out[i]);
    }
    detail::scale(out, static_cast<float>(detail::reciprocal(total)));
  }

 private:
  [[nodiscard]] static const Config& checked(const Config& config) {
    detail::require(config.block >= 1, "block", config.block, "choose at least 1 token");
    detail::require(config.sketch <= 4096, "sketch", config.sketch,
                    "choose fewer columns than a row has channels, or 0");
    return config;
  }

  /// Each token's share of its block's squared lengths; 0 where all are 0.
  LETHE_EXACT void take_shares(const TokenRows& rows, std::span<float> shares) {
    LETHE_EXACT_BODY
    for (std::size_t begin = 0; begin < shares.size(); begin += config_.block) {
      const std::size_t end = begin + std::min(config_.block, shares.size() - begin);
      double total = 0;
      for (std::size_t i = begin; i < end; ++i) {
        squares_[i] = config_.sketch != 0 ? image_square(rows[i]) : detail::dot(rows[i], rows[i]);
        total = total + squares_[i];
      }
      const double factor = detail::reciprocal(total);
      for (std::size_t i = begin; i < end; ++i)
        shares[i] = static_cast<float>(squares_[i] * factor);
    }
  }

  /// The squared length of a row times the matrix.
  [[nodiscard]] LETHE_EXACT double image_square(std::span<const float> row) {
    LETHE_EXACT_BODY
    std::fill(image_.begin(), image_.end(), 0.0);
    double* LETHE_RESTRICT image = image_.data();
    const float* LETHE_RESTRICT entries = matrix_.data();
    for (std::size_t c = 0; c < row.size(); ++c, entries += config_.sketch) {
      const double channel = static_cast<double>(row[c]);
      for (std::size_t j = 0; j < config_.sketch; ++j) {
        image[j] = image[j] + channel * static_cast<double>(entries[j]);
      }
    }
    double square = 0;
    for (const double entry : image_) {
      // Rounded first: the square of a float is exact, so fusing it changes nothing.
      const double rounded = static_cast<double>(static_cast<float>(entry));
      square = square + rounded * rounded;
    }
    return square;
  }

  /// A round is told from the next by the newest position. The usual factor 1 / sqrt(columns) is
  /// left out: shares do not see it.
  void draw(const HeadRows& rows) {
    const std::uint64_t stream =
        detail::mix(detail::mix(detail::mix(detail::mix(config_.seed) ^ rows.layer) ^ rows.head) ^
                    rows.positions.back());
    for (std::size_t i = 0; i < matrix_.size(); ++i) matrix_[i] = normal(stream, 3 * i);
  }

  /// Very nearly normal, of mean 0 and variance 1: a sum of twelve uniform numbers of 16 bits each,
  /// in [-6, 6], exact in float.
  [[nodiscard]] static float normal(std::uint64_t stream, std::uint64_t index) {
    std::int32_t sum = -6 * 0xFFFF;
    for (std::uint64_t word = 0; word < 3; ++word) {
      const std::uint64_t bits = detail::mix(stream ^ (index + word));
      for (unsigned shift = 0; shift < 64; shift += 16) {
        sum += static_cast<std::int32_t>(bits >> shift & 0xFFFFu);
      }
    }
    return static_cast<float>(sum) * 0x1p-16f;
  }

  Config config_;
  /// One row a channel.
  std::vector<float> matrix_;
  std::vector<double> image_;
  std::vector<double> squares_;
  std::vector<float> value_shares_;
};
static_assert(RowRule<Leverage>);

}  // namespace lethe
