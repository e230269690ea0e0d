/// Keys as they are compared for likeness: rotation undone, every head of one length, in integers
/// of 16 bits, whose inner products are exact in any order.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/cache_view.hpp"
#include "lethe/head_rows.hpp"
#include "lethe/rotation.hpp"
#include "lethe/slow_channels.hpp"
#include "lethe/unit_keys.hpp"
#include "lethe/wide_vectors.hpp"

namespace lethe {

/// Reads a layer's keys, one row a token with its heads side by side. Nothing is allocated after
/// construction.
class ShortKeys {
 public:
  using Row = const std::int16_t*;
  /// Rows are as long as a multiple of it; what they lack is zero.
  static constexpr std::size_t row_step = 16;

  /// heads: those of a row. share: of the pairs of channels that are rotated, those that turn
  /// slowest are read. Throws std::invalid_argument where UnitKeys does, and unless 0 < share <= 1.
  ShortKeys(const KeyShape& shape, float share, std::size_t heads, std::size_t slots)
      : heads_(heads),
        dimension_(shape.head_dimension),
        length_(length_for(heads)),
        channels_(shape, share),
        width_((heads * channels_.size() + row_step - 1) / row_step * row_step),
        rotation_(channels_.frequencies(), RotaryPairs::halves),
        keys_(heads * tile_tokens * dimension_, 0.0f),
        parts_(tile_tokens * heads * channels_.size(), 0.0f),
        factors_(tile_tokens * heads, 0.0),
        rows_(slots * width_, 0) {}

  /// Integers of a row.
  [[nodiscard]] std::size_t width() const { return width_; }
  /// By which the inner product of two rows is multiplied to be the mean cosine of their heads.
  [[nodiscard]] float cosine_share() const {
    return 1.0f / (static_cast<float>(heads_) * length_ * length_);
  }
  /// The row of a slot, once read.
  [[nodiscard]] Row row(std::size_t slot) const { return rows_.data() + slot * width_; }

  /// Reads the heads from `first_head` on; positions has one entry a token. A key that is zero, or
  /// not finite, is read as zeros: it is near no other. O(tokens x width).
  template <KeyReadableCache Cache>
  void read(const Cache& cache, std::size_t layer, std::size_t first_head,
            std::span<const Position> positions,
            detail::Vectors vectors = detail::widest_vectors()) {
    for (std::size_t begin = 0; begin < positions.size(); begin += tile_tokens) {
      const std::size_t tokens = std::min(tile_tokens, positions.size() - begin);
      for (std::size_t head = 0; head < heads_; ++head) {
        cache.read_keys(layer, first_head + head, begin, keys_of(head).first(tokens * dimension_));
      }
      std::int16_t* const rows = rows_.data() + begin * width_;
      detail::run(vectors, [&]() LETHE_VECTOR_BODY {
        turn_back(positions.subspan(begin, tokens));
        find_factors(tokens * heads_);
        shorten(tokens, rows);
      });
    }
  }

 private:
  // Enough that a read costs little to call, few enough to stay in the nearest cache.
  static constexpr std::size_t tile_tokens = 8;

  /// The power of two that a key's length becomes, so large as an inner product of rows allows.
  [[nodiscard]] static float length_for(std::size_t heads) {
    const auto spent = static_cast<std::size_t>(std::bit_width(heads - 1));
    return static_cast<float>(std::size_t{1} << std::min<std::size_t>(14, (30 - spent) / 2));
  }

  [[nodiscard]] std::span<float> keys_of(std::size_t head) {
    return std::span(keys_).subspan(head * tile_tokens * dimension_, tile_tokens * dimension_);
  }
  [[nodiscard]] std::span<float> part(std::size_t index) {
    return std::span(parts_).subspan(index * channels_.size(), channels_.size());
  }

  /// The tile's keys to what of them is compared, token by token.
  LETHE_VECTOR_BODY void turn_back(std::span<const Position> positions) {
    for (std::size_t token = 0; token < positions.size(); ++token) {
      rotation_.set_position(positions[token]);
      for (std::size_t head = 0; head < heads_; ++head) {
        const std::span<float> out = part(token * heads_ + head);
        channels_.pick(&keys_[(head * tile_tokens + token) * dimension_], out.data());
        rotation_.turn_back(out);
      }
    }
  }

  /// What makes each key as long as all are; 0: of one that is near no other.
  LETHE_VECTOR_BODY void find_factors(std::size_t count) {
    LETHE_EXACT_BODY
    for (std::size_t i = 0; i < count; ++i) factors_[i] = detail::dot(part(i), part(i));
    for (std::size_t i = 0; i < count; ++i) {
      const double sum = factors_[i];
      const bool known = is_finite_double(sum) && sum > 0;
      factors_[i] = known ? static_cast<double>(length_) / std::sqrt(sum) : 0.0;
    }
  }

  LETHE_VECTOR_BODY void shorten(std::size_t tokens, std::int16_t* row) {
    for (std::size_t token = 0; token < tokens; ++token, row += width_) {
      for (std::size_t head = 0; head < heads_; ++head) {
        const std::size_t i = token * heads_ + head;
        shorten(part(i), static_cast<float>(factors_[i]), row + head * channels_.size());
      }
    }
  }

  LETHE_EXACT static void shorten(std::span<const float> key, float factor,
                                  std::int16_t* LETHE_RESTRICT out) {
    LETHE_EXACT_BODY
    if (factor == 0.0f || !is_finite(factor)) {
      std::fill_n(out, key.size(), std::int16_t{0});
      return;
    }
    // Added to this, a number is rounded to the nearest integer, which its lowest bits then are.
    constexpr float rounder = 0x1.8p23f;
    const float* const channel = key.data();
    const std::size_t channels = key.size();
    for (std::size_t c = 0; c < channels; ++c) {
      const float rounded = LETHE_PRODUCT(channel[c], factor) + rounder;
      out[c] = static_cast<std::int16_t>(std::bit_cast<std::uint32_t>(rounded));
    }
  }

  std::size_t heads_;
  std::size_t dimension_;
  float length_;
  SlowChannels channels_;
  std::size_t width_;
  Rotation rotation_;
  // Work space for a tile: keys by head, then what of them is compared by token, and its factors.
  std::vector<float> keys_;
  std::vector<float> parts_;
  std::vector<double> factors_;
  std::vector<std::int16_t> rows_;
};

}  // namespace lethe
