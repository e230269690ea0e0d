/// The channels of a key that positions turn slowest: those that are compared for likeness.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "lethe/numeric.hpp"
#include "lethe/unit_keys.hpp"
#include "lethe/wide_vectors.hpp"

namespace lethe {

/// A share of a key's pairs of channels, those that turn slowest, and all channels that do not
/// turn. Laid out they are first the first ones of the pairs, slowest first, then the others of the
/// pairs, and last what does not turn.
class SlowChannels {
 public:
  /// Throws std::invalid_argument unless the shape is one and 0 < share <= 1.
  SlowChannels(const KeyShape& shape, float share)
      : layout_(checked(shape, share).pairs),
        pairs_(shape.frequencies.size()),
        still_(shape.head_dimension - 2 * pairs_) {
    for (const std::uint32_t pair : slowest(shape.frequencies, share)) {
      frequencies_.push_back(shape.frequencies[pair]);
      if (!runs_.empty() && pair + 1 == runs_.back().first) {
        runs_.back() = {pair, runs_.back().count + 1};
      } else {
        runs_.push_back({pair, 1});
      }
    }
  }

  [[nodiscard]] std::size_t size() const { return 2 * frequencies_.size() + still_; }
  /// Of the pairs, in their order: RotaryPairs::halves.
  [[nodiscard]] std::span<const float> frequencies() const { return frequencies_; }

  /// Lays the channels of a key out; O(size).
  LETHE_VECTOR_BODY void pick(const float* key, float* out) const {
    std::size_t at = 0;
    for (const Run& run : runs_) {
      float* const firsts = out + at;
      float* const seconds = firsts + frequencies_.size();
      if (layout_ == RotaryPairs::halves) {
        reverse<1>(key + run.first, pairs_, run.count, firsts, seconds);
      } else {
        reverse<2>(key + 2 * run.first, 1, run.count, firsts, seconds);
      }
      at += run.count;
    }
    float* const rest = out + 2 * frequencies_.size();
    for (std::size_t c = 0; c < still_; ++c) rest[c] = key[2 * pairs_ + c];
  }

 private:
  /// Neighbouring pairs, the last of them slowest, as frequencies fall as a rule.
  struct Run {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
  };

  [[nodiscard]] static const KeyShape& checked(const KeyShape& shape, float share) {
    detail::check_keys(shape);
    detail::require(share > 0.0f && share <= 1.0f, "slow_share", share,
                    "choose a share above 0 and at most 1");
    return shape;
  }

  [[nodiscard]] static std::vector<std::uint32_t> slowest(std::span<const float> frequencies,
                                                          float share) {
    const std::size_t pairs = frequencies.size();
    std::vector<std::uint32_t> order(pairs);
    std::iota(order.begin(), order.end(), 0u);
    std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
      const float first = std::fabs(frequencies[a]);
      const float second = std::fabs(frequencies[b]);
      return first != second ? first < second : a < b;
    });
    // A float holds a third as a little more: a third of 3 must be 1, not 2.
    const double wanted =
        std::ceil(static_cast<double>(share) * static_cast<double>(pairs) * (1 - 1e-7));
    order.resize(std::min(pairs, static_cast<std::size_t>(wanted)));
    return order;
  }

  /// Backwards both channels of pairs that lie `Stride` apart.
  template <std::size_t Stride>
  LETHE_VECTOR_BODY static void reverse(const float* LETHE_RESTRICT key, std::size_t second,
                                        std::size_t count, float* LETHE_RESTRICT firsts,
                                        float* LETHE_RESTRICT seconds) {
    for (std::size_t pair = 0; pair < count; ++pair) {
      const float x = key[Stride * pair];
      const float y = key[Stride * pair + second];
      firsts[count - 1 - pair] = x;
      seconds[count - 1 - pair] = y;
    }
  }

  RotaryPairs layout_;
  std::size_t pairs_;
  /// Channels that do not turn.
  std::size_t still_;
  std::vector<Run> runs_;
  std::vector<float> frequencies_;
};

}  // namespace lethe
