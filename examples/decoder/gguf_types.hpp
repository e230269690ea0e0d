#pragma once

#include <cstddef>
#include <cstdint>

namespace decoder::gguf {

/// GGUF's numbers for the types of metadata values.
namespace value_type {
inline constexpr std::uint32_t u8 = 0;
inline constexpr std::uint32_t i8 = 1;
inline constexpr std::uint32_t u16 = 2;
inline constexpr std::uint32_t i16 = 3;
inline constexpr std::uint32_t u32 = 4;
inline constexpr std::uint32_t i32 = 5;
inline constexpr std::uint32_t f32 = 6;
inline constexpr std::uint32_t boolean = 7;
inline constexpr std::uint32_t string = 8;
inline constexpr std::uint32_t array = 9;
inline constexpr std::uint32_t u64 = 10;
inline constexpr std::uint32_t i64 = 11;
inline constexpr std::uint32_t f64 = 12;
}  // namespace value_type

/// Bytes of one metadata value of a fixed size; 0 for strings, arrays and unknown types. O(1).
constexpr std::size_t value_bytes(std::uint32_t type) noexcept {
  switch (type) {
    case value_type::u8:
    case value_type::i8:
    case value_type::boolean:
      return 1;
    case value_type::u16:
    case value_type::i16:
      return 2;
    case value_type::u32:
    case value_type::i32:
    case value_type::f32:
      return 4;
    case value_type::u64:
    case value_type::i64:
    case value_type::f64:
      return 8;
    default:
      return 0;
  }
}

}  // namespace decoder::gguf
