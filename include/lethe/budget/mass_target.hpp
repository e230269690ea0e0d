/// The fewest tokens that hold a share of a layer's mass.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "lethe/budget.hpp"

namespace lethe {

/// Settings of MassTarget.
struct MassTargetConfig {
  /// Share of a layer's mass that stays, that of protected tokens counted in. Still to be measured;
  /// 93% is what ReasonAlloc (arXiv 2606.11164) sizes layers by.
  float share = 0.93f;

  bool operator==(const MassTargetConfig&) const = default;
};

namespace detail {

/// Scores as whole numbers on a scale of their layer's own, so that sums are exact in any order.
/// Scores below zero are no mass; what lies more than 2^60 / tokens below the largest is cut off.
class MassUnits {
 public:
  /// largest: of the layer's scores, above 0.
  LETHE_HOST_DEVICE MassUnits(float largest, std::size_t tokens)
      : largest_exponent_(exponent_of(bit_cast<std::uint32_t>(largest))),
        room_(39u - width_of(tokens)) {
    LETHE_ASSERT(largest > 0.0f && tokens < (std::size_t{1} << 32));
  }

  /// The mass of the score that has this ordered_key; the sum over the layer is below 2^63.
  [[nodiscard]] LETHE_HOST_DEVICE std::uint64_t of(std::uint32_t key) const {
    if (key < 0x80000000u) return 0;
    const std::uint32_t bits = key & 0x7FFFFFFFu;
    const std::uint32_t implicit = bits >= 0x00800000u ? 0x00800000u : 0u;
    const std::uint64_t digits = (bits & 0x007FFFFFu) | implicit;
    const unsigned below = largest_exponent_ - exponent_of(bits);
    return below < 64 ? (digits << room_) >> below : 0;
  }

 private:
  [[nodiscard]] LETHE_HOST_DEVICE static unsigned exponent_of(std::uint32_t bits) {
    return bits >> 23 == 0 ? 1u : bits >> 23;
  }

  /// std::bit_width, which device code may not call.
  [[nodiscard]] LETHE_HOST_DEVICE static unsigned width_of(std::size_t tokens) {
    unsigned width = 0;
    for (; tokens != 0; tokens >>= 1) ++width;
    return width;
  }

  unsigned largest_exponent_;
  unsigned room_;
};

/// The cut that keeps the fewest keys whose masses reach a sum, and how many it keeps.
struct MassCut {
  Cut cut{};
  std::size_t tokens = 0;
};

/// A target's share as it is counted: a float holds 0.1 as a little more, and 10% of 10 equal
/// tokens must be 1, not 2.
[[nodiscard]] LETHE_HOST_DEVICE constexpr double counted_share(float share) {
  return share < 1.0f ? static_cast<double>(share) * (1 - 1e-7) : 1.0;
}

/// A share of the mass of all tokens, rounded up.
[[nodiscard]] LETHE_HOST_DEVICE inline std::uint64_t share_of_mass(std::uint64_t all,
                                                                   double share) {
  const auto target = static_cast<std::uint64_t>(std::ceil(static_cast<double>(all) * share));
  return all < target ? all : target;
}

/// Tokens of equal mass that a sum takes, rounded up; each: not 0.
[[nodiscard]] LETHE_HOST_DEVICE constexpr std::size_t ties_for(std::uint64_t needed,
                                                               std::uint64_t each) {
  return static_cast<std::size_t>((needed + each - 1) / each);
}

struct MassHistogram {
  Histogram tokens;
  std::array<std::uint64_t, 2048> mass;
};

inline void count_mass(std::span<const std::uint32_t> keys, Digit digit, const MassUnits& units,
                       MassHistogram& histogram) {
  histogram.tokens.fill(0);
  histogram.mass.fill(0);
  for (const std::uint32_t key : keys) {
    ++histogram.tokens[digit.of(key)];
    histogram.mass[digit.of(key)] += units.of(key);
  }
}

/// needed: from 1 to the mass of all keys, which are those of scores. scratch: keys.size() + 1
/// entries. A radix select by mass; O(n).
[[nodiscard]] inline MassCut find_mass_cut(std::span<const std::uint32_t> keys,
                                           const MassUnits& units, std::uint64_t needed,
                                           std::span<std::uint32_t> scratch) {
  MassHistogram histogram;
  MassCut result;
  std::span<const std::uint32_t> candidates = keys;
  for (const Digit digit : radix_digits) {
    count_mass(candidates, digit, units, histogram);
    std::uint32_t bin = digit.mask;
    for (; histogram.mass[bin] < needed; --bin) {
      needed -= histogram.mass[bin];
      result.tokens += histogram.tokens[bin];
    }
    result.cut.key |= bin << digit.shift;
    const std::size_t found =
        gather_range(candidates, result.cut.key, std::uint32_t{1} << digit.shift, scratch);
    candidates = scratch.first(found);
  }
  result.cut.ties = ties_for(needed, units.of(result.cut.key));
  result.tokens += result.cut.ties;
  return result;
}

}  // namespace detail

/// The smallest set of tokens that holds a share of a layer's mass (with Rasr, of its decayed
/// mass), protected tokens in it: a budget without a threshold, by one radix select. Ties go to the
/// older token. Where it takes every token, or there is no mass, the attention is spread out.
class MassTarget {
 public:
  using Config = MassTargetConfig;
  /// Throws std::invalid_argument unless 0 < share <= 1.
  explicit MassTarget(const Config& config) : share_(checked(config.share)) {}

  /// O(n).
  [[nodiscard]] Budget budget(const LayerScores& layer) const {
    const std::size_t tokens = layer.scores.size();
    if (!(layer.summary.maximum > 0.0f)) return {.tokens = tokens, .spread_out = true};
    const detail::MassUnits units(layer.summary.maximum, tokens);
    const Masses masses = weigh(layer, units);
    const std::uint64_t target = detail::share_of_mass(masses.all, share_);
    const std::uint64_t held = masses.all - masses.open;
    detail::MassCut found;
    if (target > held) {
      found = detail::find_mass_cut(layer.keys.first(masses.open_tokens), units, target - held,
                                    layer.scratch);
      found.cut.ties += older_ties(layer, found.cut.key);
    }
    const std::size_t kept = layer.protected_tokens + found.tokens;
    return {.tokens = kept, .spread_out = kept >= tokens, .cut = found.cut};
  }

 private:
  /// Mass of all tokens, and of those that are not protected.
  struct Masses {
    std::uint64_t all = 0;
    std::uint64_t open = 0;
    std::size_t open_tokens = 0;
  };

  [[nodiscard]] static double checked(float share) {
    detail::require(share > 0.0f && share <= 1.0f, "share", share,
                    "choose a share above 0 and at most 1");
    return detail::counted_share(share);
  }

  /// Puts the keys of the tokens that are not protected at the front of layer.keys.
  [[nodiscard]] static Masses weigh(const LayerScores& layer, const detail::MassUnits& units) {
    Masses masses;
    for (std::size_t i = 0; i < layer.scores.size(); ++i) {
      const std::uint32_t key = ordered_key(layer.scores[i]);
      const std::uint64_t mass = units.of(key);
      masses.all += mass;
      if (layer.protection.covers(layer.positions[i])) continue;
      masses.open += mass;
      layer.keys[masses.open_tokens++] = key;
    }
    return masses;
  }

  /// First tokens with the cut's score: a cut through all scores keeps them before younger ones.
  [[nodiscard]] static std::size_t older_ties(const LayerScores& layer, std::uint32_t key) {
    std::size_t ties = 0;
    for (std::size_t i = 0; i < layer.scores.size(); ++i) {
      const bool first = layer.positions[i] < layer.protection.prefix_end;
      ties += first && ordered_key(layer.scores[i]) == key ? 1u : 0u;
    }
    return ties;
  }

  double share_;
};
static_assert(BudgetAllocator<MassTarget>);

}  // namespace lethe
