/// Tokens with short keys stay. Knorm.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "lethe/head_rows.hpp"

namespace lethe {

/// How much shorter a token's key is than the head's longest, |k|_2 (Knorm, arXiv 2406.11430: a key
/// of low norm draws attention). Ranks as -|k|_2 does, and is not negative. O(n x channels).
class KeyNorm {
 public:
  using Config = NoSettings;
  static constexpr std::string_view name = "key norm";
  static constexpr bool reads_keys = true;
  static constexpr bool reads_values = false;

  KeyNorm(const Config&, const HeadShape&, std::size_t) {}

  LETHE_EXACT static void score(const HeadRows& rows, std::span<float> out) {
    LETHE_EXACT_BODY
    float longest = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      out[i] = detail::length(rows.keys[i]);
      longest = longest < out[i] ? out[i] : longest;
    }
    for (std::size_t i = 0; i < rows.size(); ++i) out[i] = longest - out[i];
  }
};
static_assert(RowRule<KeyNorm>);

}  // namespace lethe
