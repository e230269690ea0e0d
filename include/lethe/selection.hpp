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
    const bool first = positions[i] < prefix_end;
    const bool last = positions[i] >= recent;
    // Without a branch, so that it is vectorised: protected_key has every bit set.
    keys[i] = ordered_key(scores[i]) | (0u - static_cast<std::uint32_t>(first | last));
  }
}

/// The same without protected tokens.
inline void make_keys(std::span<const float> scores, std::span<std::uint32_t> keys) {
  for (std::size_t i = 0; i < scores.size(); ++i) keys[i] = ordered_key(scores[i]);
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
  for (; i + 4 <= keys.size(); i += 4) {
    ++even[digit.of(keys[i])];
    ++odd[digit.of(keys[i + 1])];
    ++even[digit.of(keys[i + 2])];
    ++odd[digit.of(keys[i + 3])];
  }
  for (; i < keys.size(); ++i) ++even[digit.of(keys[i])];
  for (std::size_t bin = 0; bin < even.size(); ++bin) even[bin] += odd[bin];
}

/// The bin, counted from the top, in which the count-th key lies; count becomes its rank in the
/// bin. Whole blocks of bins are passed over first.
[[nodiscard]] inline std::uint32_t find_bin(const Histogram& histogram, std::size_t& count) {
  constexpr std::size_t block = 64;
  std::size_t end = histogram.size();
  for (; end > block; end -= block) {
    std::uint32_t held = 0;
    for (std::size_t bin = end - block; bin < end; ++bin) held += histogram[bin];
    if (held >= count) break;
    count -= held;
  }
  while (histogram[end - 1] < count) count -= histogram[--end];
  return static_cast<std::uint32_t>(end - 1);
}

/// Copies the keys from `low` on, below low + width, to the front of out; returns how many. Every
/// key is written and only some are counted, four to a turn, since a branch would be missed too
/// often.
[[nodiscard]] inline std::size_t gather_range(std::span<const std::uint32_t> keys,
                                              std::uint32_t low, std::uint32_t width,
                                              std::span<std::uint32_t> out) {
  std::size_t found = 0;
  const auto take = [&](std::uint32_t key) {
    out[found] = key;
    found += static_cast<std::size_t>(key - low < width);
  };
  std::size_t i = 0;
  for (; i + 4 <= keys.size(); i += 4) {
    for (std::size_t j = 0; j < 4; ++j) take(keys[i + j]);
  }
  for (; i < keys.size(); ++i) take(keys[i]);
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
    const std::size_t found =
        detail::gather_range(candidates, key, std::uint32_t{1} << digit.shift, scratch);
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
  Position* const nth = scratch.data() + cut.ties - 1;
  std::nth_element(scratch.data(), nth, scratch.data() + found);
  return *nth;
}

/// Where the kept ties end: keys before it stay unless below the cut, later ones only above it.
[[nodiscard]] inline std::size_t end_of_ties(std::span<const std::uint32_t> keys, Cut cut) {
  constexpr std::size_t block = 64;
  std::size_t ties = cut.ties;
  std::size_t i = 0;
  for (; i + block <= keys.size(); i += block) {
    std::uint32_t equal = 0;
    for (const std::uint32_t key : keys.subspan(i, block)) equal += key == cut.key ? 1u : 0u;
    if (equal >= ties) break;
    ties -= equal;
  }
  for (; i < keys.size() && ties != 0; ++i) ties -= keys[i] == cut.key ? 1u : 0u;
  return i;
}

/// Writes the slots of keys above the cut and of the first `ties` equal ones; returns how many.
/// The keys are those of slots from first_slot on.
[[nodiscard]] inline std::size_t collect_ordered(std::span<const std::uint32_t> keys, Cut cut,
                                                 std::size_t first_slot, std::span<Slot> kept) {
  const std::size_t end = end_of_ties(keys, cut);
  auto slot = static_cast<Slot>(first_slot);
  std::size_t count = 0;
  LETHE_LOOP_UNROLLED
  for (const std::uint32_t key : keys.first(end)) {
    kept[count] = slot++;
    count += static_cast<std::size_t>(key >= cut.key);
  }
  LETHE_LOOP_UNROLLED
  for (const std::uint32_t key : keys.subspan(end)) {
    kept[count] = slot++;
    count += static_cast<std::size_t>(key > cut.key);
  }
  return count;
}

/// How many keys the cut keeps from `begin` to `end`, where slots ascend with positions.
[[nodiscard]] inline std::size_t count_ordered(std::span<const std::uint32_t> keys, Cut cut,
                                               std::size_t begin, std::size_t end) {
  std::uint32_t ties_before = 0;
  std::uint32_t above = 0;
  std::uint32_t equal = 0;
  for (std::size_t i = 0; i < begin; ++i) ties_before += keys[i] == cut.key;
  for (std::size_t i = begin; i < end; ++i) {
    above += static_cast<std::uint32_t>(keys[i] > cut.key);
    equal += static_cast<std::uint32_t>(keys[i] == cut.key);
  }
  const std::size_t ties = cut.ties - std::min<std::size_t>(cut.ties, ties_before);
  return above + std::min<std::size_t>(equal, ties);
}

}  // namespace detail

/// Writes the slots that the cut keeps, ascending; ties go to the lower position.
/// ordered: positions ascend with slots. kept, scratch: keys.size() + 1 entries. Returns the count.
/// O(n).
inline std::size_t collect(std::span<const std::uint32_t> keys, Cut cut,
                           std::span<const Position> positions, bool ordered, std::span<Slot> kept,
                           std::span<std::uint32_t> scratch) {
  if (ordered) return detail::collect_ordered(keys, cut, 0, kept);
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
  if (ordered) {
    const auto first = std::lower_bound(positions.begin(), positions.end(), protection.prefix_end);
    const auto recent = std::lower_bound(first, positions.end(), protection.recent_begin);
    return detail::count_ordered(keys, cut, static_cast<std::size_t>(first - positions.begin()),
                                 static_cast<std::size_t>(recent - positions.begin()));
  }
  const Position last = detail::youngest_tie(keys, cut, positions, scratch);
  std::size_t count = 0;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const bool kept = keys[i] > cut.key || (keys[i] == cut.key && positions[i] <= last);
    count += kept && !protection.covers(positions[i]) ? 1u : 0u;
  }
  return count;
}

}  // namespace lethe
