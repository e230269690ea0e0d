/// Between the first product of a layer and its attention: bias, norm and rotation of each head,
/// and the new key and value into the cache.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "launch.hpp"
#include "lethe/gpu/block.cuh"
#include "lethe/gpu/state.hpp"
#include "numbers.cuh"
#include "row_kernels.cuh"

namespace cuda_decode {

/// Heads of a model, as its attention sees them.
struct HeadShape {
  std::uint32_t heads = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  /// Channels of a head that are rotated, and whether channel i goes with i + half of them, or with
  /// its neighbour.
  std::uint32_t rope_channels = 0;
  bool is_halves = false;

  [[nodiscard]] LETHE_HOST_DEVICE std::uint32_t all() const { return heads + 2 * kv_heads; }
};

/// A layer's keys and values: [slot][kv head][capacity][channel].
template <class Cached>
struct LayerCache {
  Cached* keys = nullptr;
  Cached* values = nullptr;
  std::uint32_t capacity = 0;

  /// The first element of a token's row.
  [[nodiscard]] LETHE_BLOCK_CODE std::size_t row(const HeadShape& shape, std::uint32_t slot,
                                                 std::uint32_t kv_head, std::uint32_t token) const {
    const std::size_t strip = std::size_t{slot} * shape.kv_heads + kv_head;
    return (strip * capacity + token) * shape.head_dim;
  }
};

/// Block (head, row): heads are the queries', then the keys', then the values'.
template <class Cached>
struct FinishHeads {
  static constexpr const char* name = "finish_heads";
  static constexpr unsigned threads = 128;
  static constexpr std::uint32_t most_channels = 256;
  struct Shared {
    float head[most_channels];
    float sums[threads];
  };

  HeadShape shape{};
  lethe::gpu::State state{};
  std::uint32_t layer = 0;
  const std::int32_t* slots = nullptr;
  const float* projected = nullptr;  ///< [rows][all heads][head_dim]
  const float* bias = nullptr;       ///< [all heads][head_dim], or null
  const float* query_norm = nullptr;
  const float* key_norm = nullptr;
  float epsilon = 0;
  const float* cosines = nullptr;  ///< [rows][rotated channels / 2]
  const float* sines = nullptr;
  float* queries = nullptr;  ///< [rows][heads][head_dim], scaled by 1 / sqrt(head_dim)
  LayerCache<Cached> cache{};

  template <class Block>
  LETHE_BLOCK_CODE void run(const Block& block, Shared& shared, const Index& index) const {
    if (slots[index.y] < 0) return;
    const std::size_t first = (std::size_t{index.y} * shape.all() + index.x) * shape.head_dim;
    block.lanes([&](unsigned lane) {
      for (std::uint32_t i = lane; i < shape.head_dim; i += threads) {
        const float added = bias != nullptr ? bias[index.x * shape.head_dim + i] : 0.0f;
        shared.head[i] = projected[first + i] + added;
      }
    });
    const bool is_query = index.x < shape.heads;
    const bool is_value = index.x >= shape.heads + shape.kv_heads;
    const float* norm = is_query ? query_norm : key_norm;
    if (!is_value && norm != nullptr) normalise(block, shared, norm);
    block.lanes([&](unsigned lane) {
      for (std::uint32_t i = lane; i < shape.head_dim; i += threads) {
        store(index, i, is_value ? shared.head[i] : rotated(shared, index.y, i));
      }
    });
  }

 private:
  template <class Block>
  LETHE_BLOCK_CODE void normalise(const Block& block, Shared& shared, const float* norm) const {
    block.lanes([&](unsigned lane) {
      float sum = 0.0f;
      for (std::uint32_t i = lane; i < shape.head_dim; i += threads) {
        sum += shared.head[i] * shared.head[i];
      }
      shared.sums[lane] = sum;
    });
    const float mean = folded(block, shared.sums) / static_cast<float>(shape.head_dim);
    const float scale = 1.0f / std::sqrt(mean + epsilon);
    block.lanes([&](unsigned lane) {
      for (std::uint32_t i = lane; i < shape.head_dim; i += threads) {
        shared.head[i] *= scale * norm[i];
      }
    });
  }

  [[nodiscard]] LETHE_BLOCK_CODE float rotated(const Shared& shared, std::uint32_t row,
                                               std::uint32_t channel) const {
    if (channel >= shape.rope_channels) return shared.head[channel];
    const std::uint32_t pairs = shape.rope_channels / 2;
    const std::uint32_t pair = shape.is_halves ? channel % pairs : channel / 2;
    const float x = shared.head[shape.is_halves ? pair : 2 * pair];
    const float y = shared.head[shape.is_halves ? pair + pairs : 2 * pair + 1];
    const float cosine = cosines[std::size_t{row} * pairs + pair];
    const float sine = sines[std::size_t{row} * pairs + pair];
    const bool is_first = shape.is_halves ? channel < pairs : channel % 2 == 0;
    return is_first ? x * cosine - y * sine : x * sine + y * cosine;
  }

  LETHE_BLOCK_CODE void store(const Index& index, std::uint32_t channel, float value) const {
    if (index.x < shape.heads) {
      const std::size_t head = std::size_t{index.y} * shape.heads + index.x;
      const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
      queries[head * shape.head_dim + channel] = value * scale;
      return;
    }
    const auto slot = static_cast<std::uint32_t>(slots[index.y]);
    const std::uint32_t token = state.lengths[state.number(layer, slot)] - 1;
    const std::uint32_t kv_head = (index.x - shape.heads) % shape.kv_heads;
    Cached* rows = index.x < shape.heads + shape.kv_heads ? cache.keys : cache.values;
    narrow(value, rows[cache.row(shape, slot, kv_head, token) + channel]);
  }
};

}  // namespace cuda_decode
