/// How near the keys of tokens come to those of newer ones.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

#include "lethe/numeric.hpp"
#include "lethe/short_keys.hpp"
#include "lethe/wide_vectors.hpp"

namespace lethe {

namespace detail {

/// Keys that are compared with another at a time, since they share its reads.
inline constexpr std::size_t newer_strip = 4;
using StripRows = std::array<ShortKeys::Row, newer_strip>;

/// The inner products of four keys with another.
LETHE_EXACT inline void dot_strip(const StripRows& keys, ShortKeys::Row other, std::size_t width,
                                  std::int32_t* out) {
  const ShortKeys::Row first = keys[0];
  const ShortKeys::Row second = keys[1];
  const ShortKeys::Row third = keys[2];
  const ShortKeys::Row fourth = keys[3];
  std::int32_t a = 0;
  std::int32_t b = 0;
  std::int32_t c = 0;
  std::int32_t d = 0;
  LETHE_LOOP_BY_EIGHT
  for (std::size_t channel = 0; channel < width; ++channel) {
    a += first[channel] * other[channel];
    b += second[channel] * other[channel];
    c += third[channel] * other[channel];
    d += fourth[channel] * other[channel];
  }
  out[0] = a;
  out[1] = b;
  out[2] = c;
  out[3] = d;
}

#if LETHE_HAS_WIDE_VECTORS
/// The same. By name, since clang finds no instruction that multiplies and adds in this width, and
/// neither compiler adds the four sums up together.
LETHE_WIDE inline void dot_strip_wide(const StripRows& keys, ShortKeys::Row other,
                                      std::size_t width, std::int32_t* out) {
  using Shorts = short __attribute__((vector_size(32)));
  using Sums = int __attribute__((vector_size(32)));
  static_assert(ShortKeys::row_step * sizeof(std::int16_t) == sizeof(Shorts));
  std::array<Sums, newer_strip> sums{};
  for (std::size_t channel = 0; channel < width; channel += ShortKeys::row_step) {
    Shorts right;
    std::memcpy(&right, other + channel, sizeof(right));
    for (std::size_t i = 0; i < newer_strip; ++i) {
      Shorts left;
      std::memcpy(&left, keys[i] + channel, sizeof(left));
      sums[i] += __builtin_ia32_pmaddwd256(left, right);
    }
  }
  const Sums halves = __builtin_ia32_phaddd256(__builtin_ia32_phaddd256(sums[0], sums[1]),
                                               __builtin_ia32_phaddd256(sums[2], sums[3]));
  const auto total = __builtin_shufflevector(halves, halves, 0, 1, 2, 3) +
                     __builtin_shufflevector(halves, halves, 4, 5, 6, 7);
  std::memcpy(out, &total, sizeof(total));
}
#endif

LETHE_VECTOR_BODY inline void dot_strip(Vectors vectors, const StripRows& keys,
                                        ShortKeys::Row other, std::size_t width,
                                        std::int32_t* out) {
#if LETHE_HAS_WIDE_VECTORS
  if (vectors == Vectors::wide) return dot_strip_wide(keys, other, width, out);
#endif
  static_cast<void>(vectors);
  dot_strip(keys, other, width, out);
}

}  // namespace detail

/// Compares new tokens with all older ones. The largest inner product is found in integers, and
/// becomes a float once: a larger one never becomes a smaller float.
class NewerKeys {
 public:
  /// keys: outlives this; each token has been read.
  NewerKeys(const ShortKeys& keys, std::span<const Position> positions)
      : keys_(keys), positions_(positions), share_(0.5f * keys.cosine_share()) {}

  /// nearest, one a token: 0.5 + cosine / 2 of the newer key that is nearest so far, 0 at least.
  /// fresh: slots of the new tokens. O(fresh x tokens x width).
  void raise(std::span<const Slot> fresh, std::span<float> nearest,
             detail::Vectors vectors = detail::widest_vectors()) const {
    detail::run(vectors, [&]() LETHE_VECTOR_BODY {
      for (std::size_t begin = 0; begin < positions_.size(); begin += tile_keys) {
        const std::size_t count = std::min(tile_keys, positions_.size() - begin);
        Tile tile = tile_of(begin, count);
        for (std::size_t i = 0; i < fresh.size(); i += strip) {
          compare(fresh.subspan(i, std::min(strip, fresh.size() - i)), begin, vectors, tile);
        }
        raise_tile(tile, nearest.subspan(begin, count));
      }
    });
  }

 private:
  static constexpr std::size_t tile_keys = 16;
  static constexpr std::size_t strip = detail::newer_strip;
  // Of no key, and less than any product: below 0 in terms of nearness.
  static constexpr std::int32_t least = std::numeric_limits<std::int32_t>::min();

  using StripSums = std::array<std::int32_t, tile_keys * strip>;

  /// Tokens side by side, and the largest inner product of each with newer ones, which come by
  /// strips: of every fourth of them.
  struct Tile {
    std::size_t count = 0;
    std::array<Position, tile_keys * strip> positions{};
    StripSums most{};
  };

  LETHE_VECTOR_BODY Tile tile_of(std::size_t begin, std::size_t count) const {
    Tile tile{.count = count};
    tile.most.fill(least);
    for (std::size_t k = 0; k < count; ++k) {
      for (std::size_t i = 0; i < strip; ++i) tile.positions[k * strip + i] = positions_[begin + k];
    }
    return tile;
  }

  /// A few tokens against those of the tile; of these the older ones may have come nearer to one.
  LETHE_VECTOR_BODY void compare(std::span<const Slot> fresh, std::size_t begin,
                                 detail::Vectors vectors, Tile& tile) const {
    detail::StripRows keys;
    std::array<Position, strip> newer;
    for (std::size_t i = 0; i < strip; ++i) {
      const Slot slot = fresh[std::min(i, fresh.size() - 1)];
      keys[i] = keys_.row(slot);
      newer[i] = positions_[slot];
    }
    const std::size_t width = keys_.width();
    ShortKeys::Row row = keys_.row(begin);
    StripSums sums;
    for (std::size_t k = 0; k < tile.count; ++k, row += width) {
      detail::dot_strip(vectors, keys, row, width, &sums[k * strip]);
    }
    keep_most(sums, newer, tile);
  }

  LETHE_VECTOR_BODY static void keep_most(const StripSums& sums,
                                          const std::array<Position, strip>& newer, Tile& tile) {
    for (std::size_t k = 0; k < tile.count * strip; k += strip) {
      for (std::size_t i = 0; i < strip; ++i) {
        const std::int32_t sum = tile.positions[k + i] < newer[i] ? sums[k + i] : least;
        tile.most[k + i] = tile.most[k + i] < sum ? sum : tile.most[k + i];
      }
    }
  }

  LETHE_VECTOR_BODY void raise_tile(const Tile& tile, std::span<float> nearest) const {
    LETHE_EXACT_BODY
    for (std::size_t k = 0; k < nearest.size(); ++k) {
      const std::int32_t* const most = &tile.most[k * strip];
      const std::int32_t sum = std::max(std::max(most[0], most[1]), std::max(most[2], most[3]));
      const float near = 0.5f + LETHE_PRODUCT(static_cast<float>(sum), share_);
      nearest[k] = nearest[k] < near ? near : nearest[k];
    }
  }

  const ShortKeys& keys_;
  std::span<const Position> positions_;
  /// Half of what makes a mean cosine of an inner product.
  float share_;
};

}  // namespace lethe
