#include "selection.hpp"

#include <optional>
#include <sstream>

#include "error.hpp"
#include "one_line.hpp"
#include "pruners.hpp"
#include "results.hpp"

namespace accuracy {
namespace {

Task task_of(const std::string& wanted) {
  if (const auto found = find_task(wanted)) return *found;
  std::string known;
  for (const Task task : tasks) known += " " + std::string(name(task));
  for (const Task task : context_tasks) known += " " + std::string(name(task));
  throw decoder::Error("--task " + decoder::one_line(wanted) + ": unknown; choose among" + known);
}

/// The problem that a task's cells share.
class SharedProblem {
 public:
  explicit SharedProblem(std::uint64_t seed) : seed_(seed) {}

  [[nodiscard]] const Problem& of(const Cell& cell) {
    if (!problem_ || task_ != cell.task) {
      problem_ = make_problem(cell.task, cell.size, seed_);
      task_ = cell.task;
    }
    return *problem_;
  }

 private:
  std::uint64_t seed_;
  Task task_{};
  std::optional<Problem> problem_;
};

/// Whether the pinned prompt leaves room for anything else.
bool has_room(const Cell& cell, const Problem& problem) {
  return budget_tokens(cell, problem.symbols.size()) >=
         1.25 * static_cast<double>(problem.prompt) + 16;
}

void add_pruned(std::vector<Cell>& cells, Cell cell, const Selection& selection) {
  for (const double budget : selection.budgets) {
    cell.budget = budget;
    for (const std::string& policy : selection.policies) {
      const bool knows_no_program = is_context(cell.task) && policy == oracle;
      if (policy == whole_cache || knows_no_program) continue;
      cell.policy = policy;
      cells.push_back(cell);
    }
  }
}

void add_exam(std::vector<Cell>& cells, Cell cell, const Selection& selection) {
  cells.push_back(cell);
  for (const bool is_pinned : {false, true}) {
    if (selection.pin == (is_pinned ? Pin::off : Pin::on)) continue;
    cell.is_pinned = is_pinned;
    add_pruned(cells, cell, selection);
  }
}

std::vector<ProblemSize> sizes_of(const Selection& selection, Task task) {
  if (!is_context(task)) return {selection.is_quick ? quick_size(task) : evaluated_size(task)};
  std::vector<ProblemSize> sizes;
  for (const std::size_t tokens : selection.lengths) sizes.push_back(context_size(task, tokens));
  return sizes;
}

}  // namespace

Selection quick_selection(Selection selection) {
  const Selection all;
  selection.tasks = all.tasks;
  selection.policies = {"oracle", "lethe", "h2o", "supersession"};
  selection.budgets = {25, 50};
  selection.pin = Pin::both;
  selection.problems = 4;
  selection.first_seed = 0;
  selection.is_quick = true;
  return selection;
}

void check(const Selection& selection) {
  for (const std::string& task : selection.tasks) task_of(task);
  for (const double budget : selection.budgets) {
    if (!(budget > 0 && budget <= 100))
      throw decoder::Error("--budget " + std::to_string(budget) +
                           ": give percentages above 0 and at most 100");
  }
  for (const std::size_t tokens : selection.lengths) {
    if (tokens < shortest_context || tokens > longest_context)
      throw decoder::Error("--length " + std::to_string(tokens) + ": give " +
                           std::to_string(shortest_context) + " to " +
                           std::to_string(longest_context) + " tokens");
  }
  for (const std::string& policy : selection.policies) {
    if (policy == whole_cache && selection.policies.size() > 1)
      throw decoder::Error("--policy none: the whole cache always runs; leave it out");
    if (!is_oracle(policy)) decoder::policy_label(policy);
  }
}

std::vector<Cell> cells_of(const Selection& selection) {
  std::vector<Cell> cells;
  for (const std::string& each : selection.tasks) {
    const Task task = task_of(each);
    for (const ProblemSize& size : sizes_of(selection, task)) {
      add_exam(cells,
               {.model = selection.model, .task = task, .size = size, .feeding = selection.feeding},
               selection);
    }
  }
  return cells;
}

Shard parse_shard(const std::string& text) {
  Shard shard;
  char slash = 0;
  std::istringstream in(text);
  if (!(in >> shard.index >> slash >> shard.count) || slash != '/' || shard.index >= shard.count ||
      !in.eof()) {
    throw decoder::Error("--shard " + decoder::one_line(text) + ": give i/n with i below n");
  }
  return shard;
}

std::vector<Job> jobs_of(const Selection& selection, const Shard& shard,
                         std::unordered_set<std::string> done) {
  const std::vector<Cell> cells = cells_of(selection);
  std::vector<Job> jobs;
  std::size_t number = 0;
  for (std::size_t i = 0; i < selection.problems; ++i) {
    const std::uint64_t seed = selection.first_seed + i;
    SharedProblem problem(seed);
    for (const Cell& cell : cells) {
      const bool is_ours = number++ % shard.count == shard.index;
      if (!is_ours || !done.insert(key_of(cell, seed)).second) continue;
      const bool is_cramped =
          cell.is_pinned && !is_context(cell.task) && !has_room(cell, problem.of(cell));
      if (!is_cramped) jobs.push_back({cell, seed});
    }
  }
  return jobs;
}

}  // namespace accuracy
