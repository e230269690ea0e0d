#include "rows.hpp"

#include <filesystem>
#include <string>
#include <vector>

#include "../catch.hpp"
#include "../decoder/expect_error.hpp"
#include "sample_rows.hpp"

namespace {

using accuracy::Reading;
using accuracy::test::File;
using accuracy::test::row;
using decoder::test::check_error;
using nlohmann::json;

std::string line(const json& row) { return row.dump() + '\n'; }

/// A row of results with one field changed, as a file.
std::string damaged(const char* field, const json& value) {
  json changed = row({.policy = "h2o", .is_solved = false});
  changed[field] = value;
  return line(changed);
}

}  // namespace

TEST_CASE("a run goes on behind a last line that was cut short") {
  const std::string whole = line(row({.policy = "h2o"}));
  const File file(whole + whole.substr(0, 30));
  const auto rows = accuracy::read_rows(file.path, Reading::to_append);
  REQUIRE(rows.size() == 1);
  CHECK(std::filesystem::file_size(file.path) == whole.size());
  const accuracy::Cell cell{.model = "m",
                            .task = accuracy::Task::recall,
                            .size = accuracy::evaluated_size(accuracy::Task::recall),
                            .policy = "h2o",
                            .budget = 25};
  CHECK(accuracy::key_of(rows[0]) == accuracy::key_of(cell, 0));
  CHECK(accuracy::key_of(rows[0]) != accuracy::key_of(cell, 1));
}

TEST_CASE("a reader leaves the file as it is") {
  const std::string whole = line(row({.policy = "h2o"}));
  const File cut(whole + whole.substr(0, 30), "cut");
  CHECK(accuracy::read_rows(cut.path, Reading::only).size() == 1);
  CHECK(std::filesystem::file_size(cut.path) == whole.size() + 30);
  const std::string second = line(row({.policy = "h2o", .seed = 1}));
  const File endless(whole + second.substr(0, second.size() - 1), "endless");
  CHECK(accuracy::read_rows(endless.path, Reading::only).size() == 2);
}

TEST_CASE("a file that holds anything else is refused by its line") {
  const std::string good = line(row({.policy = "h2o"}));
  for (const std::string& bad :
       {std::string("{}\n"), std::string("\n"), std::string("[1,2]\n"), std::string("nonsense\n"),
        damaged("policy", 3), damaged("size", {1, 2}), damaged("budget", 0), damaged("budget", 101),
        damaged("seed", -1), damaged("solved", "yes"), damaged("answers", {3, 2}),
        damaged("answers", 2), damaged("by_gap", {{1, 2, 3}}), damaged("by_gap", json::object()),
        damaged("first_error", 100), damaged("prompt", 100), damaged("mean_kept", -1),
        damaged("seconds", "long"), damaged("bytes", -4)}) {
    INFO(bad);
    const File file(good + bad);
    check_error([&] { (void)accuracy::read_rows(file.path, Reading::only); },
                "line 2 is no row of results");
  }
  check_error([] { (void)accuracy::read_rows("nowhere.jsonl", Reading::only); }, "cannot read");
  CHECK(accuracy::read_rows("nowhere.jsonl", Reading::to_append).empty());
}

TEST_CASE("a file without rows is refused, but a run may begin in it") {
  const File empty("");
  check_error([&] { (void)accuracy::read_rows(empty.path, Reading::only); }, "holds no rows");
  CHECK(accuracy::read_rows(empty.path, Reading::to_append).empty());
}

TEST_CASE("merging keeps every row once, in the order of the files") {
  json again = row({.policy = "h2o"});
  again["seconds"] = 7.5;
  again["bytes"] = 1;
  const File first(line(row({.policy = "h2o"})) + line(row({.policy = "tova"})), "first");
  const File second(line(row({.policy = "tova", .seed = 1})) + line(again), "second");
  const accuracy::Merged merged = accuracy::merge({first.path, second.path});
  REQUIRE(merged.rows.size() == 3);
  CHECK(merged.repeated == 1);
  CHECK(merged.rows[0] == row({.policy = "h2o"}));
  CHECK(merged.rows[1] == row({.policy = "tova"}));
  CHECK(merged.rows[2] == row({.policy = "tova", .seed = 1}));
  const File joined(accuracy::lines_of(merged.rows), "joined");
  CHECK(accuracy::read_distinct({joined.path}) == merged.rows);
}

TEST_CASE("rows that contradict each other are named") {
  const File first(line(row({.policy = "tova"})) + line(row({.policy = "h2o"})), "first");
  const File second(line(row({.policy = "h2o", .is_solved = false})), "second");
  check_error(
      [&] {
        (void)accuracy::merge({first.path, second.path});
      },
      second.path + " line 1 contradicts " + first.path + " line 2");
}

TEST_CASE("a table refuses rows that come twice") {
  const File file(line(row({.policy = "h2o"})) + line(row({.policy = "h2o"})));
  check_error([&] { (void)accuracy::read_distinct({file.path}); }, "line 2 repeats " + file.path);
  check_error([&] { (void)accuracy::read_distinct({file.path}); }, "accuracy merge");
}
