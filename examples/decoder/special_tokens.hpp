#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "vocabulary.hpp"

namespace decoder {

/// Finds tokens that text may spell out by name, such as "<|im_end|>".
class SpecialTokens {
 public:
  /// Where a token's name lies in a text, in bytes.
  struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::int32_t id = -1;
  };

  /// Collects the control and user-defined tokens of `vocabulary`. O(tokens log tokens).
  explicit SpecialTokens(const Vocabulary& vocabulary);

  /// The leftmost name in `text` at or after `from`, the longest of those that begin there.
  ///
  /// Control tokens count only with `control`; user-defined ones always do. O(text x names with the
  /// same first byte).
  std::optional<Match> find(std::string_view text, std::size_t from, bool control,
                            const Vocabulary& vocabulary) const;

 private:
  std::optional<Match> match_at(std::string_view text, std::size_t begin, bool control,
                                const Vocabulary& vocabulary) const;

  std::vector<std::vector<std::int32_t>> by_first_byte_;  // longest names first
};

}  // namespace decoder
