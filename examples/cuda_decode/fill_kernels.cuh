/// What a measurement starts from: random numbers, sequences that are long already, and memory read
/// for its speed alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "launch.hpp"
#include "lethe/gpu/block.cuh"
#include "lethe/gpu/state.hpp"
#include "numbers.cuh"

namespace cuda_decode {

/// Numbers spread evenly over offset - scale to offset + scale, the same on every device.
template <class Element>
struct Fill {
  static constexpr const char* name = "fill";
  static constexpr unsigned threads = 256;
  static constexpr std::uint32_t most_blocks = 4096;
  using Shared = NoShared;

  Element* to = nullptr;
  std::size_t count = 0;
  float scale = 0;
  float offset = 0;
  std::uint64_t seed = 0;

  [[nodiscard]] LETHE_HOST_DEVICE std::uint32_t blocks() const {
    const std::size_t all = (count + threads - 1) / threads;
    return static_cast<std::uint32_t>(all < most_blocks ? all : most_blocks);
  }

  template <class Block>
  LETHE_BLOCK_CODE void run(const Block& block, Shared&, const Index& index) const {
    const std::size_t step = std::size_t{blocks()} * threads;
    block.lanes([&](unsigned lane) {
      for (std::size_t i = std::size_t{index.x} * threads + lane; i < count; i += step) {
        const auto word = static_cast<std::uint32_t>(lethe::detail::mix(seed + i) >> 40);
        const float even = static_cast<float>(word) * 0x1p-23f - 1.0f;
        narrow(even * scale + offset, to[i]);
      }
    });
  }
};

/// Block (layer, slot): a sequence that has read `context` tokens, and of which the layer holds the
/// first four and the last ones, `tokens` in all; scores, where there are any, are all the same.
struct PlaceTokens {
  static constexpr const char* name = "place_tokens";
  static constexpr unsigned threads = 256;
  static constexpr std::uint32_t first_tokens = 4;
  using Shared = NoShared;

  lethe::gpu::State state{};
  std::uint32_t tokens = 0;
  std::uint32_t context = 0;
  std::uint32_t threshold = 0;

  template <class Block>
  LETHE_BLOCK_CODE void run(const Block& block, Shared&, const Index& index) const {
    const std::size_t number = state.number(index.x, index.y);
    const std::size_t begin = number * state.shape.capacity;
    block.lanes([&](unsigned lane) {
      for (std::uint32_t i = lane; i < tokens; i += threads) {
        state.positions[begin + i] = i < first_tokens ? i : i + (context - tokens);
        if (state.scores != nullptr) state.scores[begin + i] = 1.0f;
      }
      if (lane != 0) return;
      state.lengths[number] = tokens;
      state.cadences[number] = {threshold, 0};
      state.pinned[index.y] = 0;
      state.next_positions[index.y] = context;
    });
  }
};

/// Reads memory as fast as it goes.
struct ReadMemory {
  static constexpr const char* name = "read_memory";
  static constexpr unsigned threads = 512;
  static constexpr std::uint32_t blocks = 2048;
  static constexpr std::size_t unrolled = 4;  ///< loads of a lane under way
  using Shared = NoShared;

  const Octet* from = nullptr;
  std::size_t octets = 0;
  std::uint32_t* found = nullptr;  ///< written where a sum is 1, so that the loads stay

  template <class Block>
  LETHE_BLOCK_CODE void run(const Block& block, Shared&, const Index& index) const {
    constexpr std::size_t step = std::size_t{blocks} * threads;
    block.lanes([&](unsigned lane) {
      std::uint32_t sum = 0;
      std::size_t i = std::size_t{index.x} * threads + lane;
      for (; i + (unrolled - 1) * step < octets; i += unrolled * step) {
        Octet held[unrolled];
        LETHE_UNROLL
        for (std::size_t k = 0; k < unrolled; ++k) held[k] = load_octet(from + i + k * step);
        LETHE_UNROLL
        for (std::size_t k = 0; k < unrolled; ++k) sum |= any_of(held[k]);
      }
      for (; i < octets; i += step) sum |= any_of(load_octet(from + i));
      if (sum == 1) *found = sum;
    });
  }

 private:
  [[nodiscard]] LETHE_BLOCK_CODE static std::uint32_t any_of(const Octet& octet) {
    return octet.words[0] | octet.words[1] | octet.words[2] | octet.words[3];
  }
};

}  // namespace cuda_decode
