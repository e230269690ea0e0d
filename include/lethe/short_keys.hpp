/// Keys as they are compared for likeness: rotation undone, every head of one length, in integers
/// of 16 bits, whose inner products are exact in any order.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "lethe/cache_view.hpp"
#include "lethe/head_rows.hpp"
#include "lethe/rotation.hpp"
#include "lethe/unit_keys.hpp"

namespace lethe {

namespace detail {

/// The inner products of four keys with another, `stride` apart in out; four at once, since they
/// share its reads.
LETHE_EXACT inline void dot_strip(const std::int16_t* const* keys,
                                  const std::int16_t* LETHE_RESTRICT other, std::size_t channels,
                                  std::size_t stride, std::int32_t* out) {
  const std::int16_t* const first = keys[0];
  const std::int16_t* const second = keys[1];
  const std::int16_t* const third = keys[2];
  const std::int16_t* const fourth = keys[3];
  std::int32_t a = 0;
  std::int32_t b = 0;
  std::int32_t c = 0;
  std::int32_t d = 0;
  LETHE_LOOP_BY_EIGHT
  for (std::size_t channel = 0; channel < channels; ++channel) {
    a += first[channel] * other[channel];
    b += second[channel] * other[channel];
    c += third[channel] * other[channel];
    d += fourth[channel] * other[channel];
  }
  out[0] = a;
  out[stride] = b;
  out[2 * stride] = c;
  out[3 * stride] = d;
}

/// The channels of a key that are compared: of each pair first the ones, then the others, and last
/// the channels that are not rotated.
struct ComparedChannels {
  std::vector<std::uint32_t> channels;
  /// Of the pairs.
  std::vector<float> frequencies;
};

/// The share of the pairs that turn slowest, and all channels that do not turn.
[[nodiscard]] inline ComparedChannels slowest_channels(const KeyShape& shape, float share) {
  const std::size_t pairs = shape.frequencies.size();
  const Rotation rotation(shape.frequencies, shape.pairs);
  std::vector<std::uint32_t> order(pairs);
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    const float first = std::fabs(shape.frequencies[a]);
    const float second = std::fabs(shape.frequencies[b]);
    return first != second ? first < second : a < b;
  });
  // A float holds a third as a little more: a third of 3 must be 1, not 2.
  const double wanted =
      std::ceil(static_cast<double>(share) * static_cast<double>(pairs) * (1 - 1e-7));
  order.resize(std::min(pairs, static_cast<std::size_t>(wanted)));
  ComparedChannels result;
  for (const std::uint32_t pair : order) {
    result.channels.push_back(static_cast<std::uint32_t>(rotation.first_of(pair)));
    result.frequencies.push_back(shape.frequencies[pair]);
  }
  for (const std::uint32_t pair : order) {
    result.channels.push_back(static_cast<std::uint32_t>(rotation.second_of(pair)));
  }
  for (std::size_t c = 2 * pairs; c < shape.head_dimension; ++c) {
    result.channels.push_back(static_cast<std::uint32_t>(c));
  }
  return result;
}

}  // namespace detail

/// Reads a layer's keys, one row a token with its heads side by side. Nothing is allocated after
/// construction.
class ShortKeys {
 public:
  using Row = const std::int16_t*;

  /// heads: those of a row. share: of the pairs of channels that are rotated, those that turn
  /// slowest are read. Throws std::invalid_argument where UnitKeys does, and unless 0 < share <= 1.
  ShortKeys(const KeyShape& shape, float share, std::size_t heads, std::size_t slots)
      : ShortKeys(shape, detail::slowest_channels(checked(shape, share), share), heads, slots) {}

  /// Integers of a row.
  [[nodiscard]] std::size_t width() const { return heads_ * channels_.size(); }
  /// By which the inner product of two rows is multiplied to be the mean cosine of their heads.
  [[nodiscard]] float cosine_share() const {
    return 1.0f / (static_cast<float>(heads_) * length_ * length_);
  }
  /// The row of a slot, once read.
  [[nodiscard]] Row row(std::size_t slot) const { return rows_.data() + slot * width(); }

  /// Reads the heads from `first_head` on; positions has one entry a token. A key that is zero, or
  /// not finite, is read as zeros: it is near no other. O(tokens x width).
  template <KeyReadableCache Cache>
  void read(const Cache& cache, std::size_t layer, std::size_t first_head,
            std::span<const Position> positions) {
    std::int16_t* row = rows_.data();
    for (std::size_t slot = 0; slot < positions.size(); ++slot) {
      rotation_.set_position(positions[slot]);
      for (std::size_t head = 0; head < heads_; ++head, row += channels_.size()) {
        cache.read_keys(layer, first_head + head, slot, std::span<float>(key_));
        for (std::size_t c = 0; c < channels_.size(); ++c) part_[c] = key_[channels_[c]];
        rotation_.turn_back(part_);
        shorten(part_, length_, row);
      }
    }
  }

 private:
  ShortKeys(const KeyShape& shape, const detail::ComparedChannels& compared, std::size_t heads,
            std::size_t slots)
      : heads_(heads),
        length_(length_for(heads)),
        channels_(compared.channels),
        rotation_(compared.frequencies, RotaryPairs::halves),
        key_(shape.head_dimension, 0.0f),
        part_(channels_.size(), 0.0f),
        rows_(slots * width(), 0) {}

  [[nodiscard]] static const KeyShape& checked(const KeyShape& shape, float share) {
    detail::check_keys(shape);
    detail::require(share > 0.0f && share <= 1.0f, "slow_share", share,
                    "choose a share above 0 and at most 1");
    return shape;
  }

  /// The power of two that a key's length becomes, so large as an inner product of rows allows.
  [[nodiscard]] static float length_for(std::size_t heads) {
    const auto spent = static_cast<std::size_t>(std::bit_width(heads - 1));
    return static_cast<float>(std::size_t{1} << std::min<std::size_t>(14, (30 - spent) / 2));
  }

  LETHE_EXACT static void shorten(std::span<const float> key, float length, std::int16_t* out) {
    LETHE_EXACT_BODY
    const double sum = detail::dot(key, key);
    const bool known = is_finite_double(sum) && sum > 0;
    const auto factor =
        static_cast<float>(known ? static_cast<double>(length) / std::sqrt(sum) : 0.0);
    if (!known || !is_finite(factor)) {
      std::fill_n(out, key.size(), std::int16_t{0});
      return;
    }
    // Added to this, a number is rounded to the nearest integer, which its lowest bits then are.
    constexpr float rounder = 0x1.8p23f;
    const float* channel = key.data();
    for (std::size_t c = 0; c < key.size(); ++c) {
      const float rounded = LETHE_PRODUCT(channel[c], factor) + rounder;
      out[c] = static_cast<std::int16_t>(std::bit_cast<std::uint32_t>(rounded));
    }
  }

  std::size_t heads_;
  float length_;
  std::vector<std::uint32_t> channels_;
  Rotation rotation_;
  // Work space: a key, and what of it is compared.
  std::vector<float> key_;
  std::vector<float> part_;
  std::vector<std::int16_t> rows_;
};

}  // namespace lethe
