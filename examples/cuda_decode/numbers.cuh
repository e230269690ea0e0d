/// Numbers of two bytes in memory, floats in registers.
#pragma once

#include <cstdint>
#include <cstring>

#include "lethe/gpu/block.cuh"
#include "lethe/numeric.hpp"

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#else
#include "half.hpp"
#endif

namespace cuda_decode {

using lethe::BFloat16;
using lethe::Half;

/// How weights and the rows that they multiply, and keys and values, are stored.
struct Exact {
  using Weight = float;
  using Cached = Half;
};
struct Fast {
  using Weight = BFloat16;
  using Cached = BFloat16;
};

[[nodiscard]] LETHE_BLOCK_CODE inline float widened(float value) { return value; }
[[nodiscard]] LETHE_BLOCK_CODE inline float widened(BFloat16 value) {
  return lethe::to_float(value);
}
[[nodiscard]] LETHE_BLOCK_CODE inline float widened(Half value) {
#if defined(__CUDACC__)
  return __half2float(__ushort_as_half(value.bits));
#else
  return lethe::to_float(value);
#endif
}

/// To the nearest, ties to even; weights are also rounded on the host.
LETHE_HOST_DEVICE inline void narrow(float value, float& out) { out = value; }
LETHE_HOST_DEVICE inline void narrow(float value, BFloat16& out) {
  const auto bits = lethe::detail::bit_cast<std::uint32_t>(value);
  const bool is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  const std::uint32_t rounded = bits + 0x7FFFu + ((bits >> 16) & 1u);
  out.bits = static_cast<std::uint16_t>(is_nan ? 0x7FC0u : rounded >> 16);
}
LETHE_BLOCK_CODE inline void narrow(float value, Half& out) {
#if defined(__CUDACC__)
  out.bits = __half_as_ushort(__float2half_rn(value));
#else
  out.bits = decoder::float_to_half(value);
#endif
}

/// Eight numbers of two bytes: what a lane loads at once.
struct alignas(16) Octet {
  std::uint32_t words[4];
};
inline constexpr std::uint32_t octet_channels = 8;

/// from: aligned to 16 bytes.
[[nodiscard]] LETHE_BLOCK_CODE inline Octet load_octet(const void* from) {
#if defined(__CUDACC__)
  return *static_cast<const Octet*>(from);
#else
  LETHE_ASSERT(reinterpret_cast<std::uintptr_t>(from) % sizeof(Octet) == 0);
  Octet octet;
  std::memcpy(&octet, from, sizeof octet);
  return octet;
#endif
}

/// Number `channel` of eight.
template <class Element>
[[nodiscard]] LETHE_BLOCK_CODE float channel_of(const Octet& octet, std::uint32_t channel) {
  static_assert(sizeof(Element) == 2);
  const std::uint32_t word = octet.words[channel / 2];
  return widened(Element{static_cast<std::uint16_t>(channel % 2 == 0 ? word : word >> 16)});
}

}  // namespace cuda_decode
