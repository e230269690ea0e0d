#include "attempt.hpp"

#include <algorithm>
#include <span>

#include "holdings.hpp"
#include "stopwatch.hpp"

namespace accuracy {
namespace {

Token likeliest(std::span<const float> logits) {
  return static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

void judge(const Problem& problem, std::size_t index, bool is_right, Attempt& attempt) {
  ++attempt.produced;
  if (is_right) ++attempt.right;
  if (!is_right && !attempt.first_error) attempt.first_error = index;
  if (problem.roles[index] != Role::lookup) return;
  const Lookup lookup{.gap = index - static_cast<std::size_t>(problem.sources[index]),
                      .is_right = is_right};
  (index >= problem.answers_from ? attempt.answers : attempt.steps).push_back(lookup);
}

/// An instruction and what it is worked out with: "! f + k > a |", "f f=7 7 + k k=2 2 > 9 a a=9".
constexpr std::uint32_t line_in_hand = 24;

/// The number of rounds left, which the next one is counted from.
bool is_round(Token symbol) { return symbol >= first_round && symbol < first_value; }

}  // namespace

bool Attempt::is_solved() const {
  return std::all_of(answers.begin(), answers.end(),
                     [](const Lookup& each) { return each.is_right; });
}

Attempt attempt(decoder::Decoder& decoder, decoder::Sequence& sequence, const Problem& problem,
                Feeding feeding) {
  const decoder::Stopwatch watch;
  Attempt result;
  Holdings holdings;
  const std::span<const Token> text(problem.symbols);
  std::span<const float> logits = decoder.prefill(sequence, text.first(problem.prompt));
  for (std::size_t i = problem.prompt; i < text.size(); ++i) {
    Token next = text[i];
    if (problem.roles[i] != Role::given) {
      const Token own = likeliest(logits);
      judge(problem, i, own == next, result);
      if (feeding == Feeding::own) next = own;
    }
    if (i + 1 == text.size()) break;
    logits = decoder.step(sequence, next);
    holdings.add(sequence.cache);
  }
  holdings.tell(result);
  result.seconds = watch.seconds();
  return result;
}

std::vector<std::uint32_t> last_needs(const Problem& problem) {
  std::vector<std::uint32_t> needs(problem.symbols.size());
  const auto last = static_cast<std::uint32_t>(needs.size() - 1);
  const bool computes = std::find(problem.roles.begin(), problem.roles.end(), Role::arithmetic) !=
                        problem.roles.end();
  const bool is_program = problem.answers_from > problem.prompt;
  std::uint32_t next_round = last;
  for (std::uint32_t i = last + 1; i-- > 0;) {
    const Token symbol = problem.symbols[i];
    needs[i] = std::min(last, i + (computes ? line_in_hand : 0));
    if (is_program && i < problem.prompt && symbol < first_value) needs[i] = last;
    if (!is_round(symbol)) continue;
    needs[i] = std::max(needs[i], next_round);
    next_round = i;
  }
  for (std::uint32_t i = 0; i <= last; ++i) {
    if (problem.sources[i] < 0) continue;
    std::uint32_t& need = needs[static_cast<std::size_t>(problem.sources[i])];
    need = std::max(need, i);
  }
  return needs;
}

decoder::FutureLooks looks_needed(const Problem& problem, std::size_t layers) {
  std::vector<std::vector<decoder::Look>> looks;
  for (const std::uint32_t need : last_needs(problem)) looks.push_back({{need, 1.0f}});
  return decoder::FutureLooks(layers, looks);
}

}  // namespace accuracy
