/// The sine and the cosine of an angle, with the same bits on every compiler.
#pragma once

#include <bit>
#include <cstdint>

#include "lethe/numeric.hpp"

namespace lethe {

/// What a turn makes of the first axis.
struct Turn {
  float cosine = 1.0f;
  float sine = 0.0f;
};

/// The cosine and sine of 2 pi turns, absolute error below 2e-7, the same bits under every
/// optimisation flag. turns: below 2^31 either way; beyond the result means nothing.
[[nodiscard]] LETHE_EXACT inline Turn exact_turn(double turns) {
  LETHE_EXACT_BODY
  const auto whole = static_cast<std::int32_t>(turns + (turns < 0.0 ? -0.5 : 0.5));
  const auto quarters = static_cast<float>(4.0 * (turns - static_cast<double>(whole)));
  const auto n = static_cast<std::int32_t>(quarters + (quarters < 0.0f ? -0.5f : 0.5f));
  // What is left of a quarter, half of one at most: Taylor's series, in s^2.
  const float s = quarters - static_cast<float>(n);
  const float z = s * s;
  float p = 1.6044118e-4f;
  p = LETHE_PRODUCT(p, z) - 4.6817541e-3f;
  p = LETHE_PRODUCT(p, z) + 7.9692626e-2f;
  p = LETHE_PRODUCT(p, z) - 6.4596410e-1f;
  p = LETHE_PRODUCT(p, z) + 1.5707963f;
  float q = 9.1926027e-4f;
  q = LETHE_PRODUCT(q, z) - 2.0863481e-2f;
  q = LETHE_PRODUCT(q, z) + 2.5366951e-1f;
  q = LETHE_PRODUCT(q, z) - 1.2337006f;
  const std::uint32_t sine = std::bit_cast<std::uint32_t>(p * s);
  const std::uint32_t cosine = std::bit_cast<std::uint32_t>(LETHE_PRODUCT(q, z) + 1.0f);
  // Each whole quarter swaps the two and turns one round. Masks leave no branch.
  const auto quarter = static_cast<std::uint32_t>(n);
  const std::uint32_t swapped = 0u - (quarter & 1u);
  const std::uint32_t first = (sine & swapped) | (cosine & ~swapped);
  const std::uint32_t second = (cosine & swapped) | (sine & ~swapped);
  return {.cosine = std::bit_cast<float>(first ^ (((quarter + 1u) & 2u) << 30)),
          .sine = std::bit_cast<float>(second ^ ((quarter & 2u) << 30))};
}

}  // namespace lethe
