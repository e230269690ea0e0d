/// Rows of results made up for tests, and files that hold them.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cell.hpp"
#include "results.hpp"

namespace accuracy::test {

/// A file of the test's own, gone with it.
struct File {
  explicit File(const std::string& text, const std::string& name = "rows")
      : path((std::filesystem::temp_directory_path() /
              ("lethe_accuracy_" + std::to_string(getpid()) + "_" + name + ".jsonl"))
                 .string()) {
    std::ofstream(path, std::ios::binary) << text;
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }

  std::string path;
};

struct Sample {
  std::string policy;
  std::uint64_t seed = 0;
  bool is_solved = true;
  double budget = 25;
  Task task = Task::recall;
  bool is_pinned = false;
};

/// A problem of 100 symbols, 20 of them the prompt, with one step and one answer.
inline nlohmann::json row(const Sample& sample) {
  Attempt attempt;
  attempt.answers = {{.gap = 5, .is_right = sample.is_solved}};
  attempt.steps = {{.gap = 70, .is_right = true}};
  attempt.produced = 2;
  if (!sample.is_solved) attempt.first_error = 60;
  attempt.mean_kept = sample.policy == "none" ? 60 : 0.6 * sample.budget;
  attempt.peak_kept = static_cast<std::size_t>(sample.budget);
  attempt.peak_bytes = 4096;
  attempt.seconds = 0.5;
  const Cell cell{.model = "m",
                  .task = sample.task,
                  .size = evaluated_size(sample.task),
                  .policy = sample.policy,
                  .budget = sample.budget,
                  .is_pinned = sample.is_pinned};
  return row_of(cell, sample.seed, {.symbols = 100, .prompt = 20}, attempt);
}

/// `count` rows of a policy from seed 0 on, the first `solved` of them solved.
inline std::vector<nlohmann::json> rows(Sample sample, std::size_t count, std::size_t solved) {
  std::vector<nlohmann::json> all;
  for (std::size_t seed = 0; seed < count; ++seed) {
    sample.seed = seed;
    sample.is_solved = seed < solved;
    all.push_back(row(sample));
  }
  return all;
}

/// The rows of several policies, tasks or budgets together.
inline std::vector<nlohmann::json> together(const std::vector<std::vector<nlohmann::json>>& parts) {
  std::vector<nlohmann::json> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

/// 40 problems, all solved by the whole cache and the oracle; by tova 30, by h2o 20, by lethe 38.
/// At 10% the oracle solves 30 only.
inline std::vector<nlohmann::json> sample_rows() {
  return together({rows({.policy = "none", .budget = 100}, 40, 40),
                   rows({.policy = "oracle"}, 40, 40), rows({.policy = "tova"}, 40, 30),
                   rows({.policy = "h2o"}, 40, 20), rows({.policy = "lethe"}, 40, 38),
                   rows({.policy = "oracle", .budget = 10}, 40, 30),
                   rows({.policy = "tova", .budget = 10}, 40, 35),
                   rows({.policy = "h2o", .budget = 10}, 40, 40),
                   rows({.policy = "lethe", .budget = 10}, 40, 5)});
}

inline Results results(const std::vector<nlohmann::json>& all) { return Results(summarise(all)); }

}  // namespace accuracy::test
