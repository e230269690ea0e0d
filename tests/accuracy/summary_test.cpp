#include "summary.hpp"

#include <cmath>

#include "../catch.hpp"
#include "sample_rows.hpp"

namespace {

using accuracy::summarise;
using accuracy::test::row;

}  // namespace

TEST_CASE("rows of a cell are summed") {
  const auto summaries = summarise({row({.policy = "h2o"}), row({.policy = "tova"}),
                                    row({.policy = "h2o", .seed = 1, .is_solved = false}),
                                    row({.policy = "h2o", .seed = 2})});
  REQUIRE(summaries.size() == 2);
  const accuracy::Summary& h2o = summaries[0];
  CHECK(h2o.policy == "h2o");
  CHECK(h2o.solved.hits == 2);
  CHECK(h2o.solved.count == 3);
  REQUIRE(h2o.outcomes.size() == 3);
  CHECK(h2o.outcomes.at(1).hits == 0);
  CHECK(h2o.outcomes.at(2).hits == 1);
  CHECK(h2o.outcomes.at(2).count == 1);
  CHECK(h2o.answers.total().hits == 2);
  CHECK(h2o.answers.total().count == 3);
  CHECK(h2o.steps.hits == 3);
  CHECK(h2o.lookups.total().hits == 5);
  CHECK(summaries[1].solved.count == 1);
}

TEST_CASE("gaps and first errors are collected") {
  const auto summaries =
      summarise({row({.policy = "h2o"}), row({.policy = "h2o", .seed = 1, .is_solved = false})});
  const accuracy::Summary& h2o = summaries.at(0);
  REQUIRE(h2o.by_gap.size() == 7);  // gaps of 5 and 70
  CHECK(h2o.by_gap[2].hits == 1);
  CHECK(h2o.by_gap[2].count == 2);
  CHECK(h2o.by_gap[6].hits == 2);
  CHECK(h2o.by_gap[6].count == 2);
  CHECK(h2o.by_gap[3].count == 0);
  REQUIRE(h2o.first_errors.size() == 1);
  CHECK_THAT(h2o.first_errors[0], WithinRel(0.6, 1e-12));
}

TEST_CASE("what is kept is a share of what the whole cache would hold") {
  const auto summaries =
      summarise({row({.policy = "none", .budget = 100}), row({.policy = "h2o"})});
  CHECK_THAT(summaries.at(0).kept_share(), WithinRel(1.0, 1e-12));
  CHECK_THAT(summaries.at(1).kept_share(), WithinRel(0.25, 1e-12));
}

TEST_CASE("speed and bytes come from the rows that have them") {
  nlohmann::json old = row({.policy = "h2o", .seed = 1});
  old.erase("seconds");
  old.erase("bytes");
  const auto both = summarise({row({.policy = "h2o"}), old});
  CHECK_THAT(both.at(0).tokens_per_second(), WithinRel(200.0, 1e-12));
  CHECK_THAT(both.at(0).mean_bytes(), WithinRel(4096.0, 1e-12));
  const auto none = summarise({old});
  CHECK(std::isnan(none.at(0).tokens_per_second()));
  CHECK(std::isnan(none.at(0).mean_bytes()));
}

TEST_CASE("sizes, pins, budgets and feeding are different cells") {
  nlohmann::json smaller = row({.policy = "h2o"}), forced = row({.policy = "h2o"});
  smaller["size"] = {2, 1, 5};
  forced["feeding"] = "truth";
  CHECK(summarise({row({.policy = "h2o"}), row({.policy = "h2o", .budget = 50}),
                   row({.policy = "h2o", .is_pinned = true}), smaller, forced})
            .size() == 5);
}
