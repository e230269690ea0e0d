#pragma once

#include <string>
#include <string_view>

namespace decoder {

/// `text` fit for an error message: control characters become '?', the rest beyond 200 bytes "...".
/// O(n).
inline std::string one_line(std::string_view text) {
  constexpr std::size_t limit = 200;
  std::string line(text.substr(0, limit));
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text.size() > limit ? line + "..." : line;
}

}  // namespace decoder
