#include "attempt.hpp"

#include <algorithm>
#include <string>

#include "../catch.hpp"
#include "../decoder/tiny_model.hpp"
#include "bench.hpp"
#include "error.hpp"
#include "future_mass.hpp"

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
  CHECK(row.at("seconds").get<double>() > 0);
  for (const char* field : {"policy", "budget", "seconds"}) row.erase(field);
  return row;
}

/// A pruner that stays in sight while a sequence decodes with it.
class Watched {
 public:
  explicit Watched(decoder::Oracle& oracle) : oracle_(&oracle) {}

  [[nodiscard]] const lethe::PrunerConfig& config() const noexcept { return oracle_->config(); }
  void pin(std::size_t tokens) { oracle_->pin(tokens); }
  void reset() { oracle_->reset(); }
  [[nodiscard]] std::size_t bound(std::size_t layer) const { return oracle_->bound(layer); }
  [[nodiscard]] std::size_t threshold(std::size_t layer) const { return oracle_->threshold(layer); }
  [[nodiscard]] bool is_due(auto& cache, std::size_t tokens) {
    return oracle_->is_due(cache, tokens);
  }
  void make_room(auto& cache, std::size_t tokens, const auto& receiver) {
    oracle_->make_room(cache, tokens, receiver);
  }
  void observe(std::size_t layer, const lethe::Probabilities<float>& seen) {
    oracle_->observe(layer, seen);
  }
  void commit() { oracle_->commit(); }

 private:
  decoder::Oracle* oracle_;
};

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

TEST_CASE("a row has the most bytes that were resident") {
  const decoder::Model model = ignorant();
  const Cell cell = cell_of("none", 100);
  const std::size_t symbols = make_problem(cell.task, cell.size, 9).symbols.size();
  decoder::KVCache cache(model.config(), decoder::CacheType::f32, symbols);
  for (std::size_t layer = 0; layer < cache.layers(); ++layer) cache.extend(layer, symbols - 1);
  CHECK(run(model, cell).at("bytes") == cache.resident_bytes());
  CHECK(run(model, cell_of("h2o", 10)).at("bytes") < cache.resident_bytes());
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
  decoder::Oracle oracle({.layers = model.config().layers, .capacity = 40},
                         {looks_needed(problem, model.config().layers)}, 10);
  decoder::Sequence sequence{.cache = {model.config(), decoder::CacheType::f32, 40},
                             .pruner = decoder::Pruner(Watched(oracle))};
  for (std::size_t i = 0; i < problem.symbols.size(); ++i) {
    decoder.step(sequence, problem.symbols[i]);
    const auto kept = oracle.positions(1);
    for (std::uint32_t j = 0; j <= i; ++j) {
      if (needs[j] > i) REQUIRE(std::find(kept.begin(), kept.end(), j) != kept.end());
    }
  }
}

TEST_CASE("a program needs its text to the end, and the count of rounds until the next") {
  const Problem problem = make_problem(Task::loop, {.variables = 4, .lines = 3, .steps = 4}, 5);
  const std::vector<std::uint32_t> needs = accuracy::last_needs(problem);
  const auto last = static_cast<std::uint32_t>(problem.symbols.size() - 1);
  std::vector<std::uint32_t> rounds;
  for (std::uint32_t i = 0; i <= last; ++i) {
    const accuracy::Token symbol = problem.symbols[i];
    if (i > 0 && i < problem.prompt && symbol < accuracy::first_round) CHECK(needs[i] == last);
    if (symbol >= accuracy::first_round && symbol < accuracy::first_value) rounds.push_back(i);
    CHECK(needs[i] >= std::min(last, i + 12));  // the line in hand
  }
  REQUIRE(rounds.size() == 5);
  CHECK(needs[rounds[0]] == last);
  for (std::size_t i = 1; i + 1 < rounds.size(); ++i) CHECK(needs[rounds[i]] == rounds[i + 1]);
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
