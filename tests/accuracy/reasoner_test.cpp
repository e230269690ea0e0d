// The reasoner that ships with the project, with its whole cache and under policies.
#include <cstddef>
#include <string>
#include <vector>

#include "../catch.hpp"
#include "bench.hpp"
#include "selection.hpp"
#include "workbench.hpp"

namespace {

using accuracy::Cell;

/// Right lookups, and all, over a few small problems of each task.
struct Tally {
  std::size_t right = 0;
  std::size_t all = 0;

  [[nodiscard]] double share() const {
    return static_cast<double>(right) / static_cast<double>(all);
  }
};

Tally work(const decoder::Model& model, const char* policy, double budget,
           const std::vector<std::string>& tasks = accuracy::Selection().tasks) {
  decoder::Decoder decoder(model, 1);
  Tally tally;
  for (const std::string& name : tasks) {
    const accuracy::Task task = accuracy::find_task(name).value();
    for (std::uint64_t seed = 0; seed < 3; ++seed) {
      Cell cell;
      cell.task = task;
      cell.size = accuracy::quick_size(task);
      cell.policy = policy;
      cell.budget = budget;
      const nlohmann::json row = accuracy::run({.cell = cell, .seed = seed}, model, decoder);
      for (const char* part : {"answers", "steps"}) {
        tally.right += row.at(part).at(0).get<std::size_t>();
        tally.all += row.at(part).at(1).get<std::size_t>();
      }
    }
  }
  return tally;
}

}  // namespace

TEST_CASE("the reasoner finds values with its whole cache, and loses them where they are dropped") {
  const decoder::Model model(decoder::open_model(""), 1);
  const Tally whole = work(model, "none", 100);
  CHECK(whole.all > 500);
  CHECK(whole.share() > 0.97);
  CHECK(work(model, "oracle", 50).share() > work(model, "streaming", 50).share());
  CHECK(work(model, "streaming", 10).share() < whole.share() - 0.1);
}

TEST_CASE("reasoners of other training seeds have learned the same tasks") {
  const std::string folder = LETHE_MODELS_FOLDER;
  for (const char* const file : {"/reasoner-2.gguf", "/reasoner-3.gguf"}) {
    const decoder::Model model(decoder::open_model(folder + file), 1);
    for (const std::string& task : accuracy::Selection().tasks) {
      INFO(file << ", " << task);
      CHECK(work(model, "none", 100, {task}).share() > 0.9);
    }
  }
}
