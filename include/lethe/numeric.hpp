/// Numbers as the library needs them: 16-bit storage, bit tests, order-preserving keys, exact
/// powers.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "lethe/config.hpp"

namespace lethe {

/// A token's place in its sequence, counted from 0; it never changes when slots move.
using Position = std::uint32_t;
/// A physical row of one layer (or head) of the cache.
using Slot = std::uint32_t;

namespace detail {

/// std::bit_cast, which device code may not call.
template <class To, class From>
[[nodiscard]] LETHE_HOST_DEVICE constexpr To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, from);
}

}  // namespace detail

/// IEEE 754 binary16, for storage only.
struct Half {
  std::uint16_t bits = 0;
};

/// The upper half of a binary32, for storage only.
struct BFloat16 {
  std::uint16_t bits = 0;
};

[[nodiscard]] LETHE_HOST_DEVICE LETHE_EXACT inline float to_float(float value) { return value; }

/// The value of a bfloat16; exact.
[[nodiscard]] LETHE_HOST_DEVICE LETHE_EXACT inline float to_float(BFloat16 value) {
  return detail::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

/// The value of a half; exact, subnormals included, also where the processor flushes them to zero.
[[nodiscard]] LETHE_HOST_DEVICE LETHE_EXACT inline float to_float(Half value) {
  LETHE_EXACT_BODY
  const std::uint32_t sign = (value.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = (value.bits & 0x7FFFu) << 13;
  constexpr std::uint32_t rebias = 112u << 23;
  constexpr std::uint32_t smallest = 113u << 23;
  const float subnormal =
      detail::bit_cast<float>(magnitude + smallest) - detail::bit_cast<float>(smallest);
  const std::uint32_t small = 0u - static_cast<std::uint32_t>(magnitude < (0x0400u << 13));
  const std::uint32_t infinite = magnitude >= (0x7C00u << 13) ? rebias : 0u;
  const std::uint32_t normal = magnitude + rebias + infinite;
  // Masks leave no branch to stop vectorisation.
  const std::uint32_t bits =
      (normal & ~small) | (detail::bit_cast<std::uint32_t>(subnormal) & small);
  return detail::bit_cast<float>(bits | sign);
}

/// Whether a float is neither infinite nor NaN, decided on its bits (also under -ffast-math).
[[nodiscard]] LETHE_HOST_DEVICE constexpr bool is_finite(float value) {
  return (detail::bit_cast<std::uint32_t>(value) & 0x7F800000u) != 0x7F800000u;
}

/// The same of a double; a name of its own, so that is_finite can be handed to an algorithm.
[[nodiscard]] LETHE_HOST_DEVICE constexpr bool is_finite_double(double value) {
  constexpr std::uint64_t exponent = 0x7FF0000000000000u;
  return (detail::bit_cast<std::uint64_t>(value) & exponent) != exponent;
}

/// A key whose unsigned order is the order of the floats; -0 and +0 share one key.
[[nodiscard]] LETHE_HOST_DEVICE constexpr std::uint32_t ordered_key(float value) {
  const std::uint32_t bits = detail::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  const std::uint32_t negative = 0u - (bits >> 31);
  return 0x80000000u + ((magnitude ^ negative) - negative);
}

/// exp(x), relative error below 3e-7, zero below -87, the same bits under every optimisation flag.
/// A NaN stays a NaN.
[[nodiscard]] LETHE_HOST_DEVICE LETHE_EXACT inline float exact_exp(float x) {
  LETHE_EXACT_BODY
  const std::uint32_t x_bits = detail::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = x_bits & 0x80000000u;
  const auto magnitude = static_cast<std::int32_t>(x_bits ^ sign);
  // The bits of 88, or of 87 below zero. Integers and masks leave no branch to stop vectorisation.
  const std::int32_t limit = 0x42B00000 - static_cast<std::int32_t>(sign >> 14);
  const std::int32_t bounded_bits = magnitude < limit ? magnitude : limit;
  const float bounded = detail::bit_cast<float>(static_cast<std::uint32_t>(bounded_bits) | sign);
  const float half = detail::bit_cast<float>(0x3F000000u | sign);
  const auto n = static_cast<std::int32_t>(LETHE_PRODUCT(bounded, 1.44269504088896341f) + half);
  const float whole = static_cast<float>(n);
  const float r =
      (bounded - LETHE_PRODUCT(whole, 0.693359375f)) + LETHE_PRODUCT(whole, 2.12194440e-4f);
  float p = 1.9875691500e-4f;
  p = LETHE_PRODUCT(p, r) + 1.3981999507e-3f;
  p = LETHE_PRODUCT(p, r) + 8.3334519073e-3f;
  p = LETHE_PRODUCT(p, r) + 4.1665795894e-2f;
  p = LETHE_PRODUCT(p, r) + 1.6666665459e-1f;
  p = LETHE_PRODUCT(p, r) + 5.0000001201e-1f;
  const float value = (LETHE_PRODUCT(p, r * r) + r) + 1.0f;
  const float power = detail::bit_cast<float>(static_cast<std::uint32_t>(n + 127) << 23);
  const std::uint32_t result = detail::bit_cast<std::uint32_t>(value * power);
  const std::uint32_t beyond = 0u - static_cast<std::uint32_t>(magnitude > limit);
  const std::uint32_t nan = 0u - static_cast<std::uint32_t>(magnitude > 0x7F800000);
  const std::uint32_t zero = (beyond & (0u - (sign >> 31))) | nan;
  return detail::bit_cast<float>((result & ~zero) | (x_bits & nan));
}

namespace detail {

/// mantissa x 2^exponent with mantissa in [0.5, 1): a positive number that cannot overflow.
struct ScaledNumber {
  double mantissa = 0.5;
  std::int64_t exponent = 1;
};

[[nodiscard]] inline ScaledNumber normalised(double mantissa, std::int64_t exponent) {
  int shift = 0;
  const double m = std::frexp(mantissa, &shift);
  return {m, exponent + shift};
}

[[nodiscard]] inline ScaledNumber product(ScaledNumber a, ScaledNumber b) {
  return normalised(a.mantissa * b.mantissa, a.exponent + b.exponent);
}

/// base^power by repeated squaring; power >= 0; O(log power).
[[nodiscard]] inline ScaledNumber power(ScaledNumber base, std::uint64_t exponent) {
  ScaledNumber result;
  for (; exponent != 0; exponent >>= 1) {
    if ((exponent & 1) != 0) result = product(result, base);
    base = product(base, base);
  }
  return result;
}

/// row[i] += value[i] x weight.
LETHE_EXACT inline void add_scaled(float* LETHE_RESTRICT row, const float* LETHE_RESTRICT value,
                                   std::size_t count, float weight) {
  LETHE_EXACT_BODY
  LETHE_LOOP_UNROLLED
  for (std::size_t i = 0; i < count; ++i) row[i] = row[i] + LETHE_PRODUCT(value[i], weight);
}

/// row[i] += value[i].
LETHE_EXACT inline void add(float* LETHE_RESTRICT row, const float* LETHE_RESTRICT value,
                            std::size_t count) {
  LETHE_EXACT_BODY
  LETHE_LOOP_UNROLLED
  for (std::size_t i = 0; i < count; ++i) row[i] = row[i] + value[i];
}

/// Rows to columns, so that one channel of up to Tile rows lies side by side.
template <std::size_t Tile>
LETHE_EXACT inline void transpose(const float* LETHE_RESTRICT rows, std::size_t count,
                                  std::size_t width, float* LETHE_RESTRICT columns) {
  for (std::size_t r = 0; r < count; ++r) {
    for (std::size_t c = 0; c < width; ++c) columns[c * Tile + r] = rows[r * width + c];
  }
}

/// row[i] *= factor.
LETHE_EXACT inline void scale(std::span<float> row, float factor) {
  LETHE_EXACT_BODY
  for (float& value : row) value = value * factor;
}

/// splitmix64's finaliser: a well-mixed 64-bit word from any word.
[[nodiscard]] LETHE_HOST_DEVICE constexpr std::uint64_t mix(std::uint64_t word) {
  word += 0x9E3779B97F4A7C15u;
  word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9u;
  word = (word ^ (word >> 27)) * 0x94D049BB133111EBu;
  return word ^ (word >> 31);
}

}  // namespace detail
}  // namespace lethe
