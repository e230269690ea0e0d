#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gguf.hpp"

namespace decoder {

/// What a token is for; the values are GGUF's own.
enum class TokenKind : std::int32_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6,
};

/// How a vocabulary's strings stand for bytes.
enum class TokenSpelling {
  byte_level,      ///< GPT-2's map of bytes to printable characters
  sentence_piece,  ///< UTF-8, U+2581 for a space, <0xNN> for single bytes
};

/// The tokens of a model: what bytes each stands for, and which token stands for given bytes.
class Vocabulary {
 public:
  /// Reads tokenizer.ggml.tokens and token_type; throws Error when they are missing or disagree.
  /// O(bytes).
  Vocabulary(const gguf::File& file, TokenSpelling spelling);

  std::size_t size() const noexcept { return bytes_.size(); }
  /// The bytes that token `id` (below size()) stands for; control tokens stand for their name.
  const std::string& bytes(std::int32_t id) const { return bytes_[static_cast<std::size_t>(id)]; }
  TokenKind kind(std::int32_t id) const { return kinds_[static_cast<std::size_t>(id)]; }

  /// Whether plain text can become tokens, besides those that match by their whole name.
  bool has_text() const noexcept {
    return std::find(kinds_.begin(), kinds_.end(), TokenKind::normal) != kinds_.end();
  }

  /// The token that text may become for exactly these bytes, or -1; never a control or byte token.
  /// O(bytes).
  std::int32_t find(std::string_view bytes) const;
  /// The token for one byte where text has no better one, or -1. O(1).
  std::int32_t byte_token(unsigned char byte) const noexcept { return byte_tokens_[byte]; }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept {
      return std::hash<std::string_view>{}(text);
    }
  };

  void read_kinds(const gguf::File& file);
  void read_bytes(const std::vector<std::string_view>& spelled, TokenSpelling spelling);
  void index_tokens(TokenKind kind);
  void index_bytes(const std::vector<std::string_view>& spelled, TokenSpelling spelling);

  std::vector<std::string> bytes_;
  std::vector<TokenKind> kinds_;
  std::unordered_map<std::string, std::int32_t, Hash, std::equal_to<>> ids_;
  std::vector<std::int32_t> byte_tokens_ = std::vector<std::int32_t>(256, -1);
};

/// The bytes behind a GPT-2 byte-level spelling; `spelled` itself where it is none. O(n).
std::string from_byte_level(std::string_view spelled);

}  // namespace decoder
