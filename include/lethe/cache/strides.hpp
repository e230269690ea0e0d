/// Where a token's channels lie, in elements.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>

#include "lethe/compact.hpp"
#include "lethe/numeric.hpp"
#include "lethe/wide_vectors.hpp"

namespace lethe {

/// Distances, in elements, from one token, head or channel to the next.
struct Strides {
  std::size_t token = 0;
  std::size_t head = 0;
  std::size_t channel = 1;

  bool operator==(const Strides&) const = default;
};

namespace detail {

/// Refuses a layer's rows that cannot be. `name`: of the base pointer.
template <class Element>
void check_rows(const char* name, const Element* base, std::size_t heads, std::size_t dimension,
                const Strides& strides) {
  require(base != nullptr, name, 0, "give each layer a base pointer");
  require(heads >= 1, "heads", heads, "give each layer at least 1 KV head");
  require(dimension >= 1, "dimension", dimension, "give the channels of a head");
  require(strides.token >= 1, "strides.token", strides.token,
          "give the elements from one token to the next");
  require(strides.channel >= 1, "strides.channel", strides.channel,
          "give the elements from one channel to the next");
  require(strides.channel != 1 || strides.token >= dimension, "strides.token", strides.token,
          "tokens overlap: it must cover the channels, or strides.channel is not 1");
  require(strides.head >= 1 || heads == 1, "strides.head", strides.head,
          "give the elements from one head to the next");
}

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
LETHE_VECTOR_BODY inline void read_row(const Element* LETHE_RESTRICT from, std::size_t stride,
                                       std::span<float> out) {
  float* LETHE_RESTRICT const to = out.data();
  const std::size_t channels = out.size();
  if (stride == 1) {
    for (std::size_t c = 0; c < channels; ++c) to[c] = to_float(from[c]);
    return;
  }
  for (std::size_t c = 0; c < channels; ++c) to[c] = to_float(from[c * stride]);
}

/// Widens one head's rows of `channels` each, in wide vectors; row_of(i): where the i-th begins.
template <class RowOf>
void read_rows(const RowOf& row_of, std::size_t channels, std::size_t stride,
               std::span<float> out) {
  LETHE_ASSERT(out.size() % channels == 0);
  run(widest_vectors(), [&]() LETHE_VECTOR_BODY {
    for (std::size_t i = 0; i * channels < out.size(); ++i) {
      read_row(row_of(i), stride, out.subspan(i * channels, channels));
    }
  });
}

}  // namespace detail
}  // namespace lethe
