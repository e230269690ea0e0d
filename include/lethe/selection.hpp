/// The best `count` tokens of a layer, without a sort: order-preserving keys and a radix select.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "lethe/plan.hpp"

namespace lethe {

/// The key given to protected tokens: above that of every finite score.
inline constexpr std::uint32_t protected_key = 0xFFFFFFFFu;

/// Keep every key above `key`, and the `ties` oldest of those equal to it.
struct Cut {
  std::uint32_t key = 0;
  std::size_t ties = 0;
};

/// Writes one key a token: protected_key where protection covers its position, else ordered_key.
inline void make_keys(std::span<const float> scores, std::span<const Position> positions,
                      const Protection& protection, std::span<std::uint32_t> keys) {
  const std::uint32_t prefix_end = protection.prefix_end;
  const std::uint32_t recent = protection.recent_begin;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const bool covered = positions[i] < prefix_end || positions[i] >= recent;
    keys[i] = covered ? protected_key : ordered_key(scores[i]);
  }
}

namespace detail {

/// One digit of a key for the radix select.
struct Digit {
  unsigned shift;
  std::uint32_t mask;
  [[nodiscard]] constexpr std::uint32_t of(std::uint32_t key) const {
    return (key >> shift) & mask;
  }
};

inline constexpr std::array<Digit, 3> radix_digits{Digit{21, 0x7FFu}, Digit{10, 0x7FFu},
                                                   Digit{0, 0x3FFu}};

using Histogram = std::array<std::uint32_t, 2048>;

/// Counts in two tables, since scores share few exponents and equal bins in a row would stall.
inline void count_digit(std::span<const std::uint32_t> keys, Digit digit, Histogram& even) {
  Histogram odd{};
  even.fill(0);
  std::size_t i = 0;
  for (; i + 1 < keys.size(); i += 2) {
    ++even[digit.of(keys[i])];
    ++odd[digit.of(keys[i + 1])];
  }
  if (i < keys.size()) ++even[digit.of(keys[i])];
  for (std::size_t bin = 0; bin < even.size(); ++bin) even[bin] += odd[bin];
}

/// The bin, counted from the top, in which the count-th key lies; count becomes its rank in the
/// bin.
[[nodiscard]] inline std::uint32_t find_bin(const Histogram& histogram, std::size_t& count) {
  std::uint32_t bin = static_cast<std::uint32_t>(histogram.size()) - 1;
  while (histogram[bin] < count) count -= histogram[bin--];
  return bin;
}

[[nodiscard]] inline std::size_t gather_bin(std::span<const std::uint32_t> keys, Digit digit,
                                            std::uint32_t bin, std::span<std::uint32_t> out) {
  std::size_t found = 0;
  for (const std::uint32_t key : keys) {
    out[found] = key;
    found += digit.of(key) == bin ? 1u : 0u;
  }
  return found;
}

}  // namespace detail

/// The cut that keeps the `count` largest keys; 1 <= count <= keys.size().
/// scratch: keys.size() + 1 entries. O(n).
[[nodiscard]] inline Cut find_cut(std::span<const std::uint32_t> keys, std::size_t count,
                                  std::span<std::uint32_t> scratch) {
  LETHE_ASSERT(count >= 1 && count <= keys.size() && scratch.size() > keys.size());
  detail::Histogram histogram;
  std::uint32_t key = 0;
  std::span<const std::uint32_t> candidates = keys;
  for (const detail::Digit digit : detail::radix_digits) {
    detail::count_digit(candidates, digit, histogram);
    const std::uint32_t bin = detail::find_bin(histogram, count);
    key |= bin << digit.shift;
    const std::size_t found = detail::gather_bin(candidates, digit, bin, scratch);
    candidates = scratch.first(found);
  }
  return {key, count};
}

namespace detail {

/// The position of the `ties`-th oldest token among those whose key is the cut's.
[[nodiscard]] inline Position youngest_tie(std::span<const std::uint32_t> keys, Cut cut,
                                           std::span<const Position> positions,
                                           std::span<std::uint32_t> scratch) {
  std::size_t found = 0;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] == cut.key) scratch[found++] = positions[i];
  }
  const auto nth = scratch.begin() + static_cast<std::ptrdiff_t>(cut.ties) - 1;
  std::nth_element(scratch.begin(), nth, scratch.begin() + static_cast<std::ptrdiff_t>(found));
  return *nth;
}

[[nodiscard]] inline std::size_t collect_ordered(std::span<const std::uint32_t> keys, Cut cut,
                                                 std::span<Slot> kept) {
  std::size_t count = 0;
  std::size_t ties = cut.ties;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const std::size_t tie = keys[i] == cut.key && ties != 0 ? 1u : 0u;
    kept[count] = static_cast<Slot>(i);
    ties -= tie;
    count += tie + (keys[i] > cut.key ? 1u : 0u);
  }
  return count;
}

}  // namespace detail

/// Writes the slots that the cut keeps, ascending; ties go to the lower position.
/// ordered: positions ascend with slots. kept, scratch: keys.size() + 1 entries. Returns the count.
/// O(n).
inline std::size_t collect(std::span<const std::uint32_t> keys, Cut cut,
                           std::span<const Position> positions, bool ordered, std::span<Slot> kept,
                           std::span<std::uint32_t> scratch) {
  if (ordered) return detail::collect_ordered(keys, cut, kept);
  const Position last = detail::youngest_tie(keys, cut, positions, scratch);
  std::size_t count = 0;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const bool tie = keys[i] == cut.key && positions[i] <= last;
    kept[count] = static_cast<Slot>(i);
    count += tie || keys[i] > cut.key ? 1u : 0u;
  }
  return count;
}

/// How many tokens that the cut keeps are not covered by protection; arguments as for collect.
/// O(n).
[[nodiscard]] inline std::size_t count_unprotected(std::span<const std::uint32_t> keys, Cut cut,
                                                   std::span<const Position> positions,
                                                   bool ordered, const Protection& protection,
                                                   std::span<std::uint32_t> scratch) {
  const Position last = ordered ? 0 : detail::youngest_tie(keys, cut, positions, scratch);
  std::size_t count = 0;
  std::size_t ties = cut.ties;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const bool equal = keys[i] == cut.key;
    const bool tie = equal && (ordered ? ties != 0 : positions[i] <= last);
    ties -= equal && ties != 0 ? 1u : 0u;
    count += (tie || keys[i] > cut.key) && !protection.covers(positions[i]) ? 1u : 0u;
  }
  return count;
}

}  // namespace lethe
