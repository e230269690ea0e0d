#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "gguf.hpp"
#include "vocabulary.hpp"

namespace decoder {

/// SentencePiece's byte-pair encoding by scores with byte fallback, GGUF's tokenizer model "llama".
class SentencePieceModel {
 public:
  /// Reads tokenizer.ggml.scores and the unknown token; throws Error when they do not fit.
  /// O(tokens).
  SentencePieceModel(const gguf::File& file, const Vocabulary& vocabulary);

  /// Appends the tokens of `text`, which begins the whole text or follows a special token, to
  /// `ids`.
  ///
  /// Characters outside the vocabulary become byte tokens. O(n log n), n bytes below 2^31.
  void encode(std::string_view text, const Vocabulary& vocabulary,
              std::vector<std::int32_t>& ids) const;

  /// The token of characters that the vocabulary lacks, where they do not become byte tokens.
  std::int32_t unknown() const noexcept { return unknown_; }
  /// Whether encoding puts a space before the text, which decoding takes away again.
  bool adds_space() const noexcept { return adds_space_; }

 private:
  void append(std::string_view bytes, std::int32_t token, const Vocabulary& vocabulary,
              std::vector<std::int32_t>& ids) const;

  std::vector<float> scores_;
  std::int32_t unknown_ = 0;
  bool adds_space_ = true;
};

}  // namespace decoder
