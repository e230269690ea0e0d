// Texts are read back by naive readers of their lines, which know nothing of how they were made.
#include "contexts.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "../catch.hpp"
#include "cell.hpp"

namespace {

using accuracy::Context;
using accuracy::ProblemSize;
using accuracy::Question;
using accuracy::Task;

/// In place of tokens: words and ends of sentences.
std::size_t count_words(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return c == ' ' || c == '\n' || c == '.'; }));
}

Context make(Task task, std::size_t words, std::uint64_t seed) {
  return make_context(task, context_size(task, words), seed, count_words);
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line;
  return text;
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++found;
  return found;
}

}  // namespace

TEST_CASE("what is asked is stated once, in the line that the question names") {
  for (const Task task : {Task::facts, Task::repeated}) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      const Context context = make(task, 700 + 40 * seed, seed);
      const std::string text = joined(context.lines);
      REQUIRE(context.questions.size() == 16);
      for (const Question& question : context.questions) {
        REQUIRE(count(text, question.given) == 1);
        REQUIRE(count(text, question.answer) == 1);
        REQUIRE(context.lines[question.line].find(question.given + question.answer + ".\n") == 0);
        REQUIRE(joined(context.examples).find(question.given) == std::string::npos);
      }
    }
  }
}

TEST_CASE("examples are lines of the text, none twice") {
  for (const Task task : {Task::facts, Task::repeated}) {
    const Context context = make(task, 900, 3);
    const std::set<std::string> examples(context.examples.begin(), context.examples.end());
    CHECK(examples.size() == context_size(task, 900).lines);
    for (const std::string& example : examples) CHECK(count(joined(context.lines), example) == 1);
  }
  CHECK(make(Task::fewshot, 900, 3).examples.empty());
}

TEST_CASE("questions are spread over the whole text") {
  const Context context = make(Task::facts, 1500, 4);
  const std::size_t lines = context.lines.size();
  for (std::size_t i = 0; i < 16; ++i) {
    CHECK(context.questions[i].line >= lines * i / 16);
    CHECK(context.questions[i].line < lines * (i + 1) / 16);
  }
}

TEST_CASE("new words have the label of their kind") {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Context context = make(Task::fewshot, 800, seed);
    std::map<std::string, std::size_t> newest;
    std::map<std::string, std::string> label_of;
    for (std::size_t i = 0; i < context.lines.size(); ++i) {
      const std::string& line = context.lines[i];
      const std::size_t colon = line.find(':');
      const std::string label = line.substr(colon + 1, line.size() - colon - 2);
      newest[label] = i;
      const auto [known, is_new] = label_of.try_emplace(line.substr(0, colon + 1), label);
      REQUIRE(known->second == label);
    }
    REQUIRE(newest.size() == 2);
    std::map<std::string, std::size_t> asked;
    for (const Question& question : context.questions) {
      REQUIRE(label_of.count(question.given) == 0);
      REQUIRE(newest.at(question.answer) == question.line);
      ++asked[question.answer];
    }
    REQUIRE(asked.begin()->second == 8);
  }
}

TEST_CASE("a text is as long as it may be") {
  for (const Task task : accuracy::context_tasks) {
    for (const std::size_t words : {700u, 1024u, 2048u}) {
      const Context context = make(task, words, words);
      const std::size_t length = count_words(context.heading + joined(context.lines));
      CHECK(length <= words);
      CHECK(length + 40 > words);
    }
  }
}

TEST_CASE("a seed's text is the same on every compiler, and no other seed's") {
  std::uint64_t digest = 0xCBF29CE484222325u;  // FNV-1a over the texts
  for (const Task task : accuracy::context_tasks) {
    const Context context = make(task, 700, 1);
    std::string text = context.heading + joined(context.lines) + joined(context.examples);
    for (const Question& question : context.questions) text += question.given + question.answer;
    for (const char c : text) {
      digest = (digest ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
    }
    CHECK(joined(make(task, 700, 2).lines) != joined(context.lines));
  }
  CHECK(digest == 0x460417EE88DF16FFu);
}

TEST_CASE("texts that cannot be made are refused by name") {
  CHECK_THROWS_WITH(make(Task::facts, 100, 0), "tokens 100: too few for 26 lines");
  CHECK_THROWS_AS(make(Task::loop, 1000, 0), std::invalid_argument);
  CHECK_THROWS_AS(make_problem(Task::facts, {}, 0), std::invalid_argument);
}
