#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "byte_pair.hpp"
#include "gguf.hpp"
#include "sentence_piece.hpp"
#include "special_tokens.hpp"
#include "vocabulary.hpp"

namespace decoder {

/// The tokenizer a GGUF file carries; keeps nothing of the file and may be shared by threads.
class Tokenizer {
 public:
  /// Reads tokenizer.ggml.*; throws Error for an unknown model or pre-tokenizer or a vocabulary
  /// that contradicts itself. O(vocabulary).
  explicit Tokenizer(const gguf::File& file);

  /// Tokens of `text` (any bytes below 2 GiB), without a beginning-of-text token.
  ///
  /// With `parse_special`, names of control tokens in the text become those tokens; without it they
  /// are text, as foreign input should be. User-defined tokens always match. O(n log n).
  std::vector<std::int32_t> encode(std::string_view text, bool parse_special) const;
  /// encode() with special tokens, after the beginning-of-text token where the file asks for one.
  std::vector<std::int32_t> encode_prompt(std::string_view text) const;

  /// Bytes that `ids` stand for; control tokens give their names. Throws Error for an id outside
  /// the vocabulary.
  std::string decode(std::span<const std::int32_t> ids) const;
  /// Bytes that one token stands for; not always whole characters (see Utf8Stream).
  const std::string& piece(std::int32_t id) const;

  /// Tokens in the vocabulary.
  std::size_t size() const noexcept { return vocabulary_.size(); }
  /// Beginning-of-text token, where the file names one.
  std::optional<std::int32_t> bos() const noexcept { return bos_; }
  /// End-of-text token, where the file names one.
  std::optional<std::int32_t> eos() const noexcept { return eos_; }
  /// How many bytes of a prompt the vocabulary cannot say.
  std::size_t count_unknown(std::string_view text) const;
  /// Whether generation ends at this token: the file's end tokens and the known families'
  /// end-of-turn.
  bool is_end(std::int32_t id) const noexcept;

 private:
  using Model = std::variant<BytePairModel, SentencePieceModel>;

  Tokenizer(const gguf::File& file, std::string_view model);
  static Model make_model(const gguf::File& file, const Vocabulary& vocabulary, bool byte_level);
  std::optional<std::int32_t> token_at(const gguf::File& file, std::string_view key) const;
  void collect_ends(const gguf::File& file);
  void encode_text(std::string_view text, std::vector<std::int32_t>& ids) const;

  Vocabulary vocabulary_;
  SpecialTokens special_;
  Model model_;
  std::optional<std::int32_t> bos_;
  std::optional<std::int32_t> eos_;
  bool adds_bos_ = false;
  std::vector<std::int32_t> ends_;
};

}  // namespace decoder
