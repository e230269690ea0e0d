/// Keys as scores compare them: rotation undone, each head brought to length 1.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "lethe/cache_view.hpp"
#include "lethe/head_rows.hpp"
#include "lethe/rotation.hpp"

namespace lethe {

/// How the keys of a cache lie and turn.
struct KeyShape {
  std::size_t kv_heads = 0;
  /// Channels of a head.
  std::size_t head_dimension = 0;
  /// Radians by which one position turns each pair of channels; empty: keys are not rotated.
  std::vector<float> frequencies;
  RotaryPairs pairs = RotaryPairs::neighbours;

  bool operator==(const KeyShape&) const = default;
};

namespace detail {

/// Keys side by side in a tile, and keys that are compared with it at a time.
inline constexpr std::size_t tile_keys = 16;
inline constexpr std::size_t strip_keys = 4;
using TileSums = std::array<float, tile_keys>;

/// The inner products of four keys with a tile of columns, `columns[channel][key]`. Four at once,
/// since one leaves the adders waiting; and through pointers that could be anywhere, or g++ would
/// vectorise over channels, which takes ten times as long.
LETHE_EXACT inline void dot_tile(const float* const* keys, const float* LETHE_RESTRICT columns,
                                 std::size_t channels, std::array<TileSums, strip_keys>& out) {
  LETHE_EXACT_BODY
  TileSums a{};
  TileSums b{};
  TileSums c{};
  TileSums d{};
  LETHE_LOOP_AS_WRITTEN
  for (std::size_t channel = 0; channel < channels; ++channel) {
    const float* column = columns + channel * tile_keys;
    const float ka = keys[0][channel];
    const float kb = keys[1][channel];
    const float kc = keys[2][channel];
    const float kd = keys[3][channel];
    for (std::size_t k = 0; k < tile_keys; ++k) {
      a[k] = a[k] + LETHE_PRODUCT(ka, column[k]);
      b[k] = b[k] + LETHE_PRODUCT(kb, column[k]);
      c[k] = c[k] + LETHE_PRODUCT(kc, column[k]);
      d[k] = d[k] + LETHE_PRODUCT(kd, column[k]);
    }
  }
  out = {a, b, c, d};
}

/// Throws std::invalid_argument naming the field that cannot be.
inline const KeyShape& check_keys(const KeyShape& shape) {
  require(shape.kv_heads >= 1, "keys.kv_heads", shape.kv_heads, "give the KV heads of the cache");
  require(shape.head_dimension >= 1, "keys.head_dimension", shape.head_dimension,
          "give the channels of a head");
  require(2 * shape.frequencies.size() <= shape.head_dimension, "keys.frequencies",
          shape.frequencies.size(), "give one for each pair of channels at most");
  return shape;
}

}  // namespace detail

/// Reads a layer's keys, one row a token with its heads side by side. Nothing is allocated after
/// construction.
class UnitKeys {
 public:
  /// Throws std::invalid_argument when kv_heads or head_dimension is 0, or frequencies turn more
  /// channels than there are. heads: those of a row.
  UnitKeys(const KeyShape& shape, std::size_t heads, std::size_t slots)
      : shape_(detail::check_keys(shape)),
        rotation_(shape.frequencies, shape.pairs),
        rows_(slots * heads * shape.head_dimension, 0.0f) {}

  /// Floats of a row.
  [[nodiscard]] std::size_t width(std::size_t heads) const { return heads * shape_.head_dimension; }

  /// The rows of `heads` heads from `first_head` on; positions has one entry a token.
  /// O(tokens x width).
  template <KeyReadableCache Cache>
  [[nodiscard]] std::span<const float> read(const Cache& cache, std::size_t layer,
                                            std::size_t first_head, std::size_t heads,
                                            std::span<const Position> positions) {
    const std::size_t row = width(heads);
    for (std::size_t slot = 0; slot < positions.size(); ++slot) {
      rotation_.set_position(positions[slot]);
      for (std::size_t head = 0; head < heads; ++head) {
        const std::span<float> key = std::span(rows_).subspan(
            slot * row + head * shape_.head_dimension, shape_.head_dimension);
        cache.read_keys(layer, first_head + head, slot, key);
        rotation_.turn_back(key);
        normalise(key);
      }
    }
    return std::span<const float>(rows_).first(positions.size() * row);
  }

 private:
  /// A key of zeros stays one: it is near no other.
  LETHE_EXACT static void normalise(std::span<float> key) {
    LETHE_EXACT_BODY
    const double sum = detail::dot(key, key);
    const float factor = sum > 0 ? static_cast<float>(1.0 / std::sqrt(sum)) : 0.0f;
    detail::scale(key, factor);
  }

  KeyShape shape_;
  Rotation rotation_;
  std::vector<float> rows_;
};

}  // namespace lethe
