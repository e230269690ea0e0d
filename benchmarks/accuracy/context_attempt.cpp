#include "context_attempt.hpp"

#include <algorithm>
#include <numeric>
#include <span>

#include "fidelity.hpp"
#include "holdings.hpp"
#include "stopwatch.hpp"

namespace accuracy {
namespace {

/// A sequence's cache and place, to come back to.
class Mark {
 public:
  explicit Mark(const decoder::Sequence& sequence) : position_(sequence.position) {
    const std::size_t heads = sequence.cache.heads();
    for (std::size_t strip = 0; strip < sequence.cache.layers() * heads; ++strip)
      sizes_.push_back(sequence.cache.size(strip / heads, strip % heads));
    slots_.resize(*std::max_element(sizes_.begin(), sizes_.end()));
    std::iota(slots_.begin(), slots_.end(), lethe::Slot{0});
  }

  /// Drops what came since.
  void return_to(decoder::Sequence& sequence) const {
    const std::size_t heads = sequence.cache.heads();
    std::vector<lethe::EvictionPlan> plans;
    for (std::size_t strip = 0; strip < sizes_.size(); ++strip) {
      const std::size_t layer = strip / heads;
      const std::size_t head = strip % heads;
      plans.push_back({.layer = static_cast<std::uint32_t>(layer),
                       .head = static_cast<std::uint32_t>(head),
                       .tokens = static_cast<std::uint32_t>(sequence.cache.size(layer, head)),
                       .first_move = static_cast<std::uint32_t>(sizes_[strip]),
                       .kept = std::span(slots_).first(sizes_[strip])});
    }
    sequence.cache.apply(plans);
    sequence.position = position_;
  }

 private:
  std::size_t position_;
  std::vector<std::size_t> sizes_;  // of each head of each layer
  std::vector<lethe::Slot> slots_;
};

void read_text(decoder::Decoder& decoder, decoder::Sequence& sequence, const TokenContext& context,
               Holdings& holdings) {
  const std::span<const Token> text(context.text);
  for (std::size_t first = 0; first < text.size();) {
    const std::size_t count = std::min(decoder::Pruner::largest_chunk, text.size() - first);
    (void)decoder.prefill(sequence, text.subspan(first, count));
    first += count;
    holdings.add(sequence.cache);
  }
}

void ask_question(decoder::Decoder& decoder, decoder::Sequence& sequence,
                  const TokenContext::Asked& asked, Attempt& result) {
  const std::span<const Token> tokens(asked.tokens);
  const auto logits =
      decoder.prefill(sequence, tokens.first(tokens.size() - 1), decoder::LogitsOf::all);
  const std::size_t vocabulary = logits.size() / (tokens.size() - 1);
  std::size_t right = 0;
  for (std::size_t i = asked.given; i < tokens.size(); ++i) {
    const std::size_t said = decoder::argmax(logits.subspan((i - 1) * vocabulary, vocabulary));
    right += said == static_cast<std::size_t>(tokens[i]) ? 1 : 0;
  }
  const std::size_t wanted = tokens.size() - asked.given;
  result.produced += wanted;
  result.right += right;
  if (!asked.by_token) result.answers.push_back({.gap = asked.gap, .is_right = right == wanted});
  for (std::size_t i = 0; asked.by_token && i < wanted; ++i)
    result.answers.push_back({.gap = asked.gap, .is_right = i < right});
}

void append(std::vector<Token>& tokens, const std::vector<Token>& more) {
  tokens.insert(tokens.end(), more.begin(), more.end());
}

}  // namespace

std::size_t TokenContext::room() const {
  std::size_t longest = 0;
  for (const Asked& each : questions) longest = std::max(longest, each.tokens.size());
  return examples.size() + longest;
}

std::vector<Token> TokenContext::with_questions() const {
  std::vector<Token> all = text;
  append(all, examples);
  for (const Asked& each : questions) append(all, each.tokens);
  return all;
}

TokenContext tokens_of(const Context& context, const decoder::Tokenizer& tokenizer) {
  TokenContext result;
  if (const auto begin = tokenizer.bos()) result.text.push_back(*begin);
  append(result.text, tokenizer.encode(context.heading, false));
  result.heading = result.text.size();
  std::vector<std::size_t> ends;
  for (const std::string& line : context.lines) {
    append(result.text, tokenizer.encode(line, false));
    ends.push_back(result.text.size());
  }
  for (const std::string& line : context.examples)
    append(result.examples, tokenizer.encode(line, false));
  for (const Question& question : context.questions) {
    TokenContext::Asked asked{.tokens = tokenizer.encode(question.given, false)};
    asked.given = asked.tokens.size();
    asked.gap = result.text.size() - ends[question.line] + result.examples.size() + asked.given;
    append(asked.tokens, tokenizer.encode(question.answer, false));
    result.questions.push_back(std::move(asked));
  }
  return result;
}

TokenContext make_token_context(Task task, const ProblemSize& size, std::uint64_t seed,
                                const decoder::Tokenizer& tokenizer) {
  const auto measure = [&](const std::string& text) {
    return tokenizer.encode(text, false).size();
  };
  TokenContext context = tokens_of(make_context(task, size, seed, measure), tokenizer);
  for (TokenContext::Asked& each : context.questions) each.by_token = task != Task::fewshot;
  return context;
}

Attempt attempt(decoder::Decoder& decoder, decoder::Sequence& sequence,
                const TokenContext& context) {
  const decoder::Stopwatch watch;
  Attempt result;
  Holdings holdings;
  read_text(decoder, sequence, context, holdings);
  sequence.pruner = {};
  if (!context.examples.empty()) (void)decoder.prefill(sequence, context.examples);
  const Mark start(sequence);
  for (const TokenContext::Asked& asked : context.questions) {
    ask_question(decoder, sequence, asked, result);
    start.return_to(sequence);
  }
  holdings.tell(result);
  result.seconds = watch.seconds();
  return result;
}

}  // namespace accuracy
