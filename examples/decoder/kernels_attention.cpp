// Attention from a few queries to a chunk of the cache: stored rows become floats, a few at a time,
// and every query uses them while they are in registers or the first cache.
#include <algorithm>
#include <cstring>
#include <limits>

#include "half.hpp"
#include "kernels.hpp"
#include "kernels_targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels_attention.cpp"
#include <hwy/foreach_target.h>  // before the headers that it includes once per target

#include <hwy/cache_control.h>
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace decoder::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::CappedTag<float, 16>;
using VF = hn::Vec<DF>;

constexpr std::size_t key_tile = 4;     // dot products that are summed across lanes together
constexpr std::size_t value_tile = 16;  // rows whose sums stay in registers
constexpr std::size_t ahead = 1024;     // bytes to fetch ahead: a few rows of every type

// AVX-512 has twice the registers for sums.
constexpr std::size_t most_dot_rows = HWY_MAX_BYTES == 64 ? 4 : 2;
constexpr std::size_t most_vectors = HWY_MAX_BYTES == 64 ? 4 : 2;

template <CacheType Type>
HWY_INLINE VF load_channels(const std::byte* row, std::size_t channels, std::size_t i) {
  if constexpr (Type == CacheType::f32) {
    return hn::LoadU(DF(), reinterpret_cast<const float*>(row) + i);
  } else if constexpr (Type == CacheType::f16) {
    const hn::Rebind<hwy::float16_t, DF> half;
    return hn::PromoteTo(DF(), hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(row) + i));
  } else {
    const hn::Rebind<std::int8_t, DF> bytes;
    const hn::RebindToSigned<DF> wide;
    std::uint16_t scale_bits;
    std::memcpy(&scale_bits, row + channels + i / block_columns * 2, sizeof scale_bits);
    const auto quants = hn::LoadU(bytes, reinterpret_cast<const std::int8_t*>(row) + i);
    const VF values = hn::ConvertTo(DF(), hn::PromoteTo(wide, quants));
    return hn::Mul(values, hn::Set(DF(), half_to_float(scale_bits)));
  }
}

// Where the rows of a tile begin: a block holds whole tiles.
HWY_INLINE const std::byte* tile_at(const AttentionChunk& chunk, const std::byte* strip,
                                    std::size_t offset, std::size_t first) {
  if (chunk.blocks.empty()) return strip + first * chunk.row_bytes;
  return chunk.blocks[first / chunk.block_rows] + offset +
         first % chunk.block_rows * chunk.row_bytes;
}

// Widens `rows` stored rows.
template <CacheType Type>
HWY_INLINE void load_tile(const AttentionChunk& chunk, const std::byte* data, std::size_t rows,
                          float* tile) {
  for (std::size_t r = 0; r < rows; ++r) {
    const std::byte* row = data + r * chunk.row_bytes;
    hwy::Prefetch(row + ahead);
    hwy::Prefetch(row + ahead + 64);
    for (std::size_t i = 0; i < chunk.channels; i += hn::Lanes(DF())) {
      const VF values = load_channels<Type>(row, chunk.channels, i);
      hn::Store(values, DF(), tile + r * chunk.channels + i);
    }
  }
}

// Four vectors in, their four sums out.
#if HWY_TARGET == HWY_SCALAR
HWY_INLINE void store_four_sums(const VF* v, float* out) {
  for (std::size_t k = 0; k < key_tile; ++k) out[k] = hn::GetLane(v[k]);
}
#else
// Sums the 128-bit blocks of a vector, which hold one partial sum of each of four numbers.
HWY_INLINE void store_block_sum(VF v, float* out) {
  const hn::CappedTag<float, 4> quarter;
#if HWY_MAX_BYTES == 64
  const hn::CappedTag<float, 8> half;
  const auto folded = hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v));
  hn::StoreU(hn::Add(hn::LowerHalf(quarter, folded), hn::UpperHalf(quarter, folded)), quarter, out);
#elif HWY_MAX_BYTES == 32
  hn::StoreU(hn::Add(hn::LowerHalf(quarter, v), hn::UpperHalf(quarter, v)), quarter, out);
#else
  hn::StoreU(v, quarter, out);
#endif
}

HWY_INLINE VF add_pairs(VF a, VF b) {
  return hn::Add(hn::InterleaveLower(DF(), a, b), hn::InterleaveUpper(DF(), a, b));
}

HWY_INLINE void store_four_sums(const VF* v, float* out) {
  const hn::Repartition<std::uint64_t, DF> d64;
  const auto ab = hn::BitCast(d64, add_pairs(v[0], v[1]));
  const auto cd = hn::BitCast(d64, add_pairs(v[2], v[3]));
  const VF low = hn::BitCast(DF(), hn::InterleaveLower(d64, ab, cd));
  const VF high = hn::BitCast(DF(), hn::InterleaveUpper(d64, ab, cd));
  store_block_sum(hn::Add(low, high), out);
}
#endif

template <std::size_t Rows>
HWY_INLINE void dot_tile(const float* keys, std::size_t channels, AttentionRow* rows,
                         std::size_t column) {
  VF sums[Rows][key_tile];
  for (auto& row : sums) {
    for (VF& sum : row) sum = hn::Zero(DF());
  }
  for (std::size_t i = 0; i < channels; i += hn::Lanes(DF())) {
    for (std::size_t r = 0; r < Rows; ++r) {
      const VF query = hn::LoadU(DF(), rows[r].query + i);
      for (std::size_t k = 0; k < key_tile; ++k) {
        sums[r][k] = hn::MulAdd(query, hn::Load(DF(), keys + k * channels + i), sums[r][k]);
      }
    }
  }
  for (std::size_t r = 0; r < Rows; ++r) store_four_sums(sums[r], rows[r].probabilities + column);
}

template <std::size_t Rows>
HWY_INLINE void dot_rows(const float* keys, std::size_t channels, std::span<AttentionRow> rows,
                         std::size_t column) {
  for (; rows.size() >= Rows; rows = rows.subspan(Rows)) {
    dot_tile<Rows>(keys, channels, rows.data(), column);
  }
  if constexpr (Rows > 1) dot_rows<Rows - 1>(keys, channels, rows, column);
}

template <CacheType Type>
void score(const AttentionChunk& chunk, std::span<AttentionRow> rows) {
  HWY_ALIGN float tile[key_tile * max_head_dim] = {};
  for (std::size_t column = 0; column < chunk.columns; column += key_tile) {
    const std::size_t count = std::min(key_tile, chunk.columns - column);
    const std::byte* keys = tile_at(chunk, chunk.keys, chunk.keys_offset, column);
    load_tile<Type>(chunk, keys, count, tile);
    dot_rows<most_dot_rows>(tile, chunk.channels, rows, column);
  }
}

// Turns logits into exp(logit - maximum), and what may not be seen into zeros.
void exponentiate(std::size_t columns, AttentionRow& row) {
  constexpr float lowest = -std::numeric_limits<float>::infinity();
  const std::size_t end = (columns + 15) / 16 * 16;
  std::fill(row.probabilities + row.visible, row.probabilities + end, lowest);
  row.maximum = lowest;
  row.sum = 0;
  if (row.visible == 0) {
    std::fill_n(row.probabilities, end, 0.0f);
    return;
  }
  VF largest = hn::Set(DF(), lowest);
  for (std::size_t i = 0; i < end; i += hn::Lanes(DF())) {
    largest = hn::Max(largest, hn::LoadU(DF(), row.probabilities + i));
  }
  const VF maximum = hn::MaxOfLanes(DF(), largest);
  VF sum = hn::Zero(DF());
  for (std::size_t i = 0; i < end; i += hn::Lanes(DF())) {
    const VF logit = hn::LoadU(DF(), row.probabilities + i);
    const VF exponential = hn::Exp(DF(), hn::Sub(logit, maximum));
    sum = hn::Add(sum, exponential);
    hn::StoreU(exponential, DF(), row.probabilities + i);
  }
  row.maximum = hn::GetLane(maximum);
  row.sum = hn::GetLane(hn::SumOfLanes(DF(), sum));
}

// Adds a tile of values to `Vectors` vectors of the outputs of `Rows` rows.
template <std::size_t Rows, std::size_t Vectors>
HWY_INLINE void weigh_tile(const float* values, std::size_t count, std::size_t channels,
                           AttentionRow* rows, std::size_t column, std::size_t first) {
  const std::size_t lanes = hn::Lanes(DF());
  VF sums[Rows][Vectors];
  for (std::size_t r = 0; r < Rows; ++r) {
    for (std::size_t v = 0; v < Vectors; ++v) {
      sums[r][v] = hn::LoadU(DF(), rows[r].output + first + v * lanes);
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    const float* value = values + i * channels + first;
    for (std::size_t r = 0; r < Rows; ++r) {
      const VF weight = hn::Set(DF(), rows[r].probabilities[column + i]);
      for (std::size_t v = 0; v < Vectors; ++v) {
        sums[r][v] = hn::MulAdd(weight, hn::Load(DF(), value + v * lanes), sums[r][v]);
      }
    }
  }
  for (std::size_t r = 0; r < Rows; ++r) {
    for (std::size_t v = 0; v < Vectors; ++v) {
      hn::StoreU(sums[r][v], DF(), rows[r].output + first + v * lanes);
    }
  }
}

template <std::size_t Rows>
HWY_INLINE void weigh_channels(const float* values, std::size_t count, std::size_t channels,
                               AttentionRow* rows, std::size_t column) {
  const std::size_t step = most_vectors * hn::Lanes(DF());
  std::size_t first = 0;
  for (; first + step <= channels; first += step) {
    weigh_tile<Rows, most_vectors>(values, count, channels, rows, column, first);
  }
  // 32 channels, which divide every row, are at least two vectors.
  for (; first < channels; first += 2 * hn::Lanes(DF())) {
    weigh_tile<Rows, 2>(values, count, channels, rows, column, first);
  }
}

template <std::size_t Rows>
HWY_INLINE void weigh_rows(const float* values, std::size_t count, std::size_t channels,
                           std::span<AttentionRow> rows, std::size_t column) {
  for (; rows.size() >= Rows; rows = rows.subspan(Rows)) {
    weigh_channels<Rows>(values, count, channels, rows.data(), column);
  }
  if constexpr (Rows > 1) weigh_rows<Rows - 1>(values, count, channels, rows, column);
}

template <CacheType Type>
void weigh(const AttentionChunk& chunk, std::span<AttentionRow> rows) {
  HWY_ALIGN float tile[value_tile * max_head_dim];
  for (AttentionRow& row : rows) std::fill_n(row.output, chunk.channels, 0.0f);
  for (std::size_t column = 0; column < chunk.columns; column += value_tile) {
    const std::size_t count = std::min(value_tile, chunk.columns - column);
    const std::byte* values = tile_at(chunk, chunk.values, chunk.values_offset, column);
    load_tile<Type>(chunk, values, count, tile);
    weigh_rows<4>(tile, count, chunk.channels, rows, column);
  }
}

template <CacheType Type>
void attend_typed(const AttentionChunk& chunk, std::span<AttentionRow> rows) {
  score<Type>(chunk, rows);
  for (AttentionRow& row : rows) exponentiate(chunk.columns, row);
  weigh<Type>(chunk, rows);
}

void attend(const AttentionChunk& chunk, std::span<AttentionRow> rows) {
  switch (chunk.type) {
    case CacheType::f32:
      return attend_typed<CacheType::f32>(chunk, rows);
    case CacheType::f16:
      return attend_typed<CacheType::f16>(chunk, rows);
    case CacheType::q8_0:
      return attend_typed<CacheType::q8_0>(chunk, rows);
  }
}

template <CacheType Type>
void load_typed(const std::byte* row, std::size_t channels, std::span<float> out) {
  constexpr std::size_t lanes = hn::MaxLanes(DF());
  const std::size_t whole = out.size() / hn::Lanes(DF()) * hn::Lanes(DF());
  for (std::size_t i = 0; i < whole; i += hn::Lanes(DF())) {
    hn::StoreU(load_channels<Type>(row, channels, i), DF(), out.data() + i);
  }
  if (whole == out.size()) return;
  HWY_ALIGN float rest[lanes];
  hn::Store(load_channels<Type>(row, channels, whole), DF(), rest);
  std::copy_n(rest, out.size() - whole, out.data() + whole);
}

void load_row(CacheType type, const std::byte* row, std::size_t channels, std::span<float> out) {
  switch (type) {
    case CacheType::f32:
      return load_typed<CacheType::f32>(row, channels, out);
    case CacheType::f16:
      return load_typed<CacheType::f16>(row, channels, out);
    case CacheType::q8_0:
      return load_typed<CacheType::q8_0>(row, channels, out);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace decoder::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace decoder::kernels {

HWY_EXPORT(attend);
HWY_EXPORT(load_row);

void attend(const AttentionChunk& chunk, std::span<AttentionRow> rows) noexcept {
  HWY_DYNAMIC_DISPATCH(attend)(chunk, rows);
}

void load_row(CacheType type, const std::byte* row, std::size_t channels,
              std::span<float> out) noexcept {
  HWY_DYNAMIC_DISPATCH(load_row)(type, row, channels, out);
}

}  // namespace decoder::kernels
#endif
