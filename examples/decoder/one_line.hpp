#pragma once

#include <string>
#include <string_view>

namespace decoder {

/// `text` with '?' for its control characters, so that a terminal shows it as one line. O(n).
inline std::string without_controls(std::string_view text) {
  std::string line(text);
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return line;
}

/// `text` fit for an error message: control characters become '?', the rest beyond 200 bytes
/// "...". O(1).
inline std::string one_line(std::string_view text) {
  constexpr std::size_t limit = 200;
  return without_controls(text.substr(0, limit)) + (text.size() > limit ? "..." : "");
}

}  // namespace decoder
