#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "regex.hpp"

namespace decoder {

/// Splits text into the pieces that byte-pair merges never cross, as the model's training did.
class Pretokenizer {
 public:
  /// `name` is the file's tokenizer.ggml.pre, such as "smollm"; throws Error with the known names
  /// for any other.
  explicit Pretokenizer(std::string_view name);

  /// Pieces of `text` in order; joined they are `text` again.
  ///
  /// Bytes that are not well-formed UTF-8 become pieces of their own. Views into `text`. O(n)
  /// expected.
  std::vector<std::string_view> split(std::string_view text) const;

  /// Whether a piece that is a token as it stands is taken whole, without merging.
  bool whole_pieces_first() const noexcept { return whole_pieces_first_; }

 private:
  void split_well_formed(std::string_view text, Regex::Scratch& scratch,
                         std::vector<std::string_view>& pieces) const;

  std::vector<Regex> stages_;  // each splits the pieces of the one before
  bool whole_pieces_first_ = false;
};

}  // namespace decoder
