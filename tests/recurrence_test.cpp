#include "lethe/score/recurrence.hpp"

#include <cmath>
#include <map>
#include <vector>

#include "catch.hpp"
#include "naive/given.hpp"
#include "naive/history.hpp"
#include "samples.hpp"

namespace {

using lethe::Recurrence;

constexpr float threshold = 0.01f;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// Every query that looked at a token, in order.
struct Looks {
  std::map<std::uint32_t, std::vector<double>> queries;

  void pay(std::size_t query, const std::vector<std::uint32_t>& positions,
           const std::vector<double>& mass) {
    for (std::size_t i = 0; i < positions.size(); ++i) {
      if (mass[i] > double(threshold)) queries[positions[i]].push_back(double(query));
    }
  }

  [[nodiscard]] double score(std::uint32_t position, std::size_t now) const {
    const auto found = queries.find(position);
    if (found == queries.end()) return 0;
    const std::vector<double>& looks = found->second;
    double longest = 0;
    for (std::size_t i = 1; i < looks.size(); ++i) {
      longest = std::max(longest, looks[i] - looks[i - 1]);
    }
    const double since = double(now) - looks.back();
    if (longest == 0) return since == 0 ? 1 : 0;
    return 2 * sigmoid(-since / longest) + 2 * sigmoid(-1 / longest);
  }
};

std::vector<float> scores_of(Recurrence& scorer, std::size_t tokens, std::size_t layer = 0,
                             std::size_t group = 0) {
  return naive::scores_of(scorer, ascending_positions(tokens), layer, group);
}

/// One query in one piece.
void step(Recurrence& scorer, const std::vector<float>& mass, std::size_t layer = 0,
          std::size_t group = 0) {
  scorer.record(layer, group, 0, 0, mass);
  scorer.advance(1);
}

}  // namespace

TEST_CASE("scores are LazyEviction's, over rounds, groups, chunks and overwritten slots") {
  std::size_t dropped = 0;
  for (std::uint64_t seed = 1; seed < 5; ++seed) {
    naive::HistorySetup setup{.seed = seed};
    setup.config.groups = 1 + seed % 2;
    dropped += naive::History<Recurrence, Looks>(setup, {.threshold = threshold}, {}).run();
    dropped += naive::History<Recurrence, Looks, naive::with_overwrite>(
                   setup, {.threshold = threshold}, {})
                   .run();
    setup.chunk = 6;
    dropped +=
        naive::History<Recurrence, Looks>(setup, {.threshold = threshold, .open_queries = 6}, {})
            .run();
  }
  CHECK(dropped > 1000);
}

TEST_CASE("a query's pieces are judged together, in whatever order they come") {
  const lethe::ScoreShape shape{.layers = 1, .slots = 4};
  Recurrence scorer({.threshold = 0.3f, .open_queries = 3}, shape);
  for (std::size_t slot = 0; slot < 3; ++slot) {  // tile by tile, as deferred queries are scored
    for (std::int64_t query = 0; query < 3; ++query) {
      scorer.record(0, 0, query, slot, std::vector<float>{query == 1 ? 0.25f : 0.2f});
    }
  }
  for (std::int64_t query = 2; query >= 0; --query) {
    scorer.record(0, 0, query, 1, std::vector<float>{query != 1 ? 0.2f : 0.0f, 0.125f});
  }
  scorer.advance(3);
  const auto expected = static_cast<float>(2 * sigmoid(0) + 2 * sigmoid(-0.5));
  const std::vector<float> found = scores_of(scorer, 4);
  CHECK(found[0] == 0.0f);                           // never above the threshold
  CHECK_THAT(found[1], WithinRel(expected, 1e-6f));  // queries 1 and 3
  CHECK_THAT(found[2],
             WithinRel(static_cast<float>(2 * sigmoid(0) + 2 * sigmoid(-1)), 1e-6f));  // all three
}

TEST_CASE("a step in progress does not count before it is committed") {
  Recurrence scorer({.threshold = 0.1f}, {.layers = 1, .slots = 4});
  step(scorer, {0.5f});
  scorer.record(0, 0, 0, 0, std::vector<float>{0.08f, 0.5f});
  CHECK(scores_of(scorer, 2) == std::vector<float>{1.0f, 0.0f});
  scorer.record(0, 0, 0, 0, std::vector<float>{0.08f, 0.0f});
  scorer.advance(1);
  const auto twice = static_cast<float>(2 * sigmoid(0) + 2 * sigmoid(-1));
  CHECK_THAT(scores_of(scorer, 2)[0], WithinRel(twice, 1e-6f));
}

TEST_CASE("mass of a query that is no longer open is left out") {
  Recurrence scorer({.threshold = 0.1f}, {.layers = 1, .slots = 4});
  scorer.record(0, 0, 0, 0, std::vector<float>{0.0f, 0.0f});
  scorer.record(0, 0, 1, 0, std::vector<float>{0.5f, 0.0f});
  scorer.record(0, 0, 0, 0, std::vector<float>{0.5f, 0.5f});
  scorer.advance(2);
  CHECK(scores_of(scorer, 2) == std::vector<float>{1.0f, 0.0f});
  scorer.record(0, 0, -2, 0, std::vector<float>{0.0f, 0.5f});
  scorer.record(0, 0, -9, 0, std::vector<float>{0.0f, 0.5f});
  CHECK(scores_of(scorer, 2) == std::vector<float>{1.0f, 0.0f});
  scorer.record(0, 0, -1, 0, std::vector<float>{0.0f, 0.5f});
  step(scorer, {0.0f, 0.0f});
  CHECK(scores_of(scorer, 2) == std::vector<float>{0.0f, 0.0f});
}

TEST_CASE("looks travel with their tokens, and new tokens have none") {
  Recurrence scorer({.threshold = 0.1f}, {.layers = 2, .groups = 2, .slots = 8});
  for (const float first : {1.0f, 0.0f, 1.0f}) {
    step(scorer, {first, 1.0f, 0.0f, 1.0f}, 1, 1);
  }
  const std::vector<float> before = scores_of(scorer, 4, 1, 1);
  const std::vector<lethe::Slot> kept{0, 3};
  scorer.keep({.layer = 1, .tokens = 4, .first_move = 1, .kept = kept}, 1);
  CHECK(scores_of(scorer, 4, 1, 1) == std::vector<float>{before[0], before[3], 0.0f, 0.0f});
  CHECK(scores_of(scorer, 2, 1, 0) == std::vector<float>{0.0f, 0.0f});
  scorer.forget(1, 1, 0);
  CHECK(scores_of(scorer, 2, 1, 1) == std::vector<float>{0.0f, before[3]});
  scorer.reset();
  CHECK(scores_of(scorer, 2, 1, 1) == std::vector<float>{0.0f, 0.0f});
  step(scorer, {1.0f, 0.0f}, 1, 1);
  CHECK(scores_of(scorer, 2, 1, 1) == std::vector<float>{1.0f, 0.0f});
}

TEST_CASE("open rows travel with their tokens") {
  Recurrence scorer({.threshold = 0.1f}, {.layers = 1, .slots = 8});
  scorer.record(0, 0, 0, 0, std::vector<float>{0.0f, 0.0f, 0.08f, 0.08f});
  const std::vector<lethe::Slot> kept{2, 3};
  scorer.keep({.layer = 0, .tokens = 4, .first_move = 0, .kept = kept}, 0);
  scorer.forget(0, 0, 0);
  scorer.record(0, 0, 0, 0, std::vector<float>{0.08f, 0.08f, 0.08f});
  scorer.advance(1);
  CHECK(scores_of(scorer, 4) == std::vector<float>{0.0f, 1.0f, 0.0f, 0.0f});
}

TEST_CASE("a saved scorer goes on where it stood") {
  Samples samples(3);
  const Recurrence::Config config{.threshold = 0.5f, .open_queries = 2};
  const lethe::ScoreShape shape{.layers = 1, .groups = 2, .slots = 16};
  Recurrence scorer(config, shape);
  for (std::size_t query = 0; query < 9; ++query) step(scorer, samples.row(query + 1), 0, 1);
  Recurrence restored = naive::restored(scorer, config, shape);
  for (Recurrence* one : {&scorer, &restored}) step(*one, std::vector<float>(10, 0.75f), 0, 1);
  CHECK(scores_of(scorer, 10, 0, 1) == scores_of(restored, 10, 0, 1));
}

TEST_CASE("mass that is not finite stays visible until its token goes") {
  for (const float odd : {not_a_number, infinity, -infinity}) {
    Recurrence scorer({}, {.layers = 1, .slots = 4});
    step(scorer, {1.0f, odd, 1.0f});
    for (int query = 0; query < 3; ++query) step(scorer, {1.0f, 1.0f, 1.0f});
    const std::vector<float> found = scores_of(scorer, 3);
    CHECK(lethe::is_finite(found[0]));
    CHECK_FALSE(lethe::is_finite(found[1]));
    CHECK(lethe::is_finite(found[2]));
    CHECK(scorer.valid());
    scorer.forget(0, 0, 1);
    CHECK(scores_of(scorer, 3)[1] == 0.0f);
  }
}

TEST_CASE("settings of LazyEviction that cannot be are refused by name") {
  const lethe::ScoreShape shape{.layers = 1, .slots = 4};
  CHECK_THROWS_WITH(Recurrence({.threshold = -0.5f}, shape), Catch::Contains("threshold = -0.5"));
  CHECK_THROWS_WITH(Recurrence({.threshold = infinity}, shape), Catch::Contains("threshold"));
  CHECK_THROWS_WITH(Recurrence({.open_queries = 0}, shape), Catch::Contains("open_queries = 0"));
  CHECK_THROWS_AS(Recurrence({.open_queries = 0}, shape), std::invalid_argument);
}
