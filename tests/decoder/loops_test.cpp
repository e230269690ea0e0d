#include "loops.hpp"

#include "catch.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <stdexcept>
#include <vector>

namespace {

using Text = std::vector<std::int32_t>;

// Marks every window [first, first + tokens) that repeats with a period, all of them tried.
std::size_t naive_looped_tokens(const Text& text, const decoder::LoopConfig& config) {
  std::set<std::size_t> looped;
  for (std::size_t period = 1; period <= config.longest_period; ++period) {
    for (std::size_t first = 0; first < text.size(); ++first) {
      std::size_t end = first + period;
      while (end < text.size() && text[end] == text[end - period]) ++end;
      const std::size_t tokens = end - first;
      if (end > text.size() || tokens < config.least_tokens) continue;
      if (tokens < config.least_repetitions * period) continue;
      for (std::size_t i = first; i < end; ++i) looped.insert(i);
    }
  }
  return looped.size();
}

Text distinct(std::size_t tokens) {
  Text text(tokens);
  for (std::size_t i = 0; i < tokens; ++i) text[i] = static_cast<std::int32_t>(1000 + i);
  return text;
}

void append_loop(Text& text, std::int32_t period, int repetitions) {
  for (int r = 0; r < repetitions; ++r)
    for (std::int32_t i = 0; i < period; ++i) text.push_back(i);
}

}  // namespace

TEST_CASE("text without repetition is clean", "[loops]") {
  const auto report = decoder::find_loops(distinct(500));
  CHECK(report.tokens == 500);
  CHECK(report.looped_tokens == 0);
  CHECK(report.repeated_ngrams == 0.0);
  CHECK_FALSE(report.ends_in_loop);
  CHECK(report.verdict == decoder::LoopVerdict::clean);
  CHECK(decoder::find_loops({}).tokens == 0);
}

TEST_CASE("a loop at the end is found with its period", "[loops]") {
  Text text = distinct(100);
  append_loop(text, 11, 6);
  const auto report = decoder::find_loops(text);
  CHECK(report.longest.first == 100);
  CHECK(report.longest.tokens == 66);
  CHECK(report.longest.period == 11);
  CHECK(report.ends_in_loop);
  CHECK(report.looped_tokens == 66);
  CHECK(report.verdict == decoder::LoopVerdict::degenerate);
}

TEST_CASE("a short loop in the middle is counted, not condemned", "[loops]") {
  Text text = distinct(300);
  append_loop(text, 8, 4);
  const Text rest = distinct(900);
  text.insert(text.end(), rest.begin() + 300, rest.end());
  const auto report = decoder::find_loops(text);
  CHECK(report.looped_tokens == 32);
  CHECK_FALSE(report.ends_in_loop);
  CHECK(report.verdict == decoder::LoopVerdict::clean);
}

TEST_CASE("twice the same paragraph is no loop, but its n-grams are repeated", "[loops]") {
  Text text = distinct(40);
  const Text again = text;
  text.insert(text.end(), again.begin(), again.end());
  const auto report = decoder::find_loops(text);
  CHECK(report.looped_tokens == 0);
  CHECK(std::abs(report.repeated_ngrams - 37.0 / 77.0) < 1e-15);
}

TEST_CASE("looped tokens equal a naive search", "[loops]") {
  std::mt19937 random(7);
  const decoder::LoopConfig config{.longest_period = 9, .least_repetitions = 3, .least_tokens = 8};
  std::size_t found = 0;
  for (int trial = 0; trial < 300; ++trial) {
    Text text(120);
    for (auto& token : text) token = static_cast<std::int32_t>(random() % 2);
    const auto report = decoder::find_loops(text, config);
    REQUIRE(report.looped_tokens == naive_looped_tokens(text, config));
    CHECK(report.longest.tokens <= report.looped_tokens);
    found += report.looped_tokens;
  }
  CHECK(found > 0);
}

TEST_CASE("settings that make no sense are refused", "[loops]") {
  const Text text = distinct(10);
  CHECK_THROWS_AS(decoder::find_loops(text, {.longest_period = 0}), std::invalid_argument);
  CHECK_THROWS_AS(decoder::find_loops(text, {.least_repetitions = 1}), std::invalid_argument);
  CHECK_THROWS_AS(decoder::find_loops(text, {.ngram = 0}), std::invalid_argument);
}

TEST_CASE("verdicts have names", "[loops]") {
  CHECK(decoder::name(decoder::LoopVerdict::clean) == "clean");
  CHECK(decoder::name(decoder::LoopVerdict::repetitive) == "repetitive");
  CHECK(decoder::name(decoder::LoopVerdict::degenerate) == "degenerate");
}
