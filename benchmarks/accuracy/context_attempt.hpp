/// Reads a context under a policy, and asks the questions of what is left of it.
#pragma once

#include <cstddef>
#include <vector>

#include "attempt.hpp"
#include "contexts.hpp"
#include "decoder.hpp"
#include "tokenizer.hpp"

namespace accuracy {

/// A context as a model reads it.
struct TokenContext {
  /// A question: what is read, and behind it the answer.
  struct Asked {
    std::vector<Token> tokens;
    std::size_t given = 0;
    /// Whether every token of the answer counts by itself.
    bool by_token = false;
    /// Tokens from the end of the line that states the answer to the answer.
    std::size_t gap = 0;
  };

  std::vector<Token> text;
  /// Read behind the text, once, before the questions.
  std::vector<Token> examples;
  /// Tokens of the heading.
  std::size_t heading = 0;
  std::vector<Asked> questions;

  /// Tokens that are read behind the text, at most: the examples and the longest question with its
  /// answer.
  [[nodiscard]] std::size_t room() const;
  /// The text, the examples and, one after another, all questions with their answers: what an
  /// oracle is told.
  [[nodiscard]] std::vector<Token> with_questions() const;
};

/// Heading, lines, examples and questions, each made tokens by itself, behind the beginning-of-text
/// token where there is one.
[[nodiscard]] TokenContext tokens_of(const Context& context, const decoder::Tokenizer& tokenizer);

/// The context of this task, size and seed, measured in the tokenizer's tokens.
[[nodiscard]] TokenContext make_token_context(Task task, const ProblemSize& size,
                                              std::uint64_t seed,
                                              const decoder::Tokenizer& tokenizer);

/// Reads the text, pruning as it goes, then the examples, then asks every question of the same
/// cache, which keeps all of a question and forgets it behind it. An answer is right when each of
/// its tokens is the likeliest after those before: when greedy decoding would write it. sequence:
/// empty, with its policy, and a cache that has context.room() beyond the policy's budget; holds
/// the pruned text and the examples afterwards, and no policy.
[[nodiscard]] Attempt attempt(decoder::Decoder& decoder, decoder::Sequence& sequence,
                              const TokenContext& context);

}  // namespace accuracy
