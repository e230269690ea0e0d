#include "loops.hpp"

#include <algorithm>
#include <set>
#include <stdexcept>
#include <vector>

namespace decoder {
namespace {

void check(const LoopConfig& config) {
  if (config.longest_period == 0)
    throw std::invalid_argument("LoopConfig::longest_period is 0: give 1 or more");
  if (config.least_repetitions < 2)
    throw std::invalid_argument("LoopConfig::least_repetitions is below 2: once is no repetition");
  if (config.ngram == 0) throw std::invalid_argument("LoopConfig::ngram is 0: give 1 or more");
}

class LoopSearch {
 public:
  LoopSearch(std::span<const std::int32_t> text, const LoopConfig& config)
      : text_(text), config_(config), looped_(text.size(), false) {}

  void scan(std::size_t period) {
    std::size_t matches = 0;
    for (std::size_t i = period; i < text_.size(); ++i) {
      if (text_[i] == text_[i - period]) {
        ++matches;
      } else {
        close(i, matches, period);
        matches = 0;
      }
    }
    close(text_.size(), matches, period);
  }

  void finish(LoopReport& report) const {
    report.longest = longest_;
    report.ends_in_loop = !looped_.empty() && looped_.back();
    report.looped_tokens =
        static_cast<std::size_t>(std::count(looped_.begin(), looped_.end(), true));
  }

 private:
  void close(std::size_t end, std::size_t matches, std::size_t period) {
    const std::size_t tokens = matches + period;
    if (tokens < config_.least_tokens || tokens < config_.least_repetitions * period) return;
    const std::size_t first = end - tokens;
    std::fill_n(looped_.begin() + static_cast<std::ptrdiff_t>(first), tokens, true);
    if (tokens > longest_.tokens) longest_ = {.first = first, .tokens = tokens, .period = period};
  }

  std::span<const std::int32_t> text_;
  const LoopConfig& config_;
  std::vector<bool> looped_;
  Loop longest_;
};

double repeated_ngrams(std::span<const std::int32_t> text, std::size_t order) {
  if (text.size() < order) return 0;
  std::set<std::vector<std::int32_t>> seen;
  const std::size_t total = text.size() - order + 1;
  for (std::size_t i = 0; i < total; ++i) {
    const auto gram = text.subspan(i, order);
    seen.emplace(gram.begin(), gram.end());
  }
  return static_cast<double>(total - seen.size()) / static_cast<double>(total);
}

LoopVerdict judge(const LoopReport& report, const LoopConfig& config) {
  if (report.loop_rate >= config.degenerate_rate) return LoopVerdict::degenerate;
  if (report.ends_in_loop || report.repeated_ngrams >= config.repetitive_share)
    return LoopVerdict::repetitive;
  return LoopVerdict::clean;
}

}  // namespace

LoopReport find_loops(std::span<const std::int32_t> text, const LoopConfig& config) {
  check(config);
  LoopReport report;
  report.tokens = text.size();
  if (text.empty()) return report;
  LoopSearch search(text, config);
  const std::size_t last = std::min(config.longest_period, text.size() - 1);
  for (std::size_t period = 1; period <= last; ++period) search.scan(period);
  search.finish(report);
  report.loop_rate = static_cast<double>(report.looped_tokens) / static_cast<double>(report.tokens);
  report.repeated_ngrams = repeated_ngrams(text, config.ngram);
  report.verdict = judge(report, config);
  return report;
}

std::string_view name(LoopVerdict verdict) {
  switch (verdict) {
    case LoopVerdict::clean:
      return "clean";
    case LoopVerdict::repetitive:
      return "repetitive";
    case LoopVerdict::degenerate:
      return "degenerate";
  }
  return "unknown";
}

}  // namespace decoder
