// Runs models x tasks x policies x budgets on problems with exact answers.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "bench.hpp"
#include "error.hpp"
#include "interrupt.hpp"
#include "machine.hpp"
#include "one_line.hpp"
#include "output.hpp"
#include "page.hpp"
#include "progress.hpp"
#include "rows.hpp"
#include "selection.hpp"
#include "table.hpp"
#include "workbench.hpp"

namespace {

struct RunOptions {
  std::string model;
  std::string out = "accuracy.jsonl";
  accuracy::Selection selection;
  std::string pin = "both";
  bool is_forced = false;
  unsigned threads = 0;
  std::string shard = "0/1";
};

struct TableOptions {
  std::vector<std::string> files;
  std::string against;
  std::string json;
};

struct PageOptions {
  std::vector<std::string> files;
  std::string against = "best";
  std::string out = "results.html";
};

struct MergeOptions {
  std::vector<std::string> files;
  std::string out;
};

accuracy::Selection selection_of(const RunOptions& options) {
  accuracy::Selection selection = options.selection;
  selection.model =
      options.model.empty() ? "reasoner" : std::filesystem::path(options.model).stem().string();
  selection.pin = options.pin == "on"    ? accuracy::Pin::on
                  : options.pin == "off" ? accuracy::Pin::off
                                         : accuracy::Pin::both;
  selection.feeding = options.is_forced ? accuracy::Feeding::truth : accuracy::Feeding::own;
  return selection.is_quick ? quick_selection(selection) : selection;
}

/// Keys of the rows that a file holds already; a last line cut short is taken off.
std::unordered_set<std::string> finished_rows(const std::string& path) {
  std::unordered_set<std::string> keys;
  for (const nlohmann::json& row : accuracy::read_rows(path, accuracy::Reading::to_append)) {
    keys.insert(accuracy::key_of(row));
  }
  return keys;
}

/// Programs and streams are for a reasoner, contexts for any other model.
void check_model(const decoder::Model& model, const accuracy::Selection& selection) {
  const std::size_t vocabulary = model.config().vocabulary;
  const bool is_reasoner = vocabulary == static_cast<std::size_t>(accuracy::symbols);
  for (const accuracy::Cell& cell : cells_of(selection)) {
    if (is_context(cell.task) != is_reasoner) continue;
    const std::string task = "--task " + std::string(name(cell.task));
    if (is_reasoner)
      throw model.file().error("knows no words: " + task + " needs a language model");
    throw model.file().error("has " + std::to_string(vocabulary) + " symbols, " + task + " " +
                             std::to_string(accuracy::symbols) + ": give a reasoner");
  }
}

int run(const RunOptions& options) {
  const accuracy::Selection selection = selection_of(options);
  check(selection);
  const accuracy::Shard shard = accuracy::parse_shard(options.shard);
  const decoder::Model model(decoder::open_model(options.model));
  check_model(model, selection);
  const auto jobs = jobs_of(selection, shard, finished_rows(options.out));
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

accuracy::Results results_of(const std::vector<std::string>& files) {
  return accuracy::Results(accuracy::summarise(accuracy::read_distinct(files)));
}

int table(const TableOptions& options) {
  const accuracy::Results results = results_of(options.files);
  std::optional<accuracy::Comparisons> comparisons;
  if (!options.against.empty()) comparisons = compare(results, options.against);
  std::cout << summary_table(results);
  if (comparisons) std::cout << '\n' << comparison_table(*comparisons);
  if (!options.json.empty()) decoder::write_file(options.json, summary_json(results, comparisons));
  return 0;
}

int page(const PageOptions& options) {
  const accuracy::Results results = results_of(options.files);
  const accuracy::Comparisons comparisons = compare(results, options.against);
  const accuracy::Source source{.files = options.files, .date = decoder::date_now()};
  decoder::write_file(options.out, html_page(results, comparisons, source));
  return 0;
}

int merge(const MergeOptions& options) {
  const accuracy::Merged merged = accuracy::merge(options.files);
  decoder::write_file(options.out, accuracy::lines_of(merged.rows));
  std::cout << options.out << ": " << merged.rows.size() << " rows, " << merged.repeated
            << " equal ones left out\n";
  return 0;
}

void add_selection(CLI::App& app, RunOptions& options, CLI::Option* quick) {
  accuracy::Selection& selection = options.selection;
  const auto several = [&](const char* option, auto& values, const char* what) {
    return app.add_option(option, values, what)->delimiter(',')->capture_default_str();
  };
  quick->excludes(
      several("--task", selection.tasks, "Tasks; facts, repeated and fewshot are contexts"));
  quick->excludes(several("--length", selection.lengths, "Tokens of a context"));
  quick->excludes(
      several("--policy", selection.policies,
              "Policies, settings as in lethe:decay=0.95; the whole cache always runs"));
  quick->excludes(several("-b,--budget", selection.budgets,
                          "Percent of a problem's symbols that a layer may hold"));
  quick->excludes(app.add_option("--pin", options.pin, "Whether the prompt is pinned")
                      ->capture_default_str()
                      ->check(CLI::IsMember({"on", "off", "both"})));
  quick->excludes(app.add_option("-n,--problems", selection.problems, "Problems of each task")
                      ->capture_default_str());
  quick->excludes(app.add_option("--first-seed", selection.first_seed,
                                 "Seed of the first problem: 0 for development, 1000000 for the "
                                 "test")
                      ->capture_default_str());
}

void add_run(CLI::App& app, RunOptions& options) {
  app.add_option("-m,--model", options.model,
                 "A reasoner as a GGUF file, or for contexts any language model; without, the "
                 "decoder's own reasoner");
  app.add_option("-o,--out", options.out,
                 "Rows of results, one JSON object a line; goes on from it")
      ->capture_default_str();
  CLI::Option* quick = app.add_flag("--quick", options.selection.is_quick,
                                    "A fixed selection of few, small problems: under a minute");
  add_selection(app, options, quick);
  app.add_flag("--forced", options.is_forced, "Feed the true symbols, whatever the model says");
  app.add_option("-t,--threads", options.threads, "0: one per core")->capture_default_str();
  app.add_option("--shard", options.shard, "i/n: only every n-th job, from the i-th on")
      ->capture_default_str();
}

void add_files(CLI::App& app, std::vector<std::string>& files) {
  app.add_option("files", files, "Files that run wrote: of one run or shards")->required();
}

const char* const against_help =
    "Compare every policy with this one on the same problems; best: "
    "with the one that has most answers right";

void add_table(CLI::App& app, TableOptions& options) {
  add_files(app, options.files);
  app.add_option("--against", options.against, against_help);
  app.add_option("--json", options.json, "Write the summary to this file");
}

void add_page(CLI::App& app, PageOptions& options) {
  add_files(app, options.files);
  app.add_option("--against", options.against, against_help)->capture_default_str();
  app.add_option("-o,--out", options.out, "The page")->capture_default_str();
}

void add_merge(CLI::App& app, MergeOptions& options) {
  add_files(app, options.files);
  app.add_option("-o,--out", options.out, "The joined file")->required();
}

/// Adds a command: its options, and what it does once they are read.
template <class Options>
void add_command(CLI::App& app, const char* name, const char* what,
                 void (*add_options)(CLI::App&, Options&), Options& options,
                 int (*command)(const Options&), int& status) {
  CLI::App* added = app.add_subcommand(name, what);
  add_options(*added, options);
  added->callback([&options, &status, command] { status = command(options); });
}

int main_of(int argc, char** argv) {
  CLI::App app("How many answers stay right when a cache is pruned.");
  app.require_subcommand(1);
  RunOptions run_options;
  TableOptions table_options;
  PageOptions page_options;
  MergeOptions merge_options;
  int status = 0;
  add_command(app, "run", "Work through problems under policies and budgets", add_run, run_options,
              run, status);
  add_command(app, "table", "Summarise files of results", add_table, table_options, table, status);
  add_command(app, "page", "Show files of results as one HTML page", add_page, page_options, page,
              status);
  add_command(app, "merge", "Join files of results, such as shards", add_merge, merge_options,
              merge, status);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    throw decoder::Error(decoder::one_line(error.what()) + " (--help explains the options)");
  }
  return status;
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
