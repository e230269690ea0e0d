#include "cell.hpp"

#include <array>
#include <bit>

namespace accuracy {
namespace {

using nlohmann::json;

/// Rights and wrongs by gap: entry b counts gaps from 2^b to below 2^(b + 1).
json by_gap(const std::vector<Lookup>& answers, const std::vector<Lookup>& steps) {
  std::array<std::array<std::size_t, 2>, 16> counts{};
  std::size_t last = 0;
  for (const std::vector<Lookup>* lookups : {&answers, &steps}) {
    for (const Lookup& lookup : *lookups) {
      const auto bucket = static_cast<std::size_t>(std::bit_width(lookup.gap)) - 1;
      ++counts[bucket][lookup.is_right ? 0 : 1];
      last = std::max(last, bucket + 1);
    }
  }
  return json(std::vector(counts.begin(), counts.begin() + static_cast<std::ptrdiff_t>(last)));
}

std::size_t count_right(const std::vector<Lookup>& lookups) {
  std::size_t right = 0;
  for (const Lookup& lookup : lookups) right += lookup.is_right ? 1 : 0;
  return right;
}

json described(const Cell& cell, std::uint64_t seed) {
  return {{"model", cell.model},
          {"task", name(cell.task)},
          {"size", {cell.size.variables, cell.size.lines, cell.size.steps}},
          {"policy", cell.policy},
          {"budget", cell.budget},
          {"pinned", cell.is_pinned},
          {"feeding", cell.feeding == Feeding::own ? "own" : "truth"},
          {"seed", seed}};
}

}  // namespace

ProblemSize evaluated_size(Task task) {
  switch (task) {
    case Task::loop:
      return {.variables = 8, .lines = 10, .steps = 7};
    case Task::once:
      return {.variables = 10, .lines = 8, .steps = 9};
    case Task::recall:
      return {.variables = 12, .lines = 1, .steps = 640};
    case Task::interleaved:
      return {.variables = 10, .lines = 1, .steps = 50};
    case Task::lookalike:
      return {.variables = 6, .lines = 4, .steps = 230};
    case Task::stack:
      return {.variables = 10, .lines = 1, .steps = 98};
    default:
      return context_size(task, 1024);
  }
}

ProblemSize quick_size(Task task) {
  switch (task) {
    case Task::loop:
      return {.variables = 6, .lines = 5, .steps = 4};
    case Task::once:
      return {.variables = 8, .lines = 4, .steps = 5};
    case Task::recall:
      return {.variables = 8, .lines = 1, .steps = 200};
    case Task::interleaved:
      return {.variables = 8, .lines = 1, .steps = 14};
    case Task::lookalike:
      return {.variables = 4, .lines = 4, .steps = 80};
    case Task::stack:
      return {.variables = 6, .lines = 1, .steps = 26};
    default:
      return context_size(task, 800);
  }
}

ProblemSize context_size(Task task, std::size_t tokens) {
  const std::size_t lines = task == Task::fewshot ? 2 : task == Task::repeated ? 6 : 10;
  return {.variables = 16, .lines = lines, .steps = tokens};
}

double budget_tokens(const Cell& cell, std::size_t length) {
  return cell.budget / 100 * static_cast<double>(length);
}

json row_of(const Cell& cell, std::uint64_t seed, const Extent& extent, const Attempt& attempt) {
  json row = described(cell, seed);
  row["symbols"] = extent.symbols;
  row["prompt"] = extent.prompt;
  row["solved"] = attempt.is_solved();
  row["answers"] = {count_right(attempt.answers), attempt.answers.size()};
  row["steps"] = {count_right(attempt.steps), attempt.steps.size()};
  row["produced"] = {attempt.right, attempt.produced};
  row["by_gap"] = by_gap(attempt.answers, attempt.steps);
  if (attempt.first_error) row["first_error"] = *attempt.first_error;
  row["mean_kept"] = attempt.mean_kept;
  row["peak_kept"] = attempt.peak_kept;
  row["bytes"] = attempt.peak_bytes;
  row["seconds"] = attempt.seconds;
  return row;
}

std::string key_of(const Cell& cell, std::uint64_t seed) { return key_of(described(cell, seed)); }

std::string key_of(const json& row) {
  std::string key;
  for (const char* field :
       {"model", "task", "size", "policy", "budget", "pinned", "feeding", "seed"}) {
    key += row.at(field).dump() + ' ';
  }
  return key;
}

}  // namespace accuracy
