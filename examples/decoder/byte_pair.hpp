#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "gguf.hpp"
#include "merge_queue.hpp"
#include "pretokenizer.hpp"
#include "vocabulary.hpp"

namespace decoder {

/// Ranks of the byte-pair merges, by the two tokens that merge.
class MergeTable {
 public:
  /// Room for `merges` entries.
  explicit MergeTable(std::size_t merges);
  /// Adds a merge unless the pair has one already. O(1) expected.
  void add(std::int32_t left, std::int32_t right, Merge merge);
  /// The merge of two tokens; its token is -1 when there is none. O(1) expected.
  Merge find(std::int32_t left, std::int32_t right) const noexcept;

 private:
  struct Entry {
    std::uint64_t pair = 0;
    std::uint32_t rank = 0;
    std::int32_t token = -1;
  };

  std::size_t slot_of(std::uint64_t pair) const noexcept;

  std::vector<Entry> entries_;  // open addressing, a power of two, at most half full
};

/// Byte-level byte-pair encoding, GGUF's tokenizer model "gpt2".
class BytePairModel {
 public:
  /// Reads tokenizer.ggml.pre and merges; throws Error for an unknown pre-tokenizer or a merge
  /// outside the vocabulary. O(merges).
  BytePairModel(const gguf::File& file, const Vocabulary& vocabulary);

  /// Appends the tokens of `text` to `ids`.
  ///
  /// Bytes for which the vocabulary has no token are dropped, as the reference implementation does.
  /// O(n log n), n bytes below 2^31.
  void encode(std::string_view text, const Vocabulary& vocabulary,
              std::vector<std::int32_t>& ids) const;

 private:
  void encode_piece(std::string_view piece, const Vocabulary& vocabulary, MergeQueue& queue,
                    std::vector<std::int32_t>& ids) const;

  Pretokenizer pretokenizer_;
  MergeTable merges_;
};

}  // namespace decoder
