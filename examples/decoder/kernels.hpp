/// The arithmetic of the decoder, compiled for several instruction sets and chosen at run time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "cache_type.hpp"
#include "quant.hpp"

namespace decoder::kernels {

/// Inputs of a matrix product, one row a token: as floats, and as 16-bit integers in blocks of 32
/// columns, each 256 * high + low: a float is its integer times its block's scale. Eight bits would
/// do for half the work, and would change one most likely token in thirty.
struct Activations {
  std::size_t tokens = 0;
  std::size_t columns = 0;
  const float* values = nullptr;       ///< [tokens][columns]
  const std::int8_t* bytes = nullptr;  ///< [blocks][tokens][high, low][32]; where columns % 32 == 0
  const float* scales = nullptr;       ///< [blocks][tokens]
  const float* sums = nullptr;         ///< [blocks][tokens]: sums of a block's integers
  const float* first_sums = nullptr;   ///< [blocks][tokens]: of its first 16 integers
};

/// Where a row's integers go: its place in the arrays of Activations, whose rows are `tokens`
/// apart.
struct QuantisedRow {
  std::size_t tokens = 0;
  std::int8_t* bytes = nullptr;
  float* scales = nullptr;
  float* sums = nullptr;
  float* first_sums = nullptr;
};

inline constexpr std::size_t token_block_bytes = 2 * block_columns;  ///< of one token's block

/// Rounds a row to integers.
/// @param columns a multiple of 32
void quantise(const float* values, std::size_t columns, const QuantisedRow& out) noexcept;

/// Multiplies a range of a matrix's panels with every token: out[t][r] = sum_c w[r][c] x[t][c].
/// The sums run in an order that depends neither on the number of tokens nor on the range.
/// @param out [tokens][out_stride]; rows 16 * first_panel and after are written
void multiply(const Matrix& matrix, const Activations& input, std::size_t first_panel,
              std::size_t last_panel, float* out, std::size_t out_stride) noexcept;

/// out[i] = in[i] / rms(in) * weight[i]; `out` may be `in`.
void rms_norm(const float* in, const float* weight, std::size_t count, float epsilon,
              float* out) noexcept;

/// gate[i] = silu(gate[i]) * up[i].
void silu_multiply(float* gate, const float* up, std::size_t count) noexcept;

/// Writes a row of a cache strip.
/// @param count a multiple of 32
void store_row(CacheType type, const float* values, std::size_t count, std::byte* row) noexcept;

/// Reads the first out.size() numbers of a row that store_row wrote.
/// @param channels of the row: store_row's count
void load_row(CacheType type, const std::byte* row, std::size_t channels,
              std::span<float> out) noexcept;

inline constexpr std::size_t max_head_dim = 256;  ///< most channels of a head, padding included

/// One query's share of an attention item.
struct AttentionRow {
  const float* query = nullptr;    ///< channels floats, scaled by 1 / sqrt(head_dim)
  float* probabilities = nullptr;  ///< the chunk's columns, rounded up to 16, not yet normalised
  float* output = nullptr;         ///< channels floats: sum of probability times value
  std::size_t visible = 0;         ///< columns of the chunk that the query may see
  float maximum = 0;               ///< largest logit; -infinity when nothing is visible
  float sum = 0;                   ///< sum of probabilities
};

/// A run of tokens of one KV head.
struct AttentionChunk {
  CacheType type = CacheType::f16;
  const std::byte* keys = nullptr;    ///< [columns] rows of row_bytes
  const std::byte* values = nullptr;  ///< [columns] rows of row_bytes
  std::size_t row_bytes = 0;
  std::size_t columns = 0;
  std::size_t channels = 0;  ///< of a row: a multiple of 32, at most max_head_dim
  /// Where the rows lie in blocks instead: the first begins with the chunk's first row.
  std::span<const std::byte* const> blocks{};
  std::size_t block_rows = 0;   ///< of each block: a multiple of 16
  std::size_t keys_offset = 0;  ///< bytes from a block's begin to the head's keys
  std::size_t values_offset = 0;
};

/// Attends from every row to one chunk; keys and values are read once.
/// probabilities[i] = exp(query . key[i] - maximum), 0 where not visible.
void attend(const AttentionChunk& chunk, std::span<AttentionRow> rows) noexcept;

/// values[i] *= factor.
void scale(float* values, std::size_t count, float factor) noexcept;

/// to[i] += from[i] * factor.
void add_scaled(float* to, const float* from, std::size_t count, float factor) noexcept;

/// Returns the name of the instruction set in use, such as "AVX3_DL" (AVX-512 with VNNI).
const char* instruction_set() noexcept;

}  // namespace decoder::kernels
