#include "tokenizer.hpp"

#include <algorithm>
#include <array>
#include <limits>

#include "error.hpp"
#include "one_line.hpp"

namespace decoder {

namespace {

constexpr std::string_view byte_pair_name = "gpt2";
constexpr std::string_view sentence_piece_name = "llama";

/// Names under which the known families end a turn or a text, whatever the file's end token is.
constexpr std::array<std::string_view, 7> end_names{
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<\xEF\xBD\x9C"
    "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
    "</s>"};

TokenSpelling spelling_of(const gguf::File& file, std::string_view model) {
  if (model == byte_pair_name) return TokenSpelling::byte_level;
  if (model == sentence_piece_name) return TokenSpelling::sentence_piece;
  throw file.error("uses the tokenizer '" + one_line(model) +
                   "'; only 'gpt2' (byte-level BPE) and 'llama' (SentencePiece BPE) are supported");
}

}  // namespace

Tokenizer::Tokenizer(const gguf::File& file)
    : Tokenizer(file, file.string("tokenizer.ggml.model")) {}

Tokenizer::Tokenizer(const gguf::File& file, std::string_view model)
    : vocabulary_(file, spelling_of(file, model)),
      special_(vocabulary_),
      model_(make_model(file, vocabulary_, model == byte_pair_name)),
      bos_(token_at(file, "tokenizer.ggml.bos_token_id")),
      eos_(token_at(file, "tokenizer.ggml.eos_token_id")),
      // SentencePiece models begin texts with a token unless told otherwise; byte-level ones do
      // not.
      adds_bos_(file.boolean("tokenizer.ggml.add_bos_token", model == sentence_piece_name)) {
  collect_ends(file);
}

Tokenizer::Model Tokenizer::make_model(const gguf::File& file, const Vocabulary& vocabulary,
                                       bool byte_level) {
  if (byte_level) return BytePairModel(file, vocabulary);
  return SentencePieceModel(file, vocabulary);
}

std::optional<std::int32_t> Tokenizer::token_at(const gguf::File& file,
                                                std::string_view key) const {
  if (!file.has(key)) return std::nullopt;
  const std::uint64_t id = file.integer(key);
  if (id >= vocabulary_.size()) {
    throw file.error(std::string(key) + " is " + std::to_string(id) +
                     ", outside the vocabulary of " + std::to_string(vocabulary_.size()) +
                     "; convert the model again");
  }
  return static_cast<std::int32_t>(id);
}

void Tokenizer::collect_ends(const gguf::File& file) {
  if (eos_) ends_.push_back(*eos_);
  if (const auto eot = token_at(file, "tokenizer.ggml.eot_token_id")) ends_.push_back(*eot);
  for (std::int32_t id = 0; id < static_cast<std::int32_t>(size()); ++id) {
    if (vocabulary_.kind(id) != TokenKind::control) continue;
    const auto name = std::find(end_names.begin(), end_names.end(), vocabulary_.bytes(id));
    if (name != end_names.end()) ends_.push_back(id);
  }
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool parse_special) const {
  if (text.size() >= static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
    throw Error("the text has 2 GiB or more; give a shorter one");
  }
  std::vector<std::int32_t> ids;
  std::size_t done = 0;
  while (const auto match = special_.find(text, done, parse_special, vocabulary_)) {
    encode_text(text.substr(done, match->begin - done), ids);
    ids.push_back(match->id);
    done = match->end;
  }
  encode_text(text.substr(done), ids);
  return ids;
}

std::vector<std::int32_t> Tokenizer::encode_prompt(std::string_view text) const {
  std::vector<std::int32_t> ids = encode(text, true);
  const bool begins = bos_ && !ids.empty() && ids.front() == *bos_;
  if (adds_bos_ && bos_ && !begins) ids.insert(ids.begin(), *bos_);
  return ids;
}

void Tokenizer::encode_text(std::string_view text, std::vector<std::int32_t>& ids) const {
  std::visit([&](const auto& model) { model.encode(text, vocabulary_, ids); }, model_);
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  for (const std::int32_t id : ids) text += piece(id);
  const auto* spaced = std::get_if<SentencePieceModel>(&model_);
  const bool added = spaced != nullptr && spaced->adds_space() && text.starts_with(' ');
  return added ? text.substr(1) : text;
}

const std::string& Tokenizer::piece(std::int32_t id) const {
  if (id < 0 || static_cast<std::size_t>(id) >= size()) {
    throw Error("token " + std::to_string(id) + " is outside the vocabulary of " +
                std::to_string(size()) + "; the tokens must come from this model's tokenizer");
  }
  return vocabulary_.bytes(id);
}

std::size_t Tokenizer::count_unknown(std::string_view text) const {
  const std::vector<std::int32_t> ids = encode(text, true);
  if (const auto* pieces = std::get_if<SentencePieceModel>(&model_))
    return static_cast<std::size_t>(std::count(ids.begin(), ids.end(), pieces->unknown()));
  return text.size() - std::min(text.size(), decode(ids).size());
}

bool Tokenizer::is_end(std::int32_t id) const noexcept {
  return std::find(ends_.begin(), ends_.end(), id) != ends_.end();
}

}  // namespace decoder
