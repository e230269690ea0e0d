#pragma once

#include <cstddef>

namespace decoder {

/// The least multiple of `step` that is no less than `value`. O(1).
constexpr std::size_t round_up(std::size_t value, std::size_t step) noexcept {
  return (value + step - 1) / step * step;
}

}  // namespace decoder
