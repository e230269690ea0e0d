/// What a step does to whole rows between its products: one row a block, or a tile of one.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "launch.hpp"
#include "lethe/gpu/batch.hpp"
#include "lethe/gpu/block.cuh"
#include "lethe/gpu/rasr_weights.hpp"
#include "lethe/gpu/state.hpp"
#include "numbers.cuh"

namespace cuda_decode {

/// A row of a step: whose it is, and its token.
struct RowInput {
  std::int32_t slot = -1;
  /// Below 0: the likeliest after the slot's last step.
  std::int32_t token = 0;
  lethe::gpu::QueryWeight weight{};
};

/// Most rows of a step: they travel as a kernel's argument, without a copy from the host's memory.
inline constexpr std::uint32_t most_rows = 128;

/// Adds up what the lanes have written to sums: a power of two of them, in an order of its own.
template <class Block>
[[nodiscard]] LETHE_BLOCK_CODE float folded(const Block& block, float* sums) {
  for (unsigned half = Block::threads / 2; half != 0; half /= 2) {
    block.lanes([&](unsigned lane) {
      if (lane < half) sums[lane] += sums[lane + half];
    });
  }
  return block.read(sums[0]);
}

/// Puts a step's rows where its kernels, and lethe's, look for them.
struct TakeRows {
  static constexpr const char* name = "take_rows";
  static constexpr unsigned threads = most_rows;
  using Shared = NoShared;

  RowInput rows[most_rows]{};
  std::uint32_t count = 0;
  const std::int32_t* likeliest = nullptr;  ///< of each slot
  std::int32_t* slots = nullptr;            ///< of each row, as all below
  std::int32_t* tokens = nullptr;
  lethe::gpu::QueryWeight* weights = nullptr;

  template <class Block>
  LETHE_BLOCK_CODE void run(const Block& block, Shared&, const Index&) const {
    block.lanes([&](unsigned lane) {
      if (lane >= count) return;
      const RowInput& row = rows[lane];
      slots[lane] = row.slot;
      tokens[lane] = row.token < 0 && row.slot >= 0 ? likeliest[row.slot] : row.token;
      weights[lane] = row.weight;
    });
  }
};

/// Block row: its token's embedding. A token below 0 (padding, or after logits that were no
/// numbers) is token 0.
template <class Weight>
struct Embed {
  static constexpr const char* name = "embed";
  static constexpr unsigned threads = 256;
  using Shared = NoShared;

  const Weight* embedding = nullptr;  ///< [vocabulary][width]
  const std::int32_t* tokens = nullptr;
  float* residual = nullptr;  ///< [rows][width]
  std::uint32_t width = 0;

  template <class Block>
  LETHE_BLOCK_CODE void run(const Block& block, Shared&, const Index& row) const {
    block.lanes([&](unsigned lane) {
      const std::int32_t given = tokens[row.x];
      const std::size_t token = given < 0 ? 0 : static_cast<std::size_t>(given);
      for (std::uint32_t i = lane; i < width; i += threads) {
        residual[std::size_t{row.x} * width + i] = widened(embedding[token * width + i]);
      }
    });
  }
};

/// Block row: cosines and sines of the position that append has given its token.
struct Angles {
  static constexpr const char* name = "angles";
  static constexpr unsigned threads = 128;
  using Shared = NoShared;

  const lethe::Position* next_positions = nullptr;  ///< of each slot
  const std::int32_t* slots = nullptr;
  const float* frequencies = nullptr;
  float* cosines = nullptr;  ///< [rows][pairs]
  float* sines = nullptr;
  std::uint32_t pairs = 0;

  template <class Block>
  LETHE_BLOCK_CODE void run(const Block& block, Shared&, const Index& row) const {
    block.lanes([&](unsigned lane) {
      const std::int32_t slot = slots[row.x];
      if (slot < 0) return;
      const float position = static_cast<float>(next_positions[slot] - 1);
      for (std::uint32_t i = lane; i < pairs; i += threads) {
        const float angle = position * frequencies[i];
        cosines[std::size_t{row.x} * pairs + i] = std::cos(angle);
        sines[std::size_t{row.x} * pairs + i] = std::sin(angle);
      }
    });
  }
};

/// Block row: x / rms(x) x weight, stored as a product takes it.
template <class Weight>
struct NormRows {
  static constexpr const char* name = "norm_rows";
  static constexpr unsigned threads = 256;
  struct Shared {
    float sums[threads];
  };

  const float* in = nullptr;  ///< [rows][width]
  const float* norm = nullptr;
  Weight* out = nullptr;
  std::uint32_t width = 0;
  float epsilon = 0;

  template <class Block>
  LETHE_BLOCK_CODE void run(const Block& block, Shared& shared, const Index& row) const {
    const std::size_t first = std::size_t{row.x} * width;
    block.lanes([&](unsigned lane) {
      float sum = 0.0f;
      for (std::uint32_t i = lane; i < width; i += threads) sum += in[first + i] * in[first + i];
      shared.sums[lane] = sum;
    });
    const float mean = folded(block, shared.sums) / static_cast<float>(width);
    const float scale = 1.0f / std::sqrt(mean + epsilon);
    block.lanes([&](unsigned lane) {
      for (std::uint32_t i = lane; i < width; i += threads) {
        narrow(in[first + i] * scale * norm[i], out[first + i]);
      }
    });
  }
};

/// Block (tile, row): silu(gate) x up, stored as a product takes it.
template <class Weight>
struct GateRows {
  static constexpr const char* name = "gate_rows";
  static constexpr unsigned threads = 256;
  using Shared = NoShared;

  const float* gates_ups = nullptr;  ///< [rows][gates, then ups: inner each]
  Weight* out = nullptr;             ///< [rows][inner]
  std::uint32_t inner = 0;

  [[nodiscard]] Grid grid(std::uint32_t rows) const {
    return {(inner + threads - 1) / threads, rows};
  }

  template <class Block>
  LETHE_BLOCK_CODE void run(const Block& block, Shared&, const Index& index) const {
    block.lanes([&](unsigned lane) {
      const std::uint32_t i = index.x * threads + lane;
      if (i >= inner) return;
      const float* row = gates_ups + std::size_t{index.y} * 2 * inner;
      const float gate = row[i];
      const float silu = gate / (1.0f + std::exp(-gate));
      narrow(silu * row[inner + i], out[std::size_t{index.y} * inner + i]);
    });
  }
};

/// Block row: the likeliest token, the lower one of equals; -1 where a logit is no number.
struct Likeliest {
  static constexpr const char* name = "likeliest";
  static constexpr unsigned threads = 1024;
  struct Shared {
    float values[threads];
    std::int32_t tokens[threads];
    std::uint32_t odd;
  };

  const float* logits = nullptr;  ///< [rows][vocabulary]
  const std::int32_t* slots = nullptr;
  std::int32_t* tokens = nullptr;     ///< of each row
  std::int32_t* likeliest = nullptr;  ///< of each slot
  std::uint32_t vocabulary = 0;
  std::uint32_t drawn = 0;  ///< tokens that may be drawn: the first so many

  template <class Block>
  LETHE_BLOCK_CODE void run(const Block& block, Shared& shared, const Index& row) const {
    block.lanes([&](unsigned lane) {
      if (lane == 0) shared.odd = 0;
    });
    block.lanes([&](unsigned lane) { scan(block, shared, row.x, lane); });
    for (unsigned half = threads / 2; half != 0; half /= 2) {
      block.lanes([&](unsigned lane) {
        if (lane < half && is_better(shared, lane + half, lane)) {
          shared.values[lane] = shared.values[lane + half];
          shared.tokens[lane] = shared.tokens[lane + half];
        }
      });
    }
    block.lanes([&](unsigned lane) {
      if (lane != 0) return;
      tokens[row.x] = shared.odd != 0 ? -1 : shared.tokens[0];
      if (slots[row.x] >= 0) likeliest[slots[row.x]] = tokens[row.x];
    });
  }

 private:
  template <class Block>
  LETHE_BLOCK_CODE void scan(const Block& block, Shared& shared, std::uint32_t row,
                             unsigned lane) const {
    const float* of_row = logits + std::size_t{row} * vocabulary;
    std::uint32_t odd = 0;
    float best = 0.0f;
    std::int32_t token = -1;
    for (std::uint32_t i = lane; i < drawn; i += threads) {
      const float value = of_row[i];
      odd |= lethe::is_finite(value) ? 0u : 1u;
      if (token >= 0 && !(value > best)) continue;
      best = value;
      token = static_cast<std::int32_t>(i);
    }
    shared.values[lane] = best;
    shared.tokens[lane] = token;
    if (odd != 0) block.add(shared.odd, 1u);
  }

  [[nodiscard]] LETHE_BLOCK_CODE static bool is_better(const Shared& shared, unsigned a,
                                                       unsigned b) {
    if (shared.tokens[a] < 0) return false;
    if (shared.tokens[b] < 0 || shared.values[a] > shared.values[b]) return true;
    return shared.values[a] == shared.values[b] && shared.tokens[a] < shared.tokens[b];
  }
};

}  // namespace cuda_decode
