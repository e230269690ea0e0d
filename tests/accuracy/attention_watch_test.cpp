#include "attention_watch.hpp"

#include <vector>

#include "../catch.hpp"
#include "workbench.hpp"

using accuracy::Problem;
using accuracy::Task;
using accuracy::Token;

TEST_CASE("the model will look at the newest statement of what it looks up") {
  const decoder::Model model(decoder::open_model(""), 1);
  decoder::Decoder decoder(model, 1);
  const Problem problem = make_problem(Task::recall, {.variables = 6, .lines = 1, .steps = 60}, 3);
  const decoder::FutureLooks looks =
      accuracy::watch_attention(decoder, model.config(), problem.symbols);
  REQUIRE(looks.size() == model.config().layers);
  std::size_t lookups = 0, seen = 0;
  for (std::size_t i = 0; i < problem.symbols.size(); ++i) {
    if (problem.sources[i] < 0) continue;
    ++lookups;
    bool is_seen = false;
    for (const auto& layer : looks) {
      for (const decoder::Look& look : layer[static_cast<std::size_t>(problem.sources[i])]) {
        is_seen = is_seen || look.query + 1 == i;  // the symbol before asks
      }
    }
    seen += is_seen ? 1 : 0;
  }
  REQUIRE(lookups > 20);
  CHECK(seen >= lookups * 9 / 10);
}

TEST_CASE("looks come in order, and tell the largest from there on") {
  const decoder::Model model(decoder::open_model(""), 1);
  decoder::Decoder decoder(model, 1);
  const Problem problem = make_problem(Task::loop, {.variables = 4, .lines = 3, .steps = 4}, 1);
  std::size_t several = 0;
  for (const auto& layer : accuracy::watch_attention(decoder, model.config(), problem.symbols)) {
    for (std::size_t token = 0; token < layer.size(); ++token) {
      for (std::size_t i = 0; i < layer[token].size(); ++i) {
        const decoder::Look& look = layer[token][i];
        REQUIRE(look.query > token);
        REQUIRE(look.mass >= 0.02f);
        REQUIRE(look.mass <= 1.001f);
        if (i == 0) continue;
        REQUIRE(layer[token][i - 1].query < look.query);
        REQUIRE(layer[token][i - 1].mass >= look.mass);
        ++several;
      }
    }
  }
  CHECK(several > 50);
}
