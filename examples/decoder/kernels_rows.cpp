// Everything that runs along one row of activations, or along one row of the cache.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "half.hpp"
#include "kernels.hpp"
#include "kernels_targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels_rows.cpp"
#include <hwy/foreach_target.h>  // before the headers that it includes once per target

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace decoder::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::CappedTag<float, 16>;
using DI = hn::RebindToSigned<DF>;
using VF = hn::Vec<DF>;

void round_to_bytes(const float* values, std::size_t count, float inverse, std::byte* row) {
  const hn::Rebind<std::int8_t, DF> to;
  auto* bytes = reinterpret_cast<std::int8_t*>(row);
  for (std::size_t i = 0; i < count; i += hn::Lanes(DF())) {
    const VF scaled = hn::Mul(hn::LoadU(DF(), values + i), hn::Set(DF(), inverse));
    hn::StoreU(hn::DemoteTo(to, hn::NearestInt(scaled)), to, bytes + i);
  }
}

float largest_magnitude(const float* values, std::size_t count) {
  VF largest = hn::Zero(DF());
  for (std::size_t i = 0; i < count; i += hn::Lanes(DF())) {
    largest = hn::Max(largest, hn::Abs(hn::LoadU(DF(), values + i)));
  }
  return hn::GetLane(hn::MaxOfLanes(DF(), largest));
}

// Rounds 16 values to integers, splits these into bytes, and returns their sum.
float round_to_words(const float* values, float inverse, std::int8_t* bytes) {
  const hn::Rebind<std::int8_t, DF> to;
  auto sum = hn::Zero(DI());
  for (std::size_t i = 0; i < 16; i += hn::Lanes(DF())) {
    const VF scaled = hn::Mul(hn::LoadU(DF(), values + i), hn::Set(DF(), inverse));
    const auto rounded = hn::NearestInt(scaled);
    const auto high = hn::ShiftRight<8>(hn::Add(rounded, hn::Set(DI(), 128)));
    const auto low = hn::Sub(rounded, hn::ShiftLeft<8>(high));
    sum = hn::Add(sum, rounded);
    hn::StoreU(hn::DemoteTo(to, high), to, bytes + i);
    hn::StoreU(hn::DemoteTo(to, low), to, bytes + block_columns + i);
  }
  return static_cast<float>(hn::GetLane(hn::SumOfLanes(DI(), sum)));
}

void quantise(const float* values, std::size_t columns, const QuantisedRow& out) {
  constexpr float most = 127 * 256;
  for (std::size_t block = 0; block < columns / block_columns; ++block) {
    const float* in = values + block * block_columns;
    std::int8_t* bytes = out.bytes + block * out.tokens * token_block_bytes;
    const float largest = largest_magnitude(in, block_columns);
    const float inverse = largest > 0 ? most / largest : 0.0f;
    const float first = round_to_words(in, inverse, bytes);
    out.scales[block * out.tokens] = largest / most;
    out.sums[block * out.tokens] = first + round_to_words(in + 16, inverse, bytes + 16);
    out.first_sums[block * out.tokens] = first;
  }
}

// Lanes past `count` read as zero.
HWY_INLINE VF load_some(const float* from, std::size_t count) {
  if (count >= hn::Lanes(DF())) return hn::LoadU(DF(), from);
  HWY_ALIGN float buffer[16] = {};
  std::memcpy(buffer, from, count * sizeof(float));
  return hn::Load(DF(), buffer);
}

HWY_INLINE void store_some(VF values, float* to, std::size_t count) {
  if (count >= hn::Lanes(DF())) return hn::StoreU(values, DF(), to);
  HWY_ALIGN float buffer[16];
  hn::Store(values, DF(), buffer);
  std::memcpy(to, buffer, count * sizeof(float));
}

// Calls body(index, elements left) once per vector.
template <class Body>
HWY_INLINE void for_vectors(std::size_t count, const Body& body) {
  for (std::size_t i = 0; i < count; i += hn::Lanes(DF())) body(i, count - i);
}

void rms_norm(const float* in, const float* weight, std::size_t count, float epsilon, float* out) {
  VF squares = hn::Zero(DF());
  for_vectors(count, [&](std::size_t i, std::size_t left) HWY_ATTR {
    const VF x = load_some(in + i, left);
    squares = hn::MulAdd(x, x, squares);
  });
  const float mean = hn::GetLane(hn::SumOfLanes(DF(), squares)) / static_cast<float>(count);
  const VF factor = hn::Set(DF(), 1.0f / std::sqrt(mean + epsilon));
  for_vectors(count, [&](std::size_t i, std::size_t left) HWY_ATTR {
    const VF x = hn::Mul(load_some(in + i, left), factor);
    store_some(hn::Mul(x, load_some(weight + i, left)), out + i, left);
  });
}

void silu_multiply(float* gate, const float* up, std::size_t count) {
  const VF one = hn::Set(DF(), 1.0f);
  for_vectors(count, [&](std::size_t i, std::size_t left) HWY_ATTR {
    const VF x = load_some(gate + i, left);
    const VF sigmoid = hn::Div(one, hn::Add(one, hn::Exp(DF(), hn::Neg(x))));
    store_some(hn::Mul(hn::Mul(x, sigmoid), load_some(up + i, left)), gate + i, left);
  });
}

void add_scaled(float* to, const float* from, std::size_t count, float factor) {
  for_vectors(count, [&](std::size_t i, std::size_t left) HWY_ATTR {
    const VF sum =
        hn::MulAdd(load_some(from + i, left), hn::Set(DF(), factor), load_some(to + i, left));
    store_some(sum, to + i, left);
  });
}

void scale(float* values, std::size_t count, float factor) {
  for_vectors(count, [&](std::size_t i, std::size_t left) HWY_ATTR {
    store_some(hn::Mul(load_some(values + i, left), hn::Set(DF(), factor)), values + i, left);
  });
}

#if HWY_ARCH_X86 && HWY_TARGET > HWY_AVX2
// Without an instruction for it, Highway 1.0 truncates.
void store_halves(const float* values, std::size_t count, std::byte* row) {
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint16_t half = float_to_half(values[i]);
    std::memcpy(row + i * sizeof half, &half, sizeof half);
  }
}
#else
void store_halves(const float* values, std::size_t count, std::byte* row) {
  const hn::Rebind<hwy::float16_t, DF> half;
  auto* out = reinterpret_cast<hwy::float16_t*>(row);
  for (std::size_t i = 0; i < count; i += hn::Lanes(DF())) {
    hn::StoreU(hn::DemoteTo(half, hn::LoadU(DF(), values + i)), half, out + i);
  }
}
#endif

// All bytes first, then the scales: bytes stay aligned for vectors.
void store_bytes(const float* values, std::size_t count, std::byte* row) {
  for (std::size_t i = 0; i < count; i += block_columns) {
    const float largest = largest_magnitude(values + i, block_columns);
    const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
    round_to_bytes(values + i, block_columns, inverse, row + i);
    const std::uint16_t scale_bits = float_to_half(largest / 127.0f);
    std::memcpy(row + count + i / block_columns * 2, &scale_bits, 2);
  }
}

void store_row(CacheType type, const float* values, std::size_t count, std::byte* row) {
  switch (type) {
    case CacheType::f32:
      std::memcpy(row, values, count * sizeof(float));
      return;
    case CacheType::f16:
      return store_halves(values, count, row);
    case CacheType::q8_0:
      return store_bytes(values, count, row);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace decoder::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace decoder::kernels {

HWY_EXPORT(quantise);
HWY_EXPORT(rms_norm);
HWY_EXPORT(silu_multiply);
HWY_EXPORT(add_scaled);
HWY_EXPORT(scale);
HWY_EXPORT(store_row);

void quantise(const float* values, std::size_t columns, const QuantisedRow& out) noexcept {
  HWY_DYNAMIC_DISPATCH(quantise)(values, columns, out);
}

void rms_norm(const float* in, const float* weight, std::size_t count, float epsilon,
              float* out) noexcept {
  HWY_DYNAMIC_DISPATCH(rms_norm)(in, weight, count, epsilon, out);
}

void silu_multiply(float* gate, const float* up, std::size_t count) noexcept {
  HWY_DYNAMIC_DISPATCH(silu_multiply)(gate, up, count);
}

void add_scaled(float* to, const float* from, std::size_t count, float factor) noexcept {
  HWY_DYNAMIC_DISPATCH(add_scaled)(to, from, count, factor);
}

void scale(float* values, std::size_t count, float factor) noexcept {
  HWY_DYNAMIC_DISPATCH(scale)(values, count, factor);
}

void store_row(CacheType type, const float* values, std::size_t count, std::byte* row) noexcept {
  HWY_DYNAMIC_DISPATCH(store_row)(type, values, count, row);
}

const char* instruction_set() noexcept {
  const std::int64_t chosen = hwy::SupportedTargets() & HWY_TARGETS;
  return hwy::TargetName(chosen & -chosen);
}

}  // namespace decoder::kernels
#endif
