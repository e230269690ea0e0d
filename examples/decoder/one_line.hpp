#pragma once

#include <string>
#include <string_view>

namespace decoder {

/// `text` with '?' for each byte of its control characters (U+0080 to U+009F too, which begin
/// commands to some terminals), so that a terminal shows it as one line. O(n).
inline std::string without_controls(std::string_view text) {
  std::string line(text);
  unsigned char before = 0;
  for (char& c : line) {
    const auto byte = static_cast<unsigned char>(c);
    const bool is_second = before == 0xC2 && byte >= 0x80 && byte < 0xA0;
    if (is_second) (&c)[-1] = '?';
    if (is_second || byte < 0x20 || byte == 0x7F) c = '?';
    before = byte;
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
