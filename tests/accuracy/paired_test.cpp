#include "paired.hpp"

#include <algorithm>
#include <string>

#include "../catch.hpp"
#include "../decoder/expect_error.hpp"
#include "sample_rows.hpp"

namespace {

using accuracy::compare;
using accuracy::Comparison;
using accuracy::Comparisons;
using accuracy::Task;
using accuracy::test::results;
using accuracy::test::rows;
using accuracy::test::sample_rows;
using accuracy::test::together;
using decoder::test::check_error;

Comparison find(const Comparisons& comparisons, const std::string& policy, double budget) {
  const auto found =
      std::find_if(comparisons.all.begin(), comparisons.all.end(), [&](const Comparison& each) {
        return each.policy == policy && each.setting.budget == budget;
      });
  REQUIRE(found != comparisons.all.end());
  return *found;
}

}  // namespace

TEST_CASE("policies are compared problem by problem") {
  const Comparisons comparisons = compare(results(sample_rows()), "tova");
  CHECK(comparisons.against == "tova");
  CHECK(comparisons.all.size() == 4);
  const Comparison h2o = find(comparisons, "h2o", 25);
  CHECK(h2o.pairs == 40);
  CHECK(h2o.ahead == 0);
  CHECK(h2o.behind == 10);
  CHECK_THAT(h2o.difference, WithinRel(-0.25, 1e-12));
  CHECK_THAT(h2o.p, WithinRel(2.0 / 1024, 1e-9));
  CHECK(h2o.verdict() == "worse");
  const Comparison lethe = find(comparisons, "lethe", 25);
  CHECK(lethe.ahead == 8);
  CHECK_THAT(lethe.p, WithinRel(2.0 / 256, 1e-9));
  CHECK(lethe.verdict() == "better");
}

TEST_CASE("only ranked comparisons are corrected for") {
  const Comparisons comparisons = compare(results(sample_rows()), "tova");
  // Two tests at 25%; at 10% the oracle fails.
  CHECK_THAT(find(comparisons, "h2o", 25).corrected, WithinRel(4.0 / 1024, 1e-9));
  CHECK_THAT(find(comparisons, "lethe", 25).corrected, WithinRel(2.0 / 256, 1e-9));
  const Comparison unranked = find(comparisons, "lethe", 10);
  CHECK_FALSE(unranked.is_ranked);
  CHECK(unranked.verdict() == "not ranked");
  CHECK(unranked.behind == 30);
  CHECK(unranked.corrected == 1);
}

TEST_CASE("a cell is ranked from 97% of the oracle on") {
  const auto with_oracle = [](std::size_t solved) {
    return results(together({rows({.policy = "oracle"}, 100, solved),
                             rows({.policy = "h2o"}, 100, 50), rows({.policy = "tova"}, 100, 60)}));
  };
  CHECK(compare(with_oracle(97), "h2o").all.at(0).is_ranked);
  CHECK_FALSE(compare(with_oracle(96), "h2o").all.at(0).is_ranked);
}

TEST_CASE("of problems with many answers, the one with more of them right is ahead") {
  auto h2o = rows({.policy = "h2o"}, 3, 0), tova = rows({.policy = "tova"}, 3, 0);
  h2o[0]["answers"] = {3, 4}, tova[0]["answers"] = {2, 4};
  h2o[1]["answers"] = {1, 4}, tova[1]["answers"] = {1, 4};
  h2o[2]["answers"] = {0, 4}, tova[2]["answers"] = {4, 4};
  const auto all = results(together({rows({.policy = "oracle"}, 3, 3), h2o, tova}));
  const Comparison pair = find(compare(all, "tova"), "h2o", 25);
  CHECK(pair.pairs == 3);
  CHECK(pair.ahead == 1);
  CHECK(pair.behind == 1);
  CHECK_THAT(pair.difference, WithinRel((0.25 - 1.0) / 3, 1e-12));
  CHECK(accuracy::best_policy(all) == "tova");
}

TEST_CASE("only common problems are pairs") {
  auto h2o = rows({.policy = "h2o"}, 10, 5), tova = rows({.policy = "tova"}, 12, 8);
  h2o.erase(h2o.begin(), h2o.begin() + 4);  // solved: seed 4; tova: seeds 0 to 7
  const auto all = results(together({rows({.policy = "oracle"}, 12, 12), h2o, tova}));
  const Comparison pair = find(compare(all, "tova"), "h2o", 25);
  CHECK(pair.pairs == 6);
  CHECK(pair.ahead == 0);
  CHECK(pair.behind == 3);
  tova.erase(tova.begin() + 4, tova.end());
  const auto apart = results(together({rows({.policy = "oracle"}, 12, 12), h2o, tova}));
  CHECK(find(compare(apart, "tova"), "h2o", 25).verdict() == "no common problems");
}

TEST_CASE("the best policy has most answers right where policies are ranked") {
  // h2o leads over all cells, lethe in the one where the oracle shows that it counts.
  CHECK(accuracy::best_policy(results(sample_rows())) == "lethe");
  CHECK(compare(results(sample_rows()), "best").against == "lethe");
  const auto unranked =
      results(together({rows({.policy = "oracle"}, 4, 0), rows({.policy = "h2o"}, 4, 1),
                        rows({.policy = "tova"}, 4, 2)}));
  CHECK(accuracy::best_policy(unranked) == "tova");
}

TEST_CASE("a cell that a policy lacks does not decide who is best") {
  auto all = sample_rows();
  const auto more = together({rows({.policy = "oracle", .budget = 50}, 10, 10),
                              rows({.policy = "h2o", .budget = 50}, 10, 10)});
  all.insert(all.end(), more.begin(), more.end());
  CHECK(accuracy::best_policy(results(all)) == "lethe");
}

TEST_CASE("the whole cache may be compared with, at every budget") {
  const Comparisons comparisons = compare(results(sample_rows()), "none");
  CHECK(comparisons.all.size() == 6);
  CHECK(find(comparisons, "lethe", 25).behind == 2);
}

TEST_CASE("policies are ranked on contexts where the whole cache has nine answers in ten right") {
  const auto rows_with = [](std::size_t whole) {
    return results(together({rows({.policy = "none", .task = Task::facts}, 40, whole),
                             rows({.policy = "h2o", .task = Task::facts}, 40, 10),
                             rows({.policy = "tova", .task = Task::facts}, 40, 30)}));
  };
  CHECK(compare(rows_with(36), "tova").all.at(0).verdict() == "worse");
  CHECK(compare(rows_with(35), "tova").all.at(0).verdict() == "not ranked");
}

TEST_CASE("what cannot be compared is refused") {
  check_error([] { (void)compare(results(sample_rows()), "snapkv"); },
              "--against snapkv: no rows of it; choose best, none, oracle, lethe, h2o, tova");
  const auto no_oracle = results(rows({.policy = "h2o"}, 4, 1));
  check_error([&] { (void)compare(no_oracle, "best"); }, "no rows of an oracle");
  const auto alone = results(rows({.policy = "oracle"}, 4, 4));
  check_error([&] { (void)compare(alone, "best"); }, "no rows of a policy to rank");
}
