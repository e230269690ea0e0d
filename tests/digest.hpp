/// What the programs share whose output must be equal on every compiler: a digest of all that is
/// folded into it, and floats put together from bits, so that no arithmetic of their own is in
/// them.
#pragma once

#include <bit>
#include <cstdint>

#include "lethe/numeric.hpp"

inline constexpr std::uint64_t empty_digest = 0xCBF29CE484222325u;
inline std::uint64_t digest = empty_digest;

inline void fold(std::uint64_t word) {
  digest = (digest ^ word) * 0x100000001B3u;
  digest ^= digest >> 29;
}

/// Pseudo-random floats.
class Source {
 public:
  explicit Source(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() { return lethe::detail::mix(state_++); }

  /// Mostly between 2^-40 and 1; zeros, denormals and ties among them.
  float probability() {
    const std::uint64_t word = next();
    const std::uint32_t mantissa = static_cast<std::uint32_t>(word) & 0x7FFFFFu;
    if (word >> 60 == 0) return 0.0f;
    if (word >> 60 == 1) return std::bit_cast<float>(mantissa);
    if (word >> 60 == 2) return 0.0078125f;
    const auto exponent = static_cast<std::uint32_t>(127 - 1 - (word >> 32) % 40);
    return std::bit_cast<float>(exponent << 23 | mantissa);
  }

  /// Between -16 and 16, at least 1 in size.
  float logit() { return from_exponent(127); }
  /// Between -1 and 1, at least 1/16 in size.
  float channel() { return from_exponent(127 - 4); }

 private:
  /// Of either sign and one of four exponents.
  float from_exponent(std::uint64_t least) {
    const std::uint64_t word = next();
    const std::uint32_t mantissa = static_cast<std::uint32_t>(word) & 0x7FFFFFu;
    const auto exponent = static_cast<std::uint32_t>(least + (word >> 32) % 4);
    return std::bit_cast<float>(static_cast<std::uint32_t>(word >> 40 & 1) << 31 | exponent << 23 |
                                mantissa);
  }

  std::uint64_t state_;
};
