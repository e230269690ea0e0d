/// What is measured: a model on a task under a policy and a budget.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "attempt.hpp"
#include "problems.hpp"

namespace accuracy {

/// One cell of the table; a row of results is a cell and a seed.
struct Cell {
  std::string model;
  Task task = Task::loop;
  ProblemSize size{};
  std::string policy = "none";
  /// Share of a problem's symbols that a layer may hold, in percent.
  double budget = 100;
  bool is_pinned = false;
  Feeding feeding = Feeding::own;
};

/// The size at which a task is evaluated: about 1,000 symbols, the longest trained.
[[nodiscard]] ProblemSize evaluated_size(Task task);
/// A smaller one, about 300 symbols, for a quick look.
[[nodiscard]] ProblemSize quick_size(Task task);

/// The size of a context of so many tokens, with sixteen questions.
[[nodiscard]] ProblemSize context_size(Task task, std::size_t tokens);

/// The cell's budget at this length in symbols, before it is cut to whole ones.
[[nodiscard]] double budget_tokens(const Cell& cell, std::size_t length);

/// How long a problem is, in symbols.
struct Extent {
  std::size_t symbols = 0;
  std::size_t prompt = 0;
};

/// The row of one problem, as it stands in a file of results.
[[nodiscard]] nlohmann::json row_of(const Cell& cell, std::uint64_t seed, const Extent& extent,
                                    const Attempt& attempt);

/// What a row is recognised by, so that none is computed twice.
[[nodiscard]] std::string key_of(const Cell& cell, std::uint64_t seed);
/// The same, of a row of results.
[[nodiscard]] std::string key_of(const nlohmann::json& row);

}  // namespace accuracy
