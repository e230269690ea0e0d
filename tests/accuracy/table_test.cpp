#include "table.hpp"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "../catch.hpp"
#include "cell.hpp"
#include "error.hpp"

namespace {

using accuracy::Missing;
using accuracy::Share;
using nlohmann::json;

/// A file of the test's own, gone with it.
struct File {
  explicit File(const std::string& text)
      : path((std::filesystem::temp_directory_path() / "lethe_accuracy_rows.jsonl").string()) {
    std::ofstream(path) << text;
  }
  ~File() { std::remove(path.c_str()); }

  std::string path;
};

json row(const std::string& policy, std::uint64_t seed, bool is_solved) {
  accuracy::Attempt attempt;
  attempt.answers = {{.gap = 5, .is_right = is_solved}, {.gap = 70, .is_right = true}};
  attempt.produced = 2;
  attempt.mean_kept = 40;
  accuracy::Cell cell{.model = "m", .task = accuracy::Task::recall, .policy = policy, .budget = 25};
  accuracy::Problem problem;
  problem.symbols.resize(100);
  return row_of(cell, seed, problem, attempt);
}

}  // namespace

TEST_CASE("rows of a cell are summed") {
  const auto summaries = accuracy::summarise(
      {row("h2o", 0, true), row("tova", 0, false), row("h2o", 1, false), row("h2o", 2, true)});
  REQUIRE(summaries.size() == 2);
  CHECK(summaries[0].policy == "h2o");
  CHECK(summaries[0].solved.hits == 2);
  CHECK(summaries[0].solved.count == 3);
  CHECK(summaries[0].answers.hits == 5);
  CHECK(summaries[0].answers.count == 6);
  CHECK_THAT(summaries[0].mean_kept, WithinRel(40.0, 1e-12));
  CHECK(summaries[1].solved.hits == 0);
  const std::string table = summary_table(summaries);
  CHECK(table.find("66.7%") != std::string::npos);
}

TEST_CASE("a share has Wilson's interval") {
  // 8 of 10: 0.4902 to 0.9433 (Wilson 1927, as any table gives it).
  const Share share{.hits = 8, .count = 10};
  CHECK_THAT(share.low(), WithinAbs(0.4902, 1e-4));
  CHECK_THAT(share.high(), WithinAbs(0.9433, 1e-4));
}

TEST_CASE("a run goes on behind a last line that was cut short") {
  const std::string whole = row("h2o", 0, true).dump() + '\n';
  const File file(whole + whole.substr(0, 30));
  const auto rows = accuracy::read_rows(file.path, Missing::refused);
  REQUIRE(rows.size() == 1);
  CHECK(std::filesystem::file_size(file.path) == whole.size());
  const accuracy::Cell cell{
      .model = "m", .task = accuracy::Task::recall, .policy = "h2o", .budget = 25};
  CHECK(accuracy::key_of(rows[0]) == accuracy::key_of(cell, 0));
  CHECK(accuracy::key_of(rows[0]) != accuracy::key_of(cell, 1));
}

TEST_CASE("a file that holds anything else is refused by its line") {
  const File file(row("h2o", 0, true).dump() + "\n{}\n");
  CHECK_THROWS_WITH(accuracy::read_rows(file.path, Missing::refused),
                    Catch::Contains("line 2 is no row of results"));
  CHECK_THROWS_AS(accuracy::read_rows("nowhere.jsonl", Missing::refused), decoder::Error);
  CHECK(accuracy::read_rows("nowhere.jsonl", Missing::allowed).empty());
}
