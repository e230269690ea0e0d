#include "attempt.hpp"

#include <algorithm>
#include <span>

namespace accuracy {
namespace {

/// Adds up what a cache holds, step by step.
class Holdings {
 public:
  void add(const decoder::KVCache& cache) {
    for (std::size_t layer = 0; layer < cache.layers(); ++layer) {
      sum_ += static_cast<double>(cache.size(layer));
      peak_ = std::max(peak_, cache.size(layer));
      ++count_;
    }
  }

  [[nodiscard]] double mean() const { return count_ != 0 ? sum_ / static_cast<double>(count_) : 0; }
  [[nodiscard]] std::size_t peak() const { return peak_; }

 private:
  double sum_ = 0;
  std::size_t count_ = 0;
  std::size_t peak_ = 0;
};

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

}  // namespace

bool Attempt::is_solved() const {
  return std::all_of(answers.begin(), answers.end(),
                     [](const Lookup& each) { return each.is_right; });
}

Attempt attempt(decoder::Decoder& decoder, decoder::Sequence& sequence, const Problem& problem,
                Feeding feeding) {
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
  result.mean_kept = holdings.mean();
  result.peak_kept = holdings.peak();
  return result;
}

std::vector<std::uint32_t> last_needs(const Problem& problem) {
  const bool is_program = problem.answers_from > problem.prompt;
  std::vector<std::uint32_t> needs(problem.symbols.size());
  for (std::size_t i = 0; i < needs.size(); ++i) {
    const bool is_program_text =
        is_program && i < problem.prompt && problem.symbols[i] < first_value;
    needs[i] = static_cast<std::uint32_t>(is_program_text ? problem.answers_from : i);
    if (problem.sources[i] < 0) continue;
    std::uint32_t& need = needs[static_cast<std::size_t>(problem.sources[i])];
    need = std::max(need, static_cast<std::uint32_t>(i));
  }
  return needs;
}

}  // namespace accuracy
