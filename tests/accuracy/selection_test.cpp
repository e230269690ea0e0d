#include "selection.hpp"

#include <set>
#include <string>
#include <vector>

#include "../catch.hpp"
#include "../decoder/expect_error.hpp"

namespace {

using accuracy::Cell;
using accuracy::Job;
using accuracy::Pin;
using accuracy::Selection;
using decoder::test::check_error;

std::set<std::string> keys_of(const std::vector<Job>& jobs) {
  std::set<std::string> keys;
  for (const Job& job : jobs) keys.insert(key_of(job.cell, job.seed));
  return keys;
}

}  // namespace

TEST_CASE("a quick selection has every task, two budgets, four policies and small problems") {
  const Selection quick =
      accuracy::quick_selection({.model = "m", .tasks = {"loop"}, .problems = 9999});
  check(quick);
  CHECK(quick.model == "m");
  CHECK(quick.tasks == Selection().tasks);
  CHECK(quick.budgets.size() == 2);
  CHECK(quick.policies.size() == 4);
  CHECK(quick.policies.front() == "oracle");
  const std::vector<Job> jobs = jobs_of(quick, {}, {});
  CHECK(jobs.size() == 408);  // 6 tasks, 4 problems, 1 + 2 pins * 2 budgets * 4 policies
  std::size_t symbols = 0;
  for (const Job& job : jobs) {
    const std::size_t size = make_problem(job.cell.task, job.cell.size, job.seed).symbols.size();
    REQUIRE(size >= 220);
    REQUIRE(size <= 380);
    symbols += size;
  }
  CHECK(symbols < 125000);  // what a core of 2020 does within a minute
}

TEST_CASE("every cell comes once, the whole cache first") {
  const Selection selection{
      .tasks = {"recall"}, .policies = {"h2o", "oracle"}, .budgets = {10, 50}, .pin = Pin::both};
  const std::vector<Cell> cells = cells_of(selection);
  REQUIRE(cells.size() == 9);
  CHECK(cells[0].policy == "none");
  CHECK(cells[0].budget == 100);
  CHECK(cells[1].policy == "h2o");
  CHECK(cells[1].budget == 10);
  CHECK_FALSE(cells[1].is_pinned);
  CHECK(cells[8].policy == "oracle");
  CHECK(cells[8].budget == 50);
  CHECK(cells[8].is_pinned);
  Selection unpinned = selection;
  unpinned.pin = Pin::off;
  CHECK(cells_of(unpinned).size() == 5);
}

TEST_CASE("shards share out the jobs, and finished ones are left out") {
  const Selection selection{.tasks = {"recall", "loop"}, .problems = 5};
  const auto all = keys_of(jobs_of(selection, {}, {}));
  std::set<std::string> together;
  std::size_t count = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    const auto jobs = jobs_of(selection, {.index = i, .count = 3}, {});
    count += jobs.size();
    together.merge(keys_of(jobs));
  }
  CHECK(together == all);
  CHECK(count == all.size());
  const std::string first = *all.begin();
  CHECK(jobs_of(selection, {}, {first}).size() == all.size() - 1);
}

TEST_CASE("a pinned prompt that leaves no room is no job") {
  const Selection selection{
      .tasks = {"loop"}, .policies = {"h2o"}, .budgets = {2}, .pin = Pin::both, .problems = 1};
  CHECK(jobs_of(selection, {}, {}).size() == 2);  // the whole cache, and h2o without the pin
}

TEST_CASE("contexts have a cell for each length, and no oracle that knows programs") {
  const Selection selection{.tasks = {"facts", "recall"},
                            .lengths = {1024, 2048},
                            .policies = {"h2o", "oracle", "attention-oracle"},
                            .budgets = {25},
                            .pin = Pin::on,
                            .problems = 1};
  check(selection);
  const std::vector<Cell> cells = cells_of(selection);
  REQUIRE(cells.size() == 10);  // facts: twice the whole cache and two policies; recall: and oracle
  CHECK(cells[0].size.steps == 1024);
  CHECK(cells[3].size.steps == 2048);
  CHECK(cells[3].policy == "none");
  CHECK(jobs_of(selection, {}, {}).size() == 10);
}

TEST_CASE("the whole cache may run alone") {
  const Selection selection{.tasks = {"facts", "recall"}, .policies = {"none"}};
  check(selection);
  CHECK(cells_of(selection).size() == 2);
}

TEST_CASE("unknown names and numbers out of range are refused") {
  check_error([] { check(Selection{.tasks = {"chess"}}); }, "--task chess: unknown");
  check_error([] { check(Selection{.policies = {"magic"}}); }, "--policy magic: unknown");
  check_error([] { check(Selection{.policies = {"none", "h2o"}}); }, "--policy none");
  check_error([] { check(Selection{.lengths = {799}}); }, "--length 799: give 800 to 4096");
  check_error([] { check(Selection{.lengths = {4097}}); }, "--length 4097");
  check_error([] { check(Selection{.budgets = {0}}); }, "--budget 0.0");
  check_error([] { check(Selection{.budgets = {101}}); }, "--budget 101");
  CHECK(accuracy::parse_shard("2/3").index == 2);
  for (const char* text : {"3/3", "1", "a/b", "1/2x", "0/0"}) {
    check_error([&] { (void)accuracy::parse_shard(text); }, "give i/n with i below n");
  }
}
