#include <cmath>
#include <cstring>
#include <limits>

#include "gguf.hpp"
#include "gguf_types.hpp"
#include "one_line.hpp"

namespace decoder::gguf {

namespace {

template <class T>
T load(const std::byte* data) {
  T value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

/// A whole number of the array as 64 signed bits; numbers beyond them saturate.
std::int64_t whole_element(const Array& array, std::uint64_t index) {
  const std::byte* at = array.data + index * value_bytes(array.element_type);
  switch (array.element_type) {
    case value_type::u8:
      return load<std::uint8_t>(at);
    case value_type::i8:
      return load<std::int8_t>(at);
    case value_type::u16:
      return load<std::uint16_t>(at);
    case value_type::i16:
      return load<std::int16_t>(at);
    case value_type::u32:
      return load<std::uint32_t>(at);
    case value_type::i32:
      return load<std::int32_t>(at);
    case value_type::i64:
      return load<std::int64_t>(at);
    default:
      break;
  }
  constexpr auto most = std::numeric_limits<std::int64_t>::max();
  const auto value = load<std::uint64_t>(at);
  return value > static_cast<std::uint64_t>(most) ? most : static_cast<std::int64_t>(value);
}

bool holds_whole_numbers(const Array& array) {
  switch (array.element_type) {
    case value_type::f32:
    case value_type::f64:
    case value_type::boolean:
    case value_type::string:
      return false;
    default:
      return true;
  }
}

std::string wrong_kind(std::string_view key, const char* wanted) {
  return "metadata key '" + one_line(key) + "' should hold " + wanted +
         "; convert the model again with a current converter";
}

}  // namespace

const Value& File::value(std::string_view key) const {
  const auto found = values_.find(key);
  if (found != values_.end()) return found->second;
  throw error("metadata key '" + one_line(key) +
              "' is missing; convert the model again with a current converter");
}

std::uint64_t File::integer(std::string_view key) const {
  const Value& held = value(key);
  if (const auto* number = std::get_if<std::uint64_t>(&held)) return *number;
  if (const auto* number = std::get_if<std::int64_t>(&held); number != nullptr && *number >= 0) {
    return static_cast<std::uint64_t>(*number);
  }
  throw error(wrong_kind(key, "a whole number of at least 0"));
}

std::uint64_t File::integer(std::string_view key, std::uint64_t fallback) const {
  return has(key) ? integer(key) : fallback;
}

double File::number(std::string_view key) const {
  const Value& held = value(key);
  if (const auto* real = std::get_if<double>(&held); real != nullptr && std::isfinite(*real)) {
    return *real;
  }
  if (const auto* whole = std::get_if<std::uint64_t>(&held)) return static_cast<double>(*whole);
  if (const auto* whole = std::get_if<std::int64_t>(&held)) return static_cast<double>(*whole);
  throw error(wrong_kind(key, "a finite number"));
}

double File::number(std::string_view key, double fallback) const {
  return has(key) ? number(key) : fallback;
}

bool File::boolean(std::string_view key, bool fallback) const {
  if (!has(key)) return fallback;
  if (const auto* truth = std::get_if<bool>(&value(key))) return *truth;
  throw error(wrong_kind(key, "true or false"));
}

std::string_view File::string(std::string_view key) const {
  if (const auto* text = std::get_if<std::string_view>(&value(key))) return *text;
  throw error(wrong_kind(key, "a string"));
}

std::string_view File::string(std::string_view key, std::string_view fallback) const {
  return has(key) ? string(key) : fallback;
}

const std::vector<std::string_view>& File::strings(std::string_view key) const {
  const auto* array = std::get_if<Array>(&value(key));
  if (array != nullptr && array->element_type == value_type::string) return array->strings;
  throw error(wrong_kind(key, "an array of strings"));
}

std::vector<std::int32_t> File::integers(std::string_view key) const {
  const auto* array = std::get_if<Array>(&value(key));
  if (array == nullptr || !holds_whole_numbers(*array)) {
    throw error(wrong_kind(key, "an array of whole numbers"));
  }
  std::vector<std::int32_t> numbers(array->count);
  for (std::uint64_t i = 0; i < array->count; ++i) {
    const std::int64_t wide = whole_element(*array, i);
    numbers[i] = static_cast<std::int32_t>(wide);
    if (numbers[i] != wide) throw error(wrong_kind(key, "whole numbers of 32 bits"));
  }
  return numbers;
}

std::vector<float> File::numbers(std::string_view key) const {
  const auto* array = std::get_if<Array>(&value(key));
  if (array == nullptr || array->element_type != value_type::f32) {
    throw error(wrong_kind(key, "an array of f32 numbers"));
  }
  std::vector<float> numbers(array->count);
  if (!numbers.empty()) std::memcpy(numbers.data(), array->data, numbers.size() * sizeof(float));
  return numbers;
}

}  // namespace decoder::gguf
