#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace decoder {

/// When generated text counts as a loop.
struct LoopConfig {
  std::size_t longest_period = 256;   ///< tokens; a paragraph, the longest unit seen repeated whole
  std::size_t least_repetitions = 3;  ///< twice happens in good prose (refrains, lists)
  std::size_t least_tokens = 24;      ///< shorter runs are rows of dots, rules and tables
  std::size_t ngram = 4;              ///< tokens; the usual order of the rep-n figure
  double degenerate_rate = 0.2;       ///< a fifth of the text in loops makes any policy look good
  double repetitive_share = 0.5;      ///< half of all n-grams seen before: little new is said
};

/// What a text's repetition amounts to.
enum class LoopVerdict { clean, repetitive, degenerate };

/// One run of tokens that repeat with a fixed period.
struct Loop {
  std::size_t first = 0;   ///< index of its first token
  std::size_t tokens = 0;  ///< tokens in the run, all repetitions counted; 0: no loop
  std::size_t period = 0;  ///< tokens after which it repeats
};

/// Repetition found in a text.
struct LoopReport {
  std::size_t tokens = 0;         ///< tokens in the text
  std::size_t looped_tokens = 0;  ///< tokens inside at least one loop
  double loop_rate = 0;           ///< looped_tokens / tokens
  Loop longest;                   ///< the longest loop, the shortest period among equals
  bool ends_in_loop = false;      ///< a loop reaches the last token: it would have gone on
  double repeated_ngrams = 0;     ///< share of n-grams that occurred earlier in the text
  LoopVerdict verdict = LoopVerdict::clean;
};

/// Looks for degenerate repetition: token runs that repeat with a period, and repeated n-grams.
///
/// @param text    tokens in order
/// @param config  thresholds
/// @return counts, rates and a verdict; all zero for an empty text
/// @throws std::invalid_argument for fewer than 2 repetitions, or a period or n-gram of 0
/// Complexity: O(tokens x longest_period).
LoopReport find_loops(std::span<const std::int32_t> text, const LoopConfig& config = {});

/// "clean", "repetitive" or "degenerate".
std::string_view name(LoopVerdict verdict);

}  // namespace decoder
