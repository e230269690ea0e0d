#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace decoder {

/// Bytes of the well-formed UTF-8 character that `text` begins with; 0 when there is none.
///
/// Well-formed as Unicode table 3-7 says: no overlong forms, surrogates or values past U+10FFFF.
/// O(1).
std::size_t utf8_character(std::string_view text) noexcept;

/// Bytes of the longest prefix of `text` that is well-formed UTF-8. O(n).
std::size_t utf8_prefix(std::string_view text) noexcept;

/// Joins pieces of text whose borders may cut characters, for printing while tokens arrive.
class Utf8Stream {
 public:
  /// Takes the next piece; returns what can be shown now.
  ///
  /// At most three bytes are held back, those that may still become a character. Bytes that never
  /// can are passed on as they are. O(piece).
  std::string push(std::string_view piece);
  /// Returns the bytes held back, as they are, and forgets them.
  std::string flush();

 private:
  std::string held_;
};

}  // namespace decoder
