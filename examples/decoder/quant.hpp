/// Weight matrices, repacked from a GGUF file's blocks into panels that SIMD code reads in order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gguf.hpp"

namespace decoder {

/// How a packed matrix stores its weights. Quantised weights are unsigned integers q in blocks of
/// 32 columns; a weight is scale * (q - offset) + minimum. With steps, eight blocks share an f16
/// unit of their scales and one of their minimums, and each scale and minimum is a whole number of
/// units.
enum class Format {
  f32,
  f16,
  bf16,
  q4,      ///< from Q4_0: 4 bits, offset 8
  q4_min,  ///< from Q4_1: 4 bits, offset 0, a minimum per block
  q4_k,    ///< from Q4_K: 4 bits, offset 0, a minimum per block, steps
  q6_k,    ///< from Q6_K: 6 bits in a byte, offset 32, a scale per 16 columns, steps
  q8       ///< from Q8_0: 8 bits, offset 128
};

inline constexpr std::size_t panel_rows = 16;     ///< rows that lie interleaved: an AVX-512 vector
inline constexpr std::size_t block_columns = 32;  ///< columns that share a scale
inline constexpr std::size_t unit_blocks = 8;     ///< blocks that share units

/// The byte layout of one panel: all scales, then all minimums, then all units, then all integers,
/// each part starting at a multiple of 64 bytes.
///
/// scales   f16 [blocks][scales a block][16 rows], or signed bytes with steps
/// minimums f16 [blocks][16 rows], or signed bytes with steps
/// units    f16 [blocks / 8][2: of scales, of minimums][16 rows], with steps only
/// integers     [blocks][32 / 4][16 rows][4 columns], one byte each; with 4 bits
///              [blocks][16 / 4][16 rows][4 columns], column c low, column c + 16 high
/// floats       [columns][16 rows]
struct PanelLayout {
  std::size_t blocks = 0;  ///< 0 for float formats
  std::size_t scales_per_block = 0;
  std::size_t minimums = 0;  ///< byte offset
  std::size_t units = 0;     ///< byte offset
  std::size_t integers = 0;  ///< byte offset
  std::size_t bytes = 0;     ///< of one panel
};

/// Lays out a panel of `columns` columns. O(1).
[[nodiscard]] PanelLayout panel_layout(Format format, std::size_t columns) noexcept;

/// A packed matrix; the memory belongs to the model.
struct Matrix {
  Format format = Format::f32;
  std::size_t rows = 0;     ///< outputs
  std::size_t columns = 0;  ///< inputs
  PanelLayout layout;
  const std::byte* data = nullptr;

  [[nodiscard]] std::size_t panels() const noexcept { return (rows + panel_rows - 1) / panel_rows; }
  [[nodiscard]] const std::byte* panel(std::size_t index) const noexcept {
    return data + index * layout.bytes;
  }
  [[nodiscard]] std::size_t bytes() const noexcept { return panels() * layout.bytes; }
};

/// Returns the packed matrix that `tensor` becomes, without its data.
[[nodiscard]] Matrix describe(const gguf::Tensor& tensor) noexcept;

/// Packs `tensor` into `data`: describe(tensor).bytes() zeroed bytes. O(elements).
/// @param first_panel, last_panel the panels to pack, so that threads can share the work
void pack(const gguf::Tensor& tensor, const Matrix& matrix, std::size_t first_panel,
          std::size_t last_panel, std::byte* data) noexcept;

/// Writes one row of a tensor as floats. O(columns).
/// @param out columns floats
void dequantise_row(const gguf::Tensor& tensor, std::size_t row, float* out) noexcept;

}  // namespace decoder
