// Matrix products: 16 rows of weights lie side by side, one in each lane, so that a product needs
// no horizontal sum; a token's four activations are broadcast to all lanes.
#include <algorithm>
#include <cstring>

#include "kernels.hpp"
#include "kernels_targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels_matmul.cpp"
#include <hwy/foreach_target.h>  // before the headers that it includes once per target

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace decoder::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::CappedTag<float, panel_rows>;
using DI = hn::RebindToSigned<DF>;
using DU = hn::RebindToUnsigned<DF>;
using VF = hn::Vec<DF>;
using VI = hn::Vec<DI>;

// Tokens of a register tile: their sums must stay in registers.
constexpr std::size_t widest_tile = HWY_MAX_BYTES == 64 ? 8 : 4;

// What a quantised format needs to know at compile time.
template <bool Nibbles, int Offset, std::size_t Scales, bool Minimum, bool Wide, bool Steps>
struct Integers {
  static constexpr bool nibbles = Nibbles;
  static constexpr int offset = Offset;
  static constexpr std::size_t scales = Scales;
  static constexpr bool minimum = Minimum;
  static constexpr bool wide = Wide;  // integers above 127: two products overflow 16 bits
  static constexpr bool steps = Steps;
};
using Q4 = Integers<true, 8, 1, false, false, false>;
using Q4Min = Integers<true, 0, 1, true, false, false>;
using Q4K = Integers<true, 0, 1, true, false, true>;
using Q6K = Integers<false, 32, 2, false, false, true>;
using Q8 = Integers<false, 128, 1, false, true, false>;

// sum + the four products of unsigned bytes w and signed bytes x in each lane.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3_DL
template <class F>
HWY_INLINE VI dot4(VI sum, VI w, VI x) {
  // Highway 1.0 has no such operation, and names no target that would allow the intrinsic.
  asm("vpdpbusd %2, %1, %0" : "+v"(sum.raw) : "v"(w.raw), "v"(x.raw));
  return sum;
}
#elif HWY_ARCH_X86 && HWY_TARGET <= HWY_SSSE3
HWY_INLINE VI pairs_to_lanes(VI pairs, std::int16_t factor) {
  const hn::Repartition<std::int16_t, DI> d16;
  const auto factors = hn::Set(d16, factor);
#if HWY_TARGET <= HWY_AVX3
  return VI{_mm512_madd_epi16(pairs.raw, factors.raw)};
#elif HWY_TARGET <= HWY_AVX2
  return VI{_mm256_madd_epi16(pairs.raw, factors.raw)};
#else
  return VI{_mm_madd_epi16(pairs.raw, factors.raw)};
#endif
}

HWY_INLINE VI multiply_pairs(VI w, VI x) {
#if HWY_TARGET <= HWY_AVX3
  return VI{_mm512_maddubs_epi16(w.raw, x.raw)};
#elif HWY_TARGET <= HWY_AVX2
  return VI{_mm256_maddubs_epi16(w.raw, x.raw)};
#else
  return VI{_mm_maddubs_epi16(w.raw, x.raw)};
#endif
}

template <class F>
HWY_INLINE VI dot4(VI sum, VI w, VI x) {
  if constexpr (!F::wide) {
    return hn::Add(sum, pairs_to_lanes(multiply_pairs(w, x), 1));
  } else {
    // Pairs of products of full bytes overflow 16 bits: low and high halves apart.
    const VI mask = hn::Set(DI(), 0x0F0F0F0F);
    const VI low = multiply_pairs(hn::And(w, mask), x);
    const VI high = multiply_pairs(hn::And(hn::ShiftRight<4>(w), mask), x);
    return hn::Add(sum, hn::Add(pairs_to_lanes(low, 1), pairs_to_lanes(high, 16)));
  }
}
#else
template <int Byte>
HWY_INLINE VI product_of_byte(VI w, VI x) {
  const VI low = hn::And(hn::ShiftRight<8 * Byte>(w), hn::Set(DI(), 255));
  return hn::Mul(low, hn::ShiftRight<24>(hn::ShiftLeft<24 - 8 * Byte>(x)));
}

template <class F>
HWY_INLINE VI dot4(VI sum, VI w, VI x) {
  const VI first = hn::Add(product_of_byte<0>(w, x), product_of_byte<1>(w, x));
  const VI second = hn::Add(product_of_byte<2>(w, x), product_of_byte<3>(w, x));
  return hn::Add(sum, hn::Add(first, second));
}
#endif

HWY_INLINE VF load_halves(const std::uint16_t* from) {
  const hn::Rebind<hwy::float16_t, DF> half;
  return hn::PromoteTo(DF(), hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(from)));
}

// Writes the lanes that are rows of the matrix.
HWY_INLINE void store_rows(VF values, std::size_t rows, float* out) {
  if (rows >= hn::Lanes(DF())) {
    hn::StoreU(values, DF(), out);
    return;
  }
  HWY_ALIGN float buffer[panel_rows];
  hn::Store(values, DF(), buffer);
  std::memcpy(out, buffer, rows * sizeof(float));
}

// The part of a panel that one vector holds, and where its results go.
struct Lanes {
  const std::byte* panel;
  const PanelLayout* layout;
  std::size_t lane;  // first row in the panel
  std::size_t rows;  // rows of the matrix from that one on
};

// Sums of products with the high and with the low bytes of `Tokens` tokens.
template <std::size_t Tokens>
struct Sums {
  VI high[Tokens];
  VI low[Tokens];
};

HWY_INLINE VI broadcast_four(const std::int8_t* bytes) {
  std::int32_t four;
  std::memcpy(&four, bytes, sizeof four);
  return hn::Set(DI(), four);
}

// Adds the products of one group of four columns.
// x: the group's high bytes in the block of the first token.
template <class F, std::size_t Tokens>
HWY_INLINE void dot_group(VI w, const std::int8_t* x, Sums<Tokens>& sums) {
  for (std::size_t t = 0; t < Tokens; ++t) {
    const std::int8_t* high = x + t * token_block_bytes;
    sums.high[t] = dot4<F>(sums.high[t], w, broadcast_four(high));
    sums.low[t] = dot4<F>(sums.low[t], w, broadcast_four(high + block_columns));
  }
}

// Adds the products of the columns of one scale.
// weights, x: the first of these columns in the block.
template <class F, std::size_t Tokens>
HWY_INLINE void dot_columns(const std::byte* weights, const std::int8_t* x, Sums<Tokens>& sums) {
  constexpr std::size_t groups = block_columns / 4 / F::scales / (F::nibbles ? 2 : 1);
  for (std::size_t g = 0; g < groups; ++g) {
    const auto* from = reinterpret_cast<const std::int32_t*>(weights) + g * panel_rows;
    const VI w = hn::LoadU(DI(), from);
    if constexpr (F::nibbles) {
      const VI mask = hn::Set(DI(), 0x0F0F0F0F);
      dot_group<F, Tokens>(hn::And(w, mask), x + g * 4, sums);
      const VI high = hn::And(hn::ShiftRight<4>(w), mask);
      dot_group<F, Tokens>(high, x + g * 4 + block_columns / 2, sums);
    } else {
      dot_group<F, Tokens>(w, x + g * 4, sums);
    }
  }
}

// The scales or minimums at `index` of those that begin at `from`, in the units of kind 0 or 1.
template <class F>
HWY_INLINE VF load_scales(const Lanes& at, const std::byte* from, std::size_t index,
                          std::size_t block, std::size_t kind) {
  if constexpr (F::steps) {
    const hn::Rebind<std::int8_t, DF> bytes;
    const auto* steps = reinterpret_cast<const std::int8_t*>(from) + index * panel_rows + at.lane;
    const auto* units = reinterpret_cast<const std::uint16_t*>(at.panel + at.layout->units);
    const VF unit = load_halves(units + (block / unit_blocks * 2 + kind) * panel_rows + at.lane);
    return hn::Mul(hn::ConvertTo(DF(), hn::PromoteTo(DI(), hn::LoadU(bytes, steps))), unit);
  } else {
    return load_halves(reinterpret_cast<const std::uint16_t*>(from) + index * panel_rows + at.lane);
  }
}

// What a weight is when its integer is 0.
template <class F>
HWY_INLINE VF minimum_of(const Lanes& at, std::size_t block, VF scale) {
  if constexpr (!F::minimum) return hn::Mul(scale, hn::Set(DF(), -float{F::offset}));
  return load_scales<F>(at, at.panel + at.layout->minimums, block, block, 1);
}

// Sum of a token's integers over the columns that share scale `part`.
template <class F>
HWY_INLINE VF sum_of_integers(const Activations& in, std::size_t index, std::size_t part) {
  if constexpr (F::scales == 1) return hn::Set(DF(), in.sums[index]);
  const VF first = hn::Set(DF(), in.first_sums[index]);
  return part == 0 ? first : hn::Sub(hn::Set(DF(), in.sums[index]), first);
}

// Adds one block's products, of the columns that share scale `part`:
// x_scale * (scale * sum of q x + minimum * sum of x) for each token.
// first: index of the block's first token in the activations.
template <class F, std::size_t Tokens>
HWY_INLINE void add_part(const Lanes& at, const Activations& in, std::size_t first,
                         std::size_t block, std::size_t part, VF* totals) {
  constexpr std::size_t columns = block_columns / F::scales;
  constexpr std::size_t block_bytes = panel_rows * block_columns / (F::nibbles ? 2 : 1);
  Sums<Tokens> sums;
  for (std::size_t t = 0; t < Tokens; ++t) sums.high[t] = sums.low[t] = hn::Zero(DI());
  const std::byte* weights = at.panel + at.layout->integers + block * block_bytes + at.lane * 4;
  dot_columns<F, Tokens>(weights + part * columns * panel_rows,
                         in.bytes + first * token_block_bytes + part * columns, sums);
  const VF scale = load_scales<F>(at, at.panel, block * F::scales + part, block, 0);
  const VF minimum = minimum_of<F>(at, block, scale);
  for (std::size_t t = 0; t < Tokens; ++t) {
    const VI sum = hn::Add(hn::ShiftLeft<8>(sums.high[t]), sums.low[t]);
    const VF products = hn::Mul(hn::ConvertTo(DF(), sum), scale);
    const VF all = hn::MulAdd(sum_of_integers<F>(in, first + t, part), minimum, products);
    totals[t] = hn::MulAdd(all, hn::Set(DF(), in.scales[first + t]), totals[t]);
  }
}

template <class F, std::size_t Tokens>
void multiply_integers(const Lanes& at, const Activations& in, std::size_t token, float* out,
                       std::size_t stride) {
  VF totals[Tokens];
  for (VF& total : totals) total = hn::Zero(DF());
  for (std::size_t block = 0; block < at.layout->blocks; ++block) {
    const std::size_t first = block * in.tokens + token;
    for (std::size_t part = 0; part < F::scales; ++part) {
      add_part<F, Tokens>(at, in, first, block, part, totals);
    }
  }
  for (std::size_t t = 0; t < Tokens; ++t) store_rows(totals[t], at.rows, out + t * stride);
}

struct F32 {
  static HWY_INLINE VF load(const std::byte* panel, std::size_t index) {
    return hn::LoadU(DF(), reinterpret_cast<const float*>(panel) + index);
  }
};
struct F16 {
  static HWY_INLINE VF load(const std::byte* panel, std::size_t index) {
    return load_halves(reinterpret_cast<const std::uint16_t*>(panel) + index);
  }
};
struct BF16 {
  static HWY_INLINE VF load(const std::byte* panel, std::size_t index) {
    const hn::Rebind<std::uint16_t, DF> half;
    const auto* from = reinterpret_cast<const std::uint16_t*>(panel) + index;
    const auto wide = hn::PromoteTo(DU(), hn::LoadU(half, from));
    return hn::BitCast(DF(), hn::ShiftLeft<16>(wide));
  }
};

template <class F, std::size_t Tokens>
void multiply_floats(const Lanes& at, const Activations& in, std::size_t token, float* out,
                     std::size_t stride) {
  // Even and odd columns apart: twice as many sums in flight.
  VF totals[2][Tokens];
  for (auto& half : totals) {
    for (VF& total : half) total = hn::Zero(DF());
  }
  const auto add_column = [&](std::size_t c, VF* to) HWY_ATTR {
    const VF w = F::load(at.panel, c * panel_rows + at.lane);
    for (std::size_t t = 0; t < Tokens; ++t) {
      to[t] = hn::MulAdd(w, hn::Set(DF(), in.values[(token + t) * in.columns + c]), to[t]);
    }
  };
  std::size_t c = 0;
  for (; c + 2 <= in.columns; c += 2) {
    add_column(c, totals[0]);
    add_column(c + 1, totals[1]);
  }
  if (c < in.columns) add_column(c, totals[0]);
  for (std::size_t t = 0; t < Tokens; ++t) {
    store_rows(hn::Add(totals[0][t], totals[1][t]), at.rows, out + t * stride);
  }
}

template <class F, std::size_t Tokens>
HWY_INLINE void multiply_tile(const Lanes& at, const Activations& in, std::size_t token, float* out,
                              std::size_t stride) {
  if constexpr (requires { F::offset; }) {
    multiply_integers<F, Tokens>(at, in, token, out, stride);
  } else {
    multiply_floats<F, Tokens>(at, in, token, out, stride);
  }
}

template <class F, std::size_t Tokens>
std::size_t multiply_tiles(const Lanes& at, const Activations& in, std::size_t token, float* out,
                           std::size_t stride) {
  for (; token + Tokens <= in.tokens; token += Tokens) {
    multiply_tile<F, Tokens>(at, in, token, out + token * stride, stride);
  }
  return token;
}

template <class F>
void multiply_lanes(const Lanes& at, const Activations& in, float* out, std::size_t stride) {
  std::size_t token = multiply_tiles<F, widest_tile>(at, in, 0, out, stride);
  if constexpr (widest_tile > 4) token = multiply_tiles<F, 4>(at, in, token, out, stride);
  token = multiply_tiles<F, 2>(at, in, token, out, stride);
  multiply_tiles<F, 1>(at, in, token, out, stride);
}

template <class F>
void multiply_panels(const Matrix& matrix, const Activations& in, std::size_t first_panel,
                     std::size_t last_panel, float* out, std::size_t stride) {
  for (std::size_t panel = first_panel; panel < last_panel; ++panel) {
    for (std::size_t lane = 0; lane < panel_rows; lane += hn::Lanes(DF())) {
      const std::size_t row = panel * panel_rows + lane;
      if (row >= matrix.rows) break;
      const Lanes at{matrix.panel(panel), &matrix.layout, lane, matrix.rows - row};
      multiply_lanes<F>(at, in, out + row, stride);
    }
  }
}

void multiply(const Matrix& matrix, const Activations& in, std::size_t first_panel,
              std::size_t last_panel, float* out, std::size_t stride) {
  const auto run = [&](auto format) {
    multiply_panels<decltype(format)>(matrix, in, first_panel, last_panel, out, stride);
  };
  switch (matrix.format) {
    case Format::f32:
      return run(F32());
    case Format::f16:
      return run(F16());
    case Format::bf16:
      return run(BF16());
    case Format::q4:
      return run(Q4());
    case Format::q4_min:
      return run(Q4Min());
    case Format::q4_k:
      return run(Q4K());
    case Format::q6_k:
      return run(Q6K());
    case Format::q8:
      return run(Q8());
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace decoder::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace decoder::kernels {

HWY_EXPORT(multiply);

void multiply(const Matrix& matrix, const Activations& input, std::size_t first_panel,
              std::size_t last_panel, float* out, std::size_t out_stride) noexcept {
  HWY_DYNAMIC_DISPATCH(multiply)(matrix, input, first_panel, last_panel, out, out_stride);
}

}  // namespace decoder::kernels
#endif
