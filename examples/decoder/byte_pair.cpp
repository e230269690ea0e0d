#include "byte_pair.hpp"

#include <bit>
#include <string>

#include "error.hpp"
#include "one_line.hpp"

namespace decoder {

namespace {

std::uint64_t pair_key(std::int32_t left, std::int32_t right) noexcept {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

// A vocabulary of user-defined tokens alone has nothing to merge, and its file no merges.
const std::vector<std::string_view>& merges_of(const gguf::File& file,
                                               const Vocabulary& vocabulary) {
  static const std::vector<std::string_view> none;
  constexpr std::string_view key = "tokenizer.ggml.merges";
  return file.has(key) || vocabulary.has_text() ? file.strings(key) : none;
}

}  // namespace

MergeTable::MergeTable(std::size_t merges) : entries_(std::bit_ceil(2 * merges + 2)) {}

std::size_t MergeTable::slot_of(std::uint64_t pair) const noexcept {
  const std::size_t mask = entries_.size() - 1;
  // Fibonacci hashing: the product's high half mixes both tokens.
  std::size_t slot = (pair * 0x9E3779B97F4A7C15u >> 32) & mask;
  while (entries_[slot].token >= 0 && entries_[slot].pair != pair) slot = (slot + 1) & mask;
  return slot;
}

void MergeTable::add(std::int32_t left, std::int32_t right, Merge merge) {
  const std::uint64_t pair = pair_key(left, right);
  Entry& entry = entries_[slot_of(pair)];
  if (entry.token < 0) entry = {pair, static_cast<std::uint32_t>(merge.cost), merge.token};
}

Merge MergeTable::find(std::int32_t left, std::int32_t right) const noexcept {
  const Entry& entry = entries_[slot_of(pair_key(left, right))];
  return {static_cast<double>(entry.rank), entry.token};
}

BytePairModel::BytePairModel(const gguf::File& file, const Vocabulary& vocabulary)
    : pretokenizer_(file.string("tokenizer.ggml.pre", "default")),
      merges_(merges_of(file, vocabulary).size()) {
  std::uint32_t rank = 0;
  for (const std::string_view line : merges_of(file, vocabulary)) {
    // From the second character on: a spelling may begin with a space in damaged vocabularies only.
    const std::size_t space = line.find(' ', 1);
    const std::string left = from_byte_level(line.substr(0, space));
    const std::string right =
        space == line.npos ? std::string() : from_byte_level(line.substr(space + 1));
    const std::int32_t left_id = vocabulary.find(left);
    const std::int32_t right_id = vocabulary.find(right);
    const std::int32_t joined = vocabulary.find(left + right);
    if (left_id < 0 || right_id < 0 || joined < 0) {
      throw file.error("merge " + std::to_string(rank) + " ('" + one_line(line) +
                       "') is not made of the vocabulary's tokens; convert the model again");
    }
    merges_.add(left_id, right_id, {static_cast<double>(rank), joined});
    ++rank;
  }
}

void BytePairModel::encode(std::string_view text, const Vocabulary& vocabulary,
                           std::vector<std::int32_t>& ids) const {
  MergeQueue queue;
  for (const std::string_view piece : pretokenizer_.split(text)) {
    const std::int32_t whole =
        pretokenizer_.whole_pieces_first() ? vocabulary.find(piece) : std::int32_t{-1};
    if (whole >= 0) {
      ids.push_back(whole);
    } else {
      encode_piece(piece, vocabulary, queue, ids);
    }
  }
}

void BytePairModel::encode_piece(std::string_view piece, const Vocabulary& vocabulary,
                                 MergeQueue& queue, std::vector<std::int32_t>& ids) const {
  queue.clear();
  std::uint32_t position = 0;
  for (const char character : piece) {
    const std::int32_t token = vocabulary.byte_token(static_cast<unsigned char>(character));
    if (token >= 0) queue.push(token, position, 1);
    ++position;
  }
  queue.run([&](const Symbol& left, const Symbol& right) {
    return merges_.find(left.token, right.token);
  });
  queue.each([&](const Symbol& symbol) { ids.push_back(symbol.token); });
}

}  // namespace decoder
