// Runs models x tasks x policies x budgets on problems with exact answers.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "bench.hpp"
#include "error.hpp"
#include "interrupt.hpp"
#include "one_line.hpp"
#include "progress.hpp"
#include "table.hpp"

namespace {

using accuracy::Cell;
using accuracy::Job;

struct RunOptions {
  std::string model;
  std::string out = "accuracy.jsonl";
  std::vector<std::string> tasks{"loop", "once", "recall", "interleaved", "lookalike"};
  std::vector<std::string> policies{"oracle", "lethe",     "h2o",    "tova",
                                    "snapkv", "streaming", "random", "supersession"};
  std::vector<double> budgets{10, 25, 50};
  std::string pin = "both";
  std::size_t problems = 100;
  std::uint64_t first_seed = 0;
  bool is_forced = false;
  unsigned threads = 0;
  std::string shard = "0/1";
};

accuracy::Task task_of(const std::string& wanted) {
  for (const accuracy::Task task : accuracy::tasks) {
    if (name(task) == wanted) return task;
  }
  std::string known;
  for (const accuracy::Task task : accuracy::tasks) known += " " + std::string(name(task));
  throw decoder::Error("--task " + decoder::one_line(wanted) + ": unknown; choose among" + known);
}

void check(const RunOptions& options) {
  for (const double budget : options.budgets) {
    if (!(budget > 0 && budget <= 100))
      throw decoder::Error("--budget " + std::to_string(budget) +
                           ": give percentages above 0 and at most 100");
  }
  for (const std::string& policy : options.policies) {
    if (policy != "oracle") decoder::policy_label(policy);
  }
}

/// Every cell asked for, the whole cache first.
std::vector<Cell> cells_of(const RunOptions& options) {
  std::vector<Cell> cells;
  for (const std::string& each : options.tasks) {
    const accuracy::Task task = task_of(each);
    Cell cell{.model = std::filesystem::path(options.model).stem().string(),
              .task = task,
              .size = accuracy::evaluated_size(task),
              .feeding = options.is_forced ? accuracy::Feeding::truth : accuracy::Feeding::own};
    cells.push_back(cell);
    for (const bool is_pinned : {false, true}) {
      if (options.pin == (is_pinned ? "off" : "on")) continue;
      cell.is_pinned = is_pinned;
      for (cell.budget = 100; const double budget : options.budgets) {
        cell.budget = budget;
        for (const std::string& policy : options.policies) {
          cell.policy = policy;
          cells.push_back(cell);
        }
      }
    }
  }
  return cells;
}

/// "i/n": this process takes every n-th job from the i-th on.
struct Shard {
  std::size_t index = 0;
  std::size_t count = 1;
};

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

/// Whether the pinned prompt leaves room for anything else.
bool is_possible(const Cell& cell, std::uint64_t seed) {
  if (!cell.is_pinned) return true;
  const accuracy::Problem problem = make_problem(cell.task, cell.size, seed);
  const double tokens = cell.budget / 100 * static_cast<double>(problem.symbols.size());
  return tokens >= 1.25 * static_cast<double>(problem.prompt) + 16;
}

std::vector<Job> jobs_of(const RunOptions& options, const std::unordered_set<std::string>& done) {
  const Shard shard = parse_shard(options.shard);
  std::vector<Job> jobs;
  std::size_t number = 0;
  for (std::size_t i = 0; i < options.problems; ++i) {
    const std::uint64_t seed = options.first_seed + i;
    for (const Cell& cell : cells_of(options)) {
      const bool is_ours = number++ % shard.count == shard.index;
      if (!is_ours || done.contains(key_of(cell, seed)) || !is_possible(cell, seed)) continue;
      jobs.push_back({cell, seed});
    }
  }
  return jobs;
}

/// Keys of the rows that a file holds already; a last line cut short is taken off.
std::unordered_set<std::string> finished_rows(const std::string& path) {
  std::unordered_set<std::string> keys;
  for (const nlohmann::json& row : accuracy::read_rows(path, accuracy::Missing::allowed)) {
    keys.insert(accuracy::key_of(row));
  }
  return keys;
}

int run(const RunOptions& options) {
  check(options);
  const decoder::Model model(decoder::gguf::File::open(options.model));
  if (model.config().vocabulary != static_cast<std::size_t>(accuracy::symbols)) {
    throw decoder::Error(options.model + " has " + std::to_string(model.config().vocabulary) +
                         " symbols, the tasks " + std::to_string(accuracy::symbols) +
                         ": give a reasoner");
  }
  const std::vector<Job> jobs = jobs_of(options, finished_rows(options.out));
  std::ofstream out(options.out, std::ios::app);
  if (!out) throw decoder::Error("cannot write " + options.out);
  decoder::Progress progress("Solving", jobs.size());
  const unsigned threads =
      options.threads != 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency());
  accuracy::run_all(jobs, model, threads, [&](const nlohmann::json& row) {
    out << row.dump() << std::endl;
    progress.advance();
  });
  if (!out) throw decoder::Error("cannot write " + options.out + ": is the disk full?");
  return decoder::is_interrupted() ? 130 : 0;
}

int table(const std::vector<std::string>& files) {
  std::vector<nlohmann::json> rows;
  for (const std::string& file : files) {
    const auto more = accuracy::read_rows(file, accuracy::Missing::refused);
    rows.insert(rows.end(), more.begin(), more.end());
  }
  std::cout << accuracy::summary_table(accuracy::summarise(rows));
  return 0;
}

void add_run(CLI::App& app, RunOptions& options) {
  app.add_option("-m,--model", options.model, "A reasoner as a GGUF file")->required();
  app.add_option("-o,--out", options.out,
                 "Rows of results, one JSON object a line; goes on from it")
      ->capture_default_str();
  const auto several = [&](const char* option, auto& values, const char* what) {
    app.add_option(option, values, what)->delimiter(',')->capture_default_str();
  };
  several("--task", options.tasks, "Tasks");
  several("--policy", options.policies, "Policies; the whole cache always runs");
  several("-b,--budget", options.budgets, "Percent of a problem's symbols that a layer may hold");
  app.add_option("--pin", options.pin, "Whether the prompt is pinned")
      ->capture_default_str()
      ->check(CLI::IsMember({"on", "off", "both"}));
  app.add_option("-n,--problems", options.problems, "Problems of each task")->capture_default_str();
  app.add_option("--first-seed", options.first_seed,
                 "Seed of the first problem: 0 for development, 1000000 for the test")
      ->capture_default_str();
  app.add_flag("--forced", options.is_forced, "Feed the true symbols, whatever the model says");
  app.add_option("-t,--threads", options.threads, "0: one per core")->capture_default_str();
  app.add_option("--shard", options.shard, "i/n: only every n-th job, from the i-th on")
      ->capture_default_str();
}

int main_of(int argc, char** argv) {
  CLI::App app("How many answers stay right when a cache is pruned.");
  app.require_subcommand(1);
  RunOptions options;
  std::vector<std::string> files;
  CLI::App* runs = app.add_subcommand("run", "Work through problems under policies and budgets");
  add_run(*runs, options);
  CLI::App* tables =
      app.add_subcommand("table", "Summarise files of results, of one run or shards");
  tables->add_option("files", files, "Files that run wrote")->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    throw decoder::Error(decoder::one_line(error.what()) + " (--help explains the options)");
  }
  return runs->parsed() ? run(options) : table(files);
}

}  // namespace

int main(int argc, char** argv) {
  decoder::watch_for_interrupt();
  try {
    return main_of(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "accuracy: %s\n", error.what());
    return 2;
  }
}
