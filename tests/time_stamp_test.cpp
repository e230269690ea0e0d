#include "lethe/score/time_stamp.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <vector>

#include "catch.hpp"
#include "naive/given.hpp"
#include "naive/history.hpp"
#include "samples.hpp"

namespace {

using lethe::TimeStamp;
using naive::scores_of;

/// Sorts each query's mass; whoever is as good as the last of the upper half is stamped.
struct Stamps {
  double share = 0.5;
  std::map<std::uint32_t, std::size_t> newest{};

  void pay(std::size_t query, const std::vector<std::uint32_t>& positions,
           const std::vector<double>& mass) {
    std::vector<double> sorted = mass;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    std::size_t count = 0;
    while (double(count) < share * double(mass.size())) ++count;
    for (std::size_t i = 0; i < mass.size(); ++i) {
      if (mass[i] > 0 && mass[i] >= sorted[count - 1]) newest[positions[i]] = query;
    }
  }

  [[nodiscard]] double score(std::uint32_t position, std::size_t) const {
    const auto found = newest.find(position);
    const std::size_t own = position + std::size_t{1};
    return double(found == newest.end() ? own : std::max(own, found->second));
  }
};

using Row = std::vector<float>;

void step(TimeStamp& scorer, const Row& mass, std::size_t layer = 0, std::size_t group = 0) {
  scorer.record(layer, group, 0, 0, mass);
  scorer.advance(1);
}

}  // namespace

TEST_CASE("stamps are RaaS's, over rounds, groups, chunks and overwritten slots") {
  std::size_t dropped = 0;
  for (std::uint64_t seed = 1; seed < 5; ++seed) {
    naive::HistorySetup setup{.seed = seed};
    setup.config.groups = 1 + seed % 2;
    dropped += naive::History<TimeStamp, Stamps>(setup, {}, {}).run();
    dropped += naive::History<TimeStamp, Stamps, naive::with_overwrite>(setup, {.share = 0.25f},
                                                                        {.share = 0.25})
                   .run();
    setup.chunk = 6;
    dropped += naive::History<TimeStamp, Stamps>(setup, {.open_queries = 6}, {}).run();
  }
  CHECK(dropped > 1000);
}

TEST_CASE("the upper half is stamped, rounded up, equals alike and the unpaid never") {
  TimeStamp scorer({}, {.layers = 1, .slots = 16});
  scorer.advance(6);
  step(scorer, {0.1f, 0.4f, 0.2f, 0.2f, 0.0f, 0.2f});
  CHECK(scores_of(scorer, {0, 1, 2, 3, 4, 5}) == Row{1, 7, 7, 7, 5, 7});
  step(scorer, {0.3f, 0.1f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f});
  CHECK(scores_of(scorer, {0, 1, 2, 3, 4, 5, 6}) == Row{8, 8, 7, 7, 5, 7, 7});
  step(scorer, {0.0f, 0.1f, 0.2f, 0.0f, 0.3f});
  CHECK(scores_of(scorer, {0, 1, 2, 3, 4, 5, 6}) == Row{8, 9, 9, 7, 9, 7, 7});
}

TEST_CASE("shares are rounded up once, not for what a float adds") {
  TimeStamp scorer({.share = 0.1f}, {.layers = 1, .slots = 1000});
  Row mass;
  for (std::size_t i = 0; i < 1000; ++i) mass.push_back(static_cast<float>(i + 1));
  scorer.advance(1000);
  step(scorer, mass);
  const Row scores = scores_of(scorer, std::vector<lethe::Position>(1000));
  CHECK(std::count(scores.begin(), scores.end(), 1001.0f) == 100);
}

TEST_CASE("stamps travel with their tokens, and a new token bears its own query's") {
  TimeStamp scorer({}, {.layers = 2, .groups = 2, .slots = 8});
  for (int query = 0; query < 4; ++query) step(scorer, {0.1f, 0.4f, 0.0f, 0.2f}, 1, 1);
  CHECK(scores_of(scorer, {0, 1, 2, 3}, 1, 1) == Row{1, 4, 3, 4});
  const std::vector<lethe::Slot> kept{0, 1};
  scorer.keep({.layer = 1, .tokens = 4, .first_move = 2, .kept = kept}, 1);
  CHECK(scores_of(scorer, {0, 1, 4}, 1, 1) == Row{1, 4, 5});
  CHECK(scores_of(scorer, {0, 1}, 1, 0) == Row{1, 2});
  scorer.forget(1, 1, 1);
  CHECK(scores_of(scorer, {0, 5}, 1, 1) == Row{1, 6});
  step(scorer, {0.0f, 1.0f}, 1, 1);
  scorer.reset();
  CHECK(scores_of(scorer, {0, 1}, 1, 1) == Row{1, 2});
  step(scorer, {1.0f}, 1, 1);
  step(scorer, {1.0f, 0.0f}, 1, 1);
  CHECK(scores_of(scorer, {0, 1}, 1, 1) == Row{2, 2});
}

TEST_CASE("a saved scorer goes on where it stood") {
  Samples samples(3);
  const lethe::ScoreShape shape{.layers = 1, .groups = 2, .slots = 16};
  TimeStamp scorer({}, shape);
  for (std::size_t query = 0; query < 9; ++query) step(scorer, samples.row(query + 1), 0, 1);
  TimeStamp restored = naive::restored(scorer, {}, shape);
  const Row mass = samples.row(10);
  for (TimeStamp* one : {&scorer, &restored}) step(*one, mass, 0, 1);
  CHECK(scores_of(scorer, ascending_positions(10), 0, 1) ==
        scores_of(restored, ascending_positions(10), 0, 1));
}

TEST_CASE("mass that is not finite stays visible until its token goes") {
  for (const float odd : {not_a_number, infinity, -infinity}) {
    TimeStamp scorer({}, {.layers = 1, .slots = 4});
    step(scorer, {1.0f, odd, 1.0f});
    for (int query = 0; query < 3; ++query) step(scorer, {0.5f, 1.0f, 0.5f});
    const Row found = scores_of(scorer, {0, 1, 2});
    CHECK(lethe::is_finite(found[0]));
    CHECK_FALSE(lethe::is_finite(found[1]));
    CHECK(lethe::is_finite(found[2]));
    CHECK(scorer.valid());
    scorer.forget(0, 0, 1);
    CHECK(scores_of(scorer, {0, 5, 2})[1] == 6.0f);
  }
}

TEST_CASE("settings of RaaS that cannot be are refused by name") {
  const lethe::ScoreShape shape{.layers = 1, .slots = 4};
  CHECK_THROWS_WITH(TimeStamp({.share = 0.0f}, shape), Catch::Contains("share = 0"));
  CHECK_THROWS_WITH(TimeStamp({.share = 1.5f}, shape), Catch::Contains("share = 1.5"));
  CHECK_THROWS_WITH(TimeStamp({.share = not_a_number}, shape), Catch::Contains("share"));
  CHECK_THROWS_WITH(TimeStamp({.open_queries = 0}, shape), Catch::Contains("open_queries = 0"));
  CHECK_THROWS_AS(TimeStamp({.open_queries = 0}, shape), std::invalid_argument);
}
