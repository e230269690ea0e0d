/// The case that is measured, and what of it fits a device.
#pragma once

#include <cstdint>

namespace gpu_bench {

/// A model of 8 billion parameters in bfloat16, and the sequences that it decodes.
struct Case {
  std::uint32_t layers = 32;
  std::uint32_t batch = 16;
  std::uint32_t query_heads = 32;
  std::uint32_t heads = 8;
  std::uint32_t channels = 128;
  /// Of each layer of each sequence, before a round and after it.
  std::uint32_t tokens = 8192;
  std::uint32_t kept = 2048;
  std::uint64_t weight_bytes = 16'000'000'000;

  /// One token's key or value of one head.
  [[nodiscard]] std::uint32_t row_bytes() const { return channels * 2; }
  /// Keys and values of all layers and sequences.
  [[nodiscard]] std::uint64_t cache_bytes() const {
    return std::uint64_t{2} * layers * batch * heads * tokens * row_bytes();
  }
  /// Logits in float of one layer.
  [[nodiscard]] std::uint64_t logit_bytes() const {
    return std::uint64_t{batch} * query_heads * tokens * sizeof(float);
  }
  /// Keys and values of one layer of one sequence.
  [[nodiscard]] std::uint64_t layer_bytes() const { return cache_bytes() / layers / batch; }

  bool operator==(const Case&) const = default;
};

/// Small enough for memory checkers: what is measured means little, that it is computed is checked.
inline constexpr Case quick_case{.layers = 2,
                                 .batch = 2,
                                 .query_heads = 8,
                                 .heads = 2,
                                 .tokens = 512,
                                 .kept = 128,
                                 .weight_bytes = 16'000'000};

/// Device memory that the benchmark takes.
[[nodiscard]] std::uint64_t needed_bytes(const Case& sizes);

/// The case with as many sequences as fit `free_bytes`, halved until they do; below one of them,
/// with fewer tokens. Throws std::runtime_error that says what is missing where 1,024 tokens do not
/// fit.
[[nodiscard]] Case fitted(Case sizes, std::uint64_t free_bytes);

}  // namespace gpu_bench
