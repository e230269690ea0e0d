/// The natural logarithm, with the same bits on every compiler.
#pragma once

#include <bit>
#include <cstdint>

#include "lethe/numeric.hpp"

namespace lethe {

/// log(x), relative error below 3e-7, the same bits under every optimisation flag. x: a positive
/// normal number, not infinite; of others the result means nothing.
[[nodiscard]] LETHE_EXACT inline float exact_log(float x) {
  LETHE_EXACT_BODY
  // x = m x 2^e with m in [sqrt(1/2), sqrt(2)): counted from the bits of sqrt(1/2), the exponent
  // field is e.
  constexpr std::uint32_t lowest = 0x3F3504F3u;
  const std::uint32_t above = std::bit_cast<std::uint32_t>(x) - lowest;
  const float e = static_cast<float>(static_cast<std::int32_t>(above) >> 23);
  const float f = std::bit_cast<float>((above & 0x7FFFFFu) + lowest) - 1.0f;
  // log(m) = 2 artanh(s). In double, since -ffast-math estimates quotients of floats.
  const auto s = static_cast<float>(static_cast<double>(f) / (2.0 + static_cast<double>(f)));
  const float z = s * s;
  float p = 1.0f / 9;
  p = LETHE_PRODUCT(p, z) + 1.0f / 7;
  p = LETHE_PRODUCT(p, z) + 1.0f / 5;
  p = LETHE_PRODUCT(p, z) + 1.0f / 3;
  const float twice = 2.0f * s;
  const float log_m = twice + LETHE_PRODUCT(twice, p * z);
  // log(2) in two parts, the first of so few digits that its product is exact.
  return LETHE_PRODUCT(e, 0.693359375f) + (log_m - LETHE_PRODUCT(e, 2.12194440e-4f));
}

}  // namespace lethe
