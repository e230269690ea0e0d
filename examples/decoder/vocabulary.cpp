#include "vocabulary.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>

#include "error.hpp"
#include "utf8.hpp"

namespace decoder {

namespace {

/// GPT-2's map gives printable Latin-1 bytes their own code point and the others 256, 257, ... in
/// order.
constexpr bool prints_as_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr unsigned mapped_characters = 256 + 68;

constexpr std::array<int, mapped_characters> byte_of_character() {
  std::array<int, mapped_characters> bytes{};
  bytes.fill(-1);
  unsigned next = 256;
  for (unsigned byte = 0; byte < 256; ++byte) {
    bytes[prints_as_itself(byte) ? byte : next++] = static_cast<int>(byte);
  }
  return bytes;
}

/// Code point of a well-formed UTF-8 character of one or two bytes; all the map's characters are.
unsigned code_point(std::string_view character) {
  const auto lead = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return lead;
  return ((lead & 0x1Fu) << 6) | (static_cast<unsigned char>(character[1]) & 0x3Fu);
}

std::string from_sentence_piece(std::string_view spelled) {
  constexpr std::string_view space = "\xE2\x96\x81";
  std::string bytes(spelled);
  for (std::size_t at = 0; (at = bytes.find(space, at)) != std::string::npos; ++at) {
    bytes.replace(at, space.size(), " ");
  }
  return bytes;
}

/// Value of a byte token's name, "<0xNN>", or -1.
int named_byte(std::string_view name) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  if (name.size() != 6 || name.substr(0, 3) != "<0x" || name[5] != '>') return -1;
  const std::size_t high = digits.find(name[3]);
  const std::size_t low = digits.find(name[4]);
  if (high == digits.npos || low == digits.npos) return -1;
  return static_cast<int>(high * 16 + low);
}

bool known_kind(std::int32_t kind) {
  return kind >= static_cast<std::int32_t>(TokenKind::normal) &&
         kind <= static_cast<std::int32_t>(TokenKind::byte);
}

}  // namespace

std::string from_byte_level(std::string_view spelled) {
  static constexpr auto bytes = byte_of_character();
  std::string plain;
  for (std::string_view rest = spelled; !rest.empty();) {
    const std::size_t length = utf8_character(rest);
    if (length == 0 || length > 2) return std::string(spelled);
    const unsigned character = code_point(rest.substr(0, length));
    if (character >= bytes.size() || bytes[character] < 0) return std::string(spelled);
    plain += static_cast<char>(bytes[character]);
    rest.remove_prefix(length);
  }
  return plain;
}

Vocabulary::Vocabulary(const gguf::File& file, TokenSpelling spelling) {
  const auto& spelled = file.strings("tokenizer.ggml.tokens");
  if (spelled.empty() ||
      spelled.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
    throw file.error("has a vocabulary of " + std::to_string(spelled.size()) +
                     " tokens; convert the model again");
  }
  kinds_.assign(spelled.size(), TokenKind::normal);
  if (file.has("tokenizer.ggml.token_type")) read_kinds(file);
  read_bytes(spelled, spelling);
  index_bytes(spelled, spelling);
  ids_.reserve(spelled.size());
  index_tokens(TokenKind::normal);
  index_tokens(TokenKind::user_defined);
}

void Vocabulary::read_bytes(const std::vector<std::string_view>& spelled, TokenSpelling spelling) {
  const auto plain = spelling == TokenSpelling::byte_level ? from_byte_level : from_sentence_piece;
  bytes_.reserve(spelled.size());
  for (std::size_t id = 0; id < spelled.size(); ++id) {
    const bool named = kinds_[id] == TokenKind::control || kinds_[id] == TokenKind::user_defined;
    bytes_.push_back(named ? std::string(spelled[id]) : plain(spelled[id]));
  }
}

void Vocabulary::read_kinds(const gguf::File& file) {
  const std::vector<std::int32_t> kinds = file.integers("tokenizer.ggml.token_type");
  if (kinds.size() != kinds_.size()) {
    throw file.error("has " + std::to_string(kinds_.size()) + " tokens but " +
                     std::to_string(kinds.size()) + " token types; convert the model again");
  }
  std::transform(kinds.begin(), kinds.end(), kinds_.begin(), [](std::int32_t kind) {
    return known_kind(kind) ? static_cast<TokenKind>(kind) : TokenKind::unused;
  });
}

void Vocabulary::index_tokens(TokenKind kind) {
  for (std::size_t id = 0; id < bytes_.size(); ++id) {
    if (kinds_[id] == kind) ids_.try_emplace(bytes_[id], static_cast<std::int32_t>(id));
  }
}

void Vocabulary::index_bytes(const std::vector<std::string_view>& spelled, TokenSpelling spelling) {
  for (std::size_t id = 0; id < bytes_.size(); ++id) {
    int value = -1;
    if (spelling == TokenSpelling::byte_level && kinds_[id] == TokenKind::normal) {
      if (bytes_[id].size() == 1) value = static_cast<unsigned char>(bytes_[id][0]);
    } else if (kinds_[id] == TokenKind::byte) {
      value = named_byte(spelled[id]);
    }
    if (value < 0) continue;
    auto& token = byte_tokens_[static_cast<std::size_t>(value)];
    if (token < 0) token = static_cast<std::int32_t>(id);
    if (kinds_[id] == TokenKind::byte) bytes_[id] = std::string(1, static_cast<char>(value));
  }
}

std::int32_t Vocabulary::find(std::string_view bytes) const {
  const auto found = ids_.find(bytes);
  return found == ids_.end() ? -1 : found->second;
}

}  // namespace decoder
