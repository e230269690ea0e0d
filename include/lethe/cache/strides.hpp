/// Where a token's channels lie, in elements.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>

#include "lethe/compact.hpp"
#include "lethe/numeric.hpp"

namespace lethe {

/// Distances, in elements, from one token, head or channel to the next.
struct Strides {
  std::size_t token = 0;
  std::size_t head = 0;
  std::size_t channel = 1;

  bool operator==(const Strides&) const = default;
};

namespace detail {

/// Copies one token's channels of one head.
template <class Element>
void copy_row(Element* to, const Element* from, std::size_t channels, std::size_t stride) {
  if (stride == 1) {
    std::memmove(to, from, channels * sizeof(Element));
    return;
  }
  for (std::size_t c = 0; c < channels; ++c) to[c * stride] = from[c * stride];
}

/// Widens one token's channels of one head to floats.
template <class Element>
LETHE_EXACT inline void read_row(const Element* from, std::size_t stride, std::span<float> out) {
  for (std::size_t c = 0; c < out.size(); ++c) out[c] = to_float(from[c * stride]);
}

}  // namespace detail
}  // namespace lethe
