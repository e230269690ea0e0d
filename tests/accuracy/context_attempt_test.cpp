#include "context_attempt.hpp"

#include <algorithm>
#include <vector>

#include "../catch.hpp"
#include "../decoder/tiny_model.hpp"
#include "bench.hpp"
#include "fidelity.hpp"

namespace {

using accuracy::Attempt;
using accuracy::Cell;
using accuracy::Task;
using accuracy::Token;
using accuracy::TokenContext;

/// A random model of single characters: it knows nothing, and says so reproducibly.
decoder::Model ignorant() {
  return decoder::Model(decoder::test::open_bytes(
      decoder::test::tiny_model({.architecture = "llama", .vocabulary = 95})));
}

decoder::Sequence sequence_of(const decoder::Model& model, const TokenContext& context,
                              const char* policy, std::size_t budget) {
  return {.cache = {model.config(), decoder::CacheType::f32, budget + context.room()},
          .pruner = decoder::make_pruner(
              policy, {.budget = budget, .rope_frequencies = model.rope_frequencies()},
              model.config())};
}

Attempt answer(const decoder::Model& model, const TokenContext& context,
               const char* policy = "none", std::size_t budget = 200) {
  decoder::Decoder decoder(model, 1);
  decoder::Sequence sequence = sequence_of(model, context, policy, budget);
  Attempt result = attempt(decoder, sequence, context);
  CHECK(sequence.position == context.text.size() + context.examples.size());
  for (std::size_t layer = 0; layer < sequence.cache.layers(); ++layer)
    CHECK(sequence.cache.size(layer) <= budget + context.examples.size());
  return result;
}

/// What the model writes behind a text.
std::vector<Token> greedy(const decoder::Model& model, std::vector<Token> text, std::size_t count) {
  decoder::Decoder decoder(model, 1);
  decoder::Sequence sequence{.cache = {model.config(), decoder::CacheType::f32, 400}, .pruner = {}};
  auto logits = decoder.prefill(sequence, text);
  std::vector<Token> written;
  for (std::size_t i = 0; i < count; ++i) {
    written.push_back(static_cast<Token>(decoder::argmax(logits)));
    logits = decoder.step(sequence, written.back());
  }
  return written;
}

/// Text, examples, and questions whose answers are what the model writes with its whole cache.
TokenContext solvable(const decoder::Model& model) {
  TokenContext context;
  for (Token i = 0; i < 150; ++i) context.text.push_back(i * i % 89);
  context.examples = {3, 1, 4};
  for (Token i = 0; i < 6; ++i) {
    TokenContext::Asked asked{.tokens = {5 * i, 7, i}, .given = 3, .gap = 9};
    std::vector<Token> before = context.text;
    before.insert(before.end(), context.examples.begin(), context.examples.end());
    before.insert(before.end(), asked.tokens.begin(), asked.tokens.end());
    for (const Token token : greedy(model, before, 3)) asked.tokens.push_back(token);
    context.questions.push_back(asked);
  }
  return context;
}

std::vector<bool> rights(const Attempt& attempt) {
  std::vector<bool> all;
  for (const accuracy::Lookup& each : attempt.answers) all.push_back(each.is_right);
  return all;
}

}  // namespace

TEST_CASE("an answer is right when the model would write all of it, question by question") {
  const decoder::Model model = ignorant();
  TokenContext context = solvable(model);
  CHECK(rights(answer(model, context)) == std::vector<bool>(6, true));
  context.questions[2].tokens.back() ^= 1;
  context.questions[4].tokens[3] ^= 1;
  const Attempt attempt = answer(model, context);
  CHECK(rights(attempt) == std::vector<bool>{true, true, false, true, false, true});
  CHECK(attempt.produced == 18);
  CHECK(attempt.right >= 14);
  CHECK(attempt.right <= 16);
  CHECK(attempt.answers[0].gap == 9);
}

TEST_CASE("tokens of an answer count one by one where a context says so") {
  const decoder::Model model = ignorant();
  TokenContext context = solvable(model);
  for (TokenContext::Asked& each : context.questions) each.by_token = true;
  context.questions[2].tokens.back() ^= 1;
  const Attempt attempt = answer(model, context);
  CHECK(attempt.answers.size() == 18);
  const std::vector<bool> all = rights(attempt);
  CHECK(std::count(all.begin(), all.end(), true) == 17);
}

TEST_CASE("a question leaves no trace in the next") {
  const decoder::Model model = ignorant();
  TokenContext context = solvable(model);
  for (const char* policy : {"h2o", "streaming", "lethe"}) {
    std::vector<bool> forwards = rights(answer(model, context, policy, 40));
    std::reverse(context.questions.begin(), context.questions.end());
    std::vector<bool> backwards = rights(answer(model, context, policy, 40));
    std::reverse(backwards.begin(), backwards.end());
    CHECK(forwards == backwards);
  }
}

TEST_CASE("a budget binds while the text is read, and one of everything changes nothing") {
  const decoder::Model model = ignorant();
  const TokenContext context = solvable(model);
  const Attempt pruned = answer(model, context, "h2o", 40);
  CHECK(pruned.peak_kept <= 40);
  CHECK(pruned.peak_kept > 30);
  const Attempt whole = answer(model, context, "h2o", 150);
  CHECK(whole.peak_kept == 150);
  CHECK(rights(whole) == rights(answer(model, context)));
}

TEST_CASE("a cell of a context makes a row like any other") {
  const decoder::Model model = ignorant();
  decoder::Decoder decoder(model, 1);
  for (const Task task : accuracy::context_tasks) {
    for (const char* policy : {"none", "random", "attention-oracle"}) {
      Cell cell{.model = "tiny",
                .task = task,
                .size = {.variables = 8, .lines = 2, .steps = 900},
                .policy = policy};
      cell.is_pinned = true;
      cell.budget = 25;
      const nlohmann::json row = accuracy::run({.cell = cell, .seed = 1}, model, decoder);
      INFO(row.dump());
      CHECK(row.at("symbols").get<std::size_t>() <= 900);
      CHECK(row.at("symbols").get<std::size_t>() > 800);
      CHECK(row.at("answers").at(1).get<std::size_t>() >= 8);
      const double most = policy == std::string("none") ? 900 : 225;
      CHECK(row.at("peak_kept").get<double>() <= most);
    }
  }
}
