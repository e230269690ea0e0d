/// How large a token's value is, in the ways that policies measure it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string_view>

#include "lethe/head_rows.hpp"

namespace lethe {

/// |v|_1 (LongFlow, arXiv 2603.11504, multiplies the last query's mass by it). O(n x channels).
class ValueNorm {
 public:
  using Config = NoSettings;
  static constexpr std::string_view name = "value norm";
  static constexpr bool reads_keys = false;
  static constexpr bool reads_values = true;

  ValueNorm(const Config&, const HeadShape&, std::size_t) {}

  LETHE_EXACT static void score(const HeadRows& rows, std::span<float> out) {
    LETHE_EXACT_BODY
    for (std::size_t i = 0; i < rows.size(); ++i) {
      out[i] = static_cast<float>(detail::absolute_sum(rows.values[i]));
    }
  }
};
static_assert(RowRule<ValueNorm>);

/// The largest |v|_1 of the head, for each of its tokens (LAVa, arXiv 2509.09754): it weighs heads
/// against each other, so it changes nothing where one group sums them all. O(n x channels).
class LargestValueNorm {
 public:
  using Config = NoSettings;
  static constexpr std::string_view name = "largest value norm";
  static constexpr bool reads_keys = false;
  static constexpr bool reads_values = true;

  LargestValueNorm(const Config&, const HeadShape&, std::size_t) {}

  LETHE_EXACT static void score(const HeadRows& rows, std::span<float> out) {
    LETHE_EXACT_BODY
    float largest = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const float norm = static_cast<float>(detail::absolute_sum(rows.values[i]));
      largest = largest < norm ? norm : largest;
    }
    std::fill(out.begin(), out.end(), largest);
  }
};
static_assert(RowRule<LargestValueNorm>);

/// The largest channel of a value less its smallest (VaSE, arXiv 2606.03928: values of wide range
/// must not go). O(n x channels).
class ValueRange {
 public:
  using Config = NoSettings;
  static constexpr std::string_view name = "value range";
  static constexpr bool reads_keys = false;
  static constexpr bool reads_values = true;

  ValueRange(const Config&, const HeadShape&, std::size_t) {}

  LETHE_EXACT static void score(const HeadRows& rows, std::span<float> out) {
    LETHE_EXACT_BODY
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::span<const float> value = rows.values[i];
      float low = value[0];
      float high = value[0];
      for (const float channel : value) {
        low = channel < low ? channel : low;
        high = high < channel ? channel : high;
      }
      out[i] = high - low;
    }
  }
};
static_assert(RowRule<ValueRange>);

/// |v|_2 / |k|_2 (PagedEviction, arXiv 2509.04377). A key shorter than 2^-60 counts as that long.
/// O(n x channels).
class ValueOverKey {
 public:
  using Config = NoSettings;
  static constexpr std::string_view name = "value over key";
  static constexpr bool reads_keys = true;
  static constexpr bool reads_values = true;

  ValueOverKey(const Config&, const HeadShape&, std::size_t) {}

  LETHE_EXACT static void score(const HeadRows& rows, std::span<float> out) {
    LETHE_EXACT_BODY
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const double key = std::max(static_cast<double>(detail::length(rows.keys[i])), 0x1p-60);
      const double share = 1.0 / key;
      out[i] = static_cast<float>(static_cast<double>(detail::length(rows.values[i])) * share);
    }
  }
};
static_assert(RowRule<ValueOverKey>);

}  // namespace lethe
