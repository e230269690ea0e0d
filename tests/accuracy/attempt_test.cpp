#include "attempt.hpp"

#include <algorithm>
#include <string>
#include <variant>

#include "../catch.hpp"
#include "../decoder/tiny_model.hpp"
#include "bench.hpp"
#include "error.hpp"

namespace {

using accuracy::Cell;
using accuracy::Feeding;
using accuracy::Problem;
using accuracy::Role;
using accuracy::Task;

/// A random model with the reasoner's vocabulary: it knows nothing, and says so reproducibly.
decoder::Model ignorant() {
  const auto vocabulary = static_cast<std::uint32_t>(accuracy::symbols);
  return decoder::Model(decoder::test::open_bytes(
      decoder::test::tiny_model({.architecture = "llama", .vocabulary = vocabulary})));
}

Cell cell_of(const std::string& policy, double budget) {
  return {.model = "tiny",
          .task = Task::recall,
          .size = {.variables = 4, .lines = 1, .steps = 80},
          .policy = policy,
          .budget = budget,
          .feeding = Feeding::own};
}

nlohmann::json run(const decoder::Model& model, const Cell& cell) {
  decoder::Decoder decoder(model, 1);
  nlohmann::json row = accuracy::run({.cell = cell, .seed = 9}, model, decoder);
  for (const char* field : {"policy", "budget"}) row.erase(field);
  return row;
}

}  // namespace

TEST_CASE("a policy that may keep everything answers as the whole cache does") {
  const decoder::Model model = ignorant();
  const nlohmann::json whole = run(model, cell_of("none", 100));
  CHECK(whole == run(model, cell_of("h2o", 100)));
  const Problem problem = make_problem(Task::recall, cell_of("none", 100).size, 9);
  const auto reads = std::count(problem.roles.begin(), problem.roles.end(), Role::lookup);
  CHECK(whole.at("answers").at(1) == reads);
  CHECK(whole.at("produced").at(1) == reads);
  CHECK(whole.at("peak_kept") == problem.symbols.size() - 1);
  CHECK_FALSE(whole.at("solved"));
}

TEST_CASE("a budget binds, and the same seed gives the same row") {
  const decoder::Model model = ignorant();
  const Problem problem = make_problem(Task::recall, cell_of("none", 100).size, 9);
  for (const char* policy : {"lethe", "h2o", "random", "oracle", "snapkv"}) {
    INFO(policy);
    const nlohmann::json row = run(model, cell_of(policy, 40));
    CHECK(row == run(model, cell_of(policy, 40)));
    CHECK(row.at("peak_kept").get<double>() <= 0.4 * static_cast<double>(problem.symbols.size()));
    CHECK(row.at("peak_kept").get<double>() > 0.3 * static_cast<double>(problem.symbols.size()));
  }
}

TEST_CASE("the oracle keeps what will be asked for") {
  const decoder::Model model = ignorant();
  const Problem problem = make_problem(Task::recall, {.variables = 6, .lines = 1, .steps = 120}, 2);
  const std::vector<std::uint32_t> needs = accuracy::last_needs(problem);
  decoder::Decoder decoder(model, 1);
  decoder::Sequence sequence{.cache = {model.config(), decoder::CacheType::f32, 40},
                             .pruner = decoder::make_pruner(
                                 "oracle", {.budget = 40, .last_needs = needs}, model.config())};
  for (std::size_t i = 0; i < problem.symbols.size(); ++i) {
    decoder.step(sequence, problem.symbols[i]);
    const auto kept = std::get<decoder::Oracle>(sequence.pruner).positions(1);
    for (std::uint32_t j = 0; j <= i; ++j) {
      if (needs[j] > i) REQUIRE(std::find(kept.begin(), kept.end(), j) != kept.end());
    }
  }
}

TEST_CASE("a budget that cannot hold the pinned prompt is refused") {
  const decoder::Model model = ignorant();
  decoder::Decoder decoder(model, 1);
  Cell cell = cell_of("h2o", 4);
  cell.is_pinned = true;
  CHECK_THROWS_AS(accuracy::run({.cell = cell, .seed = 1}, model, decoder), decoder::Error);
  cell.policy = "nonsense";
  CHECK_THROWS_AS(accuracy::run({.cell = cell, .seed = 1}, model, decoder), decoder::Error);
}

TEST_CASE("jobs run on several threads, and an error ends them") {
  const decoder::Model model = ignorant();
  std::vector<accuracy::Job> jobs;
  for (std::uint64_t seed = 0; seed < 6; ++seed) jobs.push_back({cell_of("h2o", 50), seed});
  std::size_t rows = 0;
  accuracy::run_all(jobs, model, 3, [&](const nlohmann::json&) { ++rows; });
  CHECK(rows == 6);
  jobs.back().cell.policy = "nonsense";
  CHECK_THROWS_AS(accuracy::run_all(jobs, model, 2, [](const nlohmann::json&) {}), decoder::Error);
}
