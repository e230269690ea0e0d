#include "sentence_piece.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "error.hpp"
#include "merge_queue.hpp"
#include "utf8.hpp"

namespace decoder {

SentencePieceModel::SentencePieceModel(const gguf::File& file, const Vocabulary& vocabulary)
    : scores_(file.numbers("tokenizer.ggml.scores")),
      adds_space_(file.boolean("tokenizer.ggml.add_space_prefix", true)) {
  const bool finite =
      std::all_of(scores_.begin(), scores_.end(), [](float score) { return std::isfinite(score); });
  if (scores_.size() != vocabulary.size() || !finite) {
    throw file.error("tokenizer.ggml.scores does not give each of the " +
                     std::to_string(vocabulary.size()) +
                     " tokens a finite score; convert the model again");
  }
  const std::uint64_t unknown = file.integer("tokenizer.ggml.unknown_token_id", 0);
  if (unknown >= vocabulary.size()) {
    throw file.error(
        "tokenizer.ggml.unknown_token_id is outside the vocabulary; convert the model again");
  }
  unknown_ = static_cast<std::int32_t>(unknown);
}

void SentencePieceModel::encode(std::string_view text, const Vocabulary& vocabulary,
                                std::vector<std::int32_t>& ids) const {
  if (text.empty()) return;
  const std::string spaced = (adds_space_ ? " " : "") + std::string(text);
  const std::string_view bytes = spaced;
  MergeQueue queue;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t length = std::max<std::size_t>(1, utf8_character(bytes.substr(at)));
    queue.push(vocabulary.find(bytes.substr(at, length)), static_cast<std::uint32_t>(at),
               static_cast<std::uint32_t>(length));
    at += length;
  }
  queue.run([&](const Symbol& left, const Symbol& right) -> Merge {
    const std::int32_t id = vocabulary.find(bytes.substr(left.begin, left.length + right.length));
    return id < 0 ? Merge{}
                  : Merge{-static_cast<double>(scores_[static_cast<std::size_t>(id)]), id};
  });
  queue.each([&](const Symbol& symbol) {
    append(bytes.substr(symbol.begin, symbol.length), symbol.token, vocabulary, ids);
  });
}

void SentencePieceModel::append(std::string_view bytes, std::int32_t token,
                                const Vocabulary& vocabulary,
                                std::vector<std::int32_t>& ids) const {
  if (token >= 0) {
    ids.push_back(token);
    return;
  }
  for (const char character : bytes) {
    const std::int32_t byte = vocabulary.byte_token(static_cast<unsigned char>(character));
    ids.push_back(byte >= 0 ? byte : unknown_);
  }
}

}  // namespace decoder
