#include "quant.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "half.hpp"
#include "round_up.hpp"

namespace decoder {
namespace {

using gguf::TensorType;

struct Block {
  std::array<std::uint8_t, block_columns> quants{};
  std::array<float, 2> scales{};
  float minimum = 0;
  // Of formats with steps, which make scales and minimum:
  std::array<float, 2> units{};
  std::array<int, 2> steps{};
  int minimum_steps = 0;
};

void apply_steps(Block& block) noexcept {
  for (std::size_t i = 0; i < 2; ++i)
    block.scales[i] = block.units[0] * static_cast<float>(block.steps[i]);
  block.minimum = block.units[1] * static_cast<float>(block.minimum_steps);
}

std::uint8_t byte_at(const std::byte* data, std::size_t index) noexcept {
  return std::to_integer<std::uint8_t>(data[index]);
}

std::uint16_t word_at(const std::byte* data) noexcept {
  std::uint16_t word = 0;
  std::memcpy(&word, data, sizeof word);
  return word;
}

float half_at(const std::byte* data) noexcept { return half_to_float(word_at(data)); }

void read_nibbles(const std::byte* data, Block& block) noexcept {
  for (std::size_t i = 0; i < 16; ++i) {
    block.quants[i] = byte_at(data, i) & 15u;
    block.quants[i + 16] = static_cast<std::uint8_t>(byte_at(data, i) >> 4);
  }
}

Block read_q4_0(const std::byte* row, std::size_t index) noexcept {
  const std::byte* data = row + index * 18;
  Block block{.scales = {half_at(data), half_at(data)}};
  read_nibbles(data + 2, block);
  return block;
}

Block read_q4_1(const std::byte* row, std::size_t index) noexcept {
  const std::byte* data = row + index * 20;
  Block block{.scales = {half_at(data), half_at(data)}, .minimum = half_at(data + 2)};
  read_nibbles(data + 4, block);
  return block;
}

Block read_q8_0(const std::byte* row, std::size_t index) noexcept {
  const std::byte* data = row + index * 34;
  Block block{.scales = {half_at(data), half_at(data)}};
  for (std::size_t i = 0; i < block_columns; ++i) {
    block.quants[i] = byte_at(data, i + 2) ^ 0x80u;
  }
  return block;
}

struct ScaleAndMinimum {
  int scale;
  int minimum;
};

// Q4_K packs eight 6-bit scales and eight 6-bit minimums into 12 bytes.
ScaleAndMinimum read_six_bits(const std::byte* packed, std::size_t j) noexcept {
  if (j < 4) return {byte_at(packed, j) & 63, byte_at(packed, j + 4) & 63};
  const int low = byte_at(packed, j + 4);
  return {(low & 15) | ((byte_at(packed, j - 4) >> 6) << 4),
          (low >> 4) | ((byte_at(packed, j) >> 6) << 4)};
}

Block read_q4_k(const std::byte* row, std::size_t index) noexcept {
  const std::byte* data = row + index / 8 * 144;
  const std::size_t part = index % 8;
  const ScaleAndMinimum six = read_six_bits(data + 4, part);
  Block block{.units = {half_at(data), -half_at(data + 2)},
              .steps = {six.scale, six.scale},
              .minimum_steps = six.minimum};
  apply_steps(block);
  const unsigned shift = part % 2 == 0 ? 0 : 4;
  for (std::size_t i = 0; i < block_columns; ++i) {
    block.quants[i] = (byte_at(data, 16 + part / 2 * 32 + i) >> shift) & 15u;
  }
  return block;
}

Block read_q6_k(const std::byte* row, std::size_t index) noexcept {
  const std::byte* data = row + index / 8 * 210;
  const std::size_t part = index % 8;
  const std::size_t half = part / 4;
  const std::size_t quarter = part % 4;
  const std::byte* low = data + half * 64 + quarter % 2 * 32;
  const std::byte* high = data + 128 + half * 32;
  Block block;
  for (std::size_t i = 0; i < block_columns; ++i) {
    const unsigned bits = (byte_at(low, i) >> (quarter < 2 ? 0 : 4)) & 15u;
    const unsigned top = (byte_at(high, i) >> (2 * quarter)) & 3u;
    block.quants[i] = static_cast<std::uint8_t>(bits | top << 4);
  }
  block.units[0] = half_at(data + 208);
  for (std::size_t i = 0; i < 2; ++i)
    block.steps[i] = static_cast<std::int8_t>(byte_at(data, 192 + part * 2 + i));
  apply_steps(block);
  return block;
}

Block read_block(TensorType type, const std::byte* row, std::size_t index) noexcept {
  switch (type) {
    case TensorType::Q4_0:
      return read_q4_0(row, index);
    case TensorType::Q4_1:
      return read_q4_1(row, index);
    case TensorType::Q8_0:
      return read_q8_0(row, index);
    case TensorType::Q4_K:
      return read_q4_k(row, index);
    default:
      return read_q6_k(row, index);
  }
}

Format format_of(TensorType type) noexcept {
  switch (type) {
    case TensorType::F32:
      return Format::f32;
    case TensorType::F16:
      return Format::f16;
    case TensorType::BF16:
      return Format::bf16;
    case TensorType::Q4_0:
      return Format::q4;
    case TensorType::Q4_1:
      return Format::q4_min;
    case TensorType::Q4_K:
      return Format::q4_k;
    case TensorType::Q6_K:
      return Format::q6_k;
    case TensorType::Q8_0:
      return Format::q8;
  }
  return Format::f32;
}

float offset_of(Format format) noexcept {
  switch (format) {
    case Format::q4:
      return 8;
    case Format::q6_k:
      return 32;
    case Format::q8:
      return 128;
    default:
      return 0;
  }
}

bool is_float(Format format) noexcept {
  return format == Format::f32 || format == Format::f16 || format == Format::bf16;
}

bool has_minimums(Format format) noexcept {
  return format == Format::q4_min || format == Format::q4_k;
}

bool has_nibbles(Format format) noexcept { return format == Format::q4 || has_minimums(format); }

bool has_steps(Format format) noexcept { return format == Format::q4_k || format == Format::q6_k; }

void put_half(std::byte* out, std::size_t index, float value) noexcept {
  const std::uint16_t half = float_to_half(value);
  std::memcpy(out + index * sizeof half, &half, sizeof half);
}

void put_integers(const Block& block, bool nibbles, std::byte* out, std::size_t row) noexcept {
  const std::size_t columns = nibbles ? block_columns / 2 : block_columns;
  for (std::size_t c = 0; c < columns; ++c) {
    std::uint8_t value = block.quants[c];
    if (nibbles) value |= static_cast<std::uint8_t>(block.quants[c + columns] << 4);
    out[c / 4 * (panel_rows * 4) + row * 4 + c % 4] = std::byte{value};
  }
}

// Writes the scales, minimum and units of block `b` of row `r` of a panel.
void put_scales(const Block& block, const Matrix& matrix, std::size_t b, std::size_t r,
                std::byte* panel) noexcept {
  const PanelLayout& layout = matrix.layout;
  const bool steps = has_steps(matrix.format);
  const auto put = [&](std::byte* out, std::size_t index, float value, int count) {
    if (steps) {
      out[index * panel_rows + r] = static_cast<std::byte>(count);
    } else {
      put_half(out, index * panel_rows + r, value);
    }
  };
  for (std::size_t i = 0; i < layout.scales_per_block; ++i)
    put(panel, b * layout.scales_per_block + i, block.scales[i], block.steps[i]);
  if (has_minimums(matrix.format))
    put(panel + layout.minimums, b, block.minimum, block.minimum_steps);
  for (std::size_t i = 0; steps && i < 2; ++i)
    put_half(panel + layout.units, (b / unit_blocks * 2 + i) * panel_rows + r, block.units[i]);
}

void pack_blocks(const gguf::Tensor& tensor, const Matrix& matrix, std::size_t row,
                 std::byte* panel) noexcept {
  const PanelLayout& layout = matrix.layout;
  const std::byte* source = tensor.data + row * tensor.row_bytes();
  const bool nibbles = has_nibbles(matrix.format);
  const std::size_t block_bytes = panel_rows * (nibbles ? block_columns / 2 : block_columns);
  const std::size_t r = row % panel_rows;
  for (std::size_t b = 0; b < layout.blocks; ++b) {
    const Block block = read_block(tensor.type, source, b);
    put_scales(block, matrix, b, r, panel);
    put_integers(block, nibbles, panel + layout.integers + b * block_bytes, r);
  }
}

void pack_floats(const gguf::Tensor& tensor, std::size_t row, std::byte* panel) noexcept {
  const std::size_t width = gguf::block_layout(tensor.type).bytes;
  const std::byte* source = tensor.data + row * tensor.row_bytes();
  for (std::size_t c = 0; c < tensor.row_elements(); ++c) {
    std::memcpy(panel + (c * panel_rows + row % panel_rows) * width, source + c * width, width);
  }
}

float float_at(TensorType type, const std::byte* row, std::size_t index) noexcept {
  if (type == TensorType::F16) return half_at(row + index * 2);
  if (type == TensorType::BF16) return bfloat16_to_float(word_at(row + index * 2));
  float value = 0;
  std::memcpy(&value, row + index * sizeof value, sizeof value);
  return value;
}

PanelLayout float_layout(std::size_t columns, std::size_t width) noexcept {
  return {.bytes = round_up(columns * panel_rows * width, 64)};
}

}  // namespace

PanelLayout panel_layout(Format format, std::size_t columns) noexcept {
  if (is_float(format)) return float_layout(columns, format == Format::f32 ? 4 : 2);
  PanelLayout layout{.blocks = columns / block_columns,
                     .scales_per_block = format == Format::q6_k ? 2u : 1u};
  const std::size_t scale_bytes = panel_rows * (has_steps(format) ? 1 : sizeof(std::uint16_t));
  const std::size_t minimums = has_minimums(format) ? layout.blocks * scale_bytes : 0;
  const std::size_t units = has_steps(format) ? layout.blocks / unit_blocks * 2 : 0;
  layout.minimums = round_up(layout.blocks * layout.scales_per_block * scale_bytes, 64);
  layout.units = round_up(layout.minimums + minimums, 64);
  layout.integers = round_up(layout.units + units * panel_rows * sizeof(std::uint16_t), 64);
  const std::size_t bytes = has_nibbles(format) ? columns / 2 : columns;
  layout.bytes = layout.integers + bytes * panel_rows;
  return layout;
}

Matrix describe(const gguf::Tensor& tensor) noexcept {
  const Format format = format_of(tensor.type);
  return {.format = format,
          .rows = tensor.rows(),
          .columns = tensor.row_elements(),
          .layout = panel_layout(format, tensor.row_elements())};
}

void pack(const gguf::Tensor& tensor, const Matrix& matrix, std::size_t first_panel,
          std::size_t last_panel, std::byte* data) noexcept {
  const std::size_t last_row = std::min(last_panel * panel_rows, matrix.rows);
  for (std::size_t row = first_panel * panel_rows; row < last_row; ++row) {
    std::byte* panel = data + row / panel_rows * matrix.layout.bytes;
    if (is_float(matrix.format)) {
      pack_floats(tensor, row, panel);
    } else {
      pack_blocks(tensor, matrix, row, panel);
    }
  }
}

void dequantise_row(const gguf::Tensor& tensor, std::size_t row, float* out) noexcept {
  const std::byte* source = tensor.data + row * tensor.row_bytes();
  const Format format = format_of(tensor.type);
  const std::size_t columns = tensor.row_elements();
  if (is_float(format)) {
    for (std::size_t c = 0; c < columns; ++c) out[c] = float_at(tensor.type, source, c);
    return;
  }
  const float offset = offset_of(format);
  for (std::size_t c = 0; c < columns; c += block_columns) {
    const Block block = read_block(tensor.type, source, c / block_columns);
    for (std::size_t i = 0; i < block_columns; ++i) {
      out[c + i] =
          block.scales[i / 16] * (static_cast<float>(block.quants[i]) - offset) + block.minimum;
    }
  }
}

}  // namespace decoder
