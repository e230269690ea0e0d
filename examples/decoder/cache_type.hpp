/// How a KV cache stores a number.
#pragma once

#include <cstddef>
#include <string_view>

namespace decoder {

/// Storage of keys and values; q8_0 is one signed byte each and a half-precision scale per 32.
enum class CacheType { f32, f16, q8_0 };

/// Returns the type's name, as on the command line.
[[nodiscard]] std::string_view name(CacheType type) noexcept;

/// Reads a type's name.
/// @throws Error for an unknown name, listing the known ones
[[nodiscard]] CacheType parse_cache_type(std::string_view name);

/// Returns the bytes of `channels` numbers. O(1).
/// @param channels a multiple of 32
[[nodiscard]] constexpr std::size_t row_bytes(CacheType type, std::size_t channels) noexcept {
  switch (type) {
    case CacheType::f32:
      return channels * 4;
    case CacheType::f16:
      return channels * 2;
    case CacheType::q8_0:
      return channels + channels / 32 * 2;
  }
  return 0;
}

}  // namespace decoder
