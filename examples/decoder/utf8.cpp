#include "utf8.hpp"

#include <utility>

namespace decoder {

namespace {

/// Length a lead byte promises, and the range its second byte must lie in.
struct Lead {
  std::size_t length;
  unsigned char second_low;
  unsigned char second_high;
};

Lead lead_of(unsigned char byte) noexcept {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

/// How many bytes at the front of `text` fit the character its first byte announces.
std::size_t fitting_bytes(std::string_view text, const Lead& lead) noexcept {
  std::size_t count = 1;
  while (count < lead.length && count < text.size()) {
    const auto byte = static_cast<unsigned char>(text[count]);
    const bool fits = count == 1 ? byte >= lead.second_low && byte <= lead.second_high
                                 : byte >= 0x80 && byte <= 0xBF;
    if (!fits) break;
    ++count;
  }
  return count;
}

/// Bytes at the end of `text` that more bytes could complete to a character.
std::size_t unfinished_tail(std::string_view text) noexcept {
  for (std::size_t tail = 1; tail <= 3 && tail <= text.size(); ++tail) {
    const std::string_view end = text.substr(text.size() - tail);
    const Lead lead = lead_of(static_cast<unsigned char>(end.front()));
    if (lead.length > tail && fitting_bytes(end, lead) == tail) return tail;
  }
  return 0;
}

}  // namespace

std::size_t utf8_character(std::string_view text) noexcept {
  if (text.empty()) return 0;
  const Lead lead = lead_of(static_cast<unsigned char>(text.front()));
  return fitting_bytes(text, lead) == lead.length ? lead.length : 0;
}

std::size_t utf8_prefix(std::string_view text) noexcept {
  std::size_t at = 0;
  while (const std::size_t length = utf8_character(text.substr(at))) at += length;
  return at;
}

std::string Utf8Stream::push(std::string_view piece) {
  held_ += piece;
  std::string ready = std::move(held_);
  const std::size_t tail = unfinished_tail(ready);
  held_ = ready.substr(ready.size() - tail);
  ready.resize(ready.size() - tail);
  return ready;
}

std::string Utf8Stream::flush() { return std::exchange(held_, std::string()); }

}  // namespace decoder
