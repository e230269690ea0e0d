#include "lethe/score/rasr.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"

namespace {

using lethe::Rasr;

std::vector<float> scores_of(const Rasr& scorer, std::size_t tokens, std::size_t layer = 0,
                             std::size_t group = 0) {
  const std::vector<lethe::Position> positions = ascending_positions(tokens);
  const auto row = scorer.score(layer, group, positions, {});
  return {row.begin(), row.end()};
}

/// The recurrence as it is written: s <- decay x s + mass, in double.
struct NaiveRasr {
  double decay = 1;
  std::vector<double> scores;

  void step(const std::vector<float>& mass) {
    for (std::size_t i = 0; i < scores.size(); ++i) {
      scores[i] = decay * scores[i] + static_cast<double>(i < mass.size() ? mass[i] : 0.0f);
    }
  }
};

/// Lazy scores have a scale of their own: both are compared as shares of their largest.
void require_same_shares(const std::vector<float>& found, const std::vector<double>& expected,
                         double tolerance) {
  const double top_found = static_cast<double>(*std::max_element(found.begin(), found.end()));
  const double top = *std::max_element(expected.begin(), expected.end());
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double share = static_cast<double>(found[i]) / top_found;
    const double truth = expected[i] / top;
    // Below 2^-60 of the best a score no longer ranks.
    REQUIRE_THAT(share, WithinAbs(truth, tolerance * truth + 1e-18));
  }
}

void run_steps(Rasr& scorer, NaiveRasr& naive, Samples& samples, int steps) {
  for (int step = 0; step < steps; ++step) {
    const std::vector<float> mass = samples.mass(naive.scores.size());
    scorer.record(0, 0, 0, 0, mass);
    scorer.advance(1);
    naive.step(mass);
  }
}

}  // namespace

TEST_CASE("lazy decay equals the plain recurrence over thousands of steps") {
  for (const float decay : {0.25f, 0.5f, 0.9f, 0.98f, 0.999f, 1.0f}) {
    Samples samples(11);
    Rasr scorer({.decay = decay}, {.layers = 1, .groups = 1, .slots = 24});
    NaiveRasr naive{.decay = static_cast<double>(decay), .scores = std::vector<double>(24, 0.0)};
    for (int block = 0; block < 8; ++block) {
      run_steps(scorer, naive, samples, 500);
      require_same_shares(scores_of(scorer, 24), naive.scores, 3e-5);
    }
  }
}

TEST_CASE("a token that stops receiving fades by the decay, through renormalisation") {
  Rasr scorer({.decay = 0.5f}, {.layers = 1, .groups = 1, .slots = 2});
  const std::vector<float> both{1.0f, 1.0f};
  const std::vector<float> second{0.0f, 1.0f};
  scorer.record(0, 0, 0, 0, both);
  scorer.advance(1);
  for (int step = 0; step < 10; ++step) {
    scorer.record(0, 0, 0, 0, second);
    scorer.advance(1);
  }
  const std::vector<float> scores = scores_of(scorer, 2);
  const double expected = std::ldexp(1.0, -10) / (2 - std::ldexp(1.0, -10));
  CHECK_THAT(static_cast<double>(scores[0] / scores[1]), WithinRel(expected, 1e-6));
}

TEST_CASE("chunks of 2,048 queries at decay 0.5 end as single steps do") {
  constexpr std::size_t chunk = 2048;
  Samples samples(12);
  const lethe::ScoreShape shape{.layers = 1, .groups = 1, .slots = 8};
  Rasr chunked({.decay = 0.5f}, shape);
  NaiveRasr naive{.decay = 0.5, .scores = std::vector<double>(8, 0.0)};
  for (int round = 0; round < 3; ++round) {
    for (std::size_t query = 0; query < chunk; ++query) {
      const std::vector<float> mass = samples.mass(8);
      chunked.record(0, 0, static_cast<std::int64_t>(query), 0, mass);
      naive.step(mass);
    }
    chunked.advance(chunk);
    const std::vector<float> scores = scores_of(chunked, 8);
    CHECK(std::all_of(scores.begin(), scores.end(), lethe::is_finite));
    require_same_shares(scores, naive.scores, 1e-5);
  }
}

TEST_CASE("the order in which a chunk's heads arrive does not matter") {
  constexpr int chunk = 300;
  for (const float decay : {0.5f, 0.98f}) {
    Samples samples(13);
    const lethe::ScoreShape shape{.layers = 1, .groups = 1, .slots = 6};
    Rasr by_query({.decay = decay}, shape);
    Rasr by_head({.decay = decay}, shape);
    const std::vector<float> masses = samples.row(2 * chunk * 6);
    const auto mass = [&](int head, int query) {
      return std::span(masses).subspan(static_cast<std::size_t>(head * chunk + query) * 6, 6);
    };
    for (int query = 0; query < chunk; ++query) {
      for (int head = 0; head < 2; ++head) by_query.record(0, 0, query, 0, mass(head, query));
    }
    for (int head = 0; head < 2; ++head) {
      for (int query = 0; query < chunk; ++query) by_head.record(0, 0, query, 0, mass(head, query));
    }
    by_query.advance(chunk);
    by_head.advance(chunk);
    const std::vector<float> expected = scores_of(by_query, 6);
    require_same_shares(scores_of(by_head, 6), {expected.begin(), expected.end()}, 1e-5);
  }
}

TEST_CASE("mass of earlier queries weighs what it would have weighed then") {
  Samples samples(14);
  const lethe::ScoreShape shape{.layers = 1, .groups = 1, .slots = 5};
  Rasr late({.decay = 0.9f}, shape);
  NaiveRasr naive{.decay = 0.9, .scores = std::vector<double>(5, 0.0)};
  const std::vector<float> masses = samples.row(20 * 5);
  for (std::size_t query = 0; query < 20; ++query) {
    naive.step({masses.begin() + static_cast<std::ptrdiff_t>(query * 5),
                masses.begin() + static_cast<std::ptrdiff_t>(query * 5 + 5)});
  }
  late.advance(20);
  for (std::size_t query = 0; query < 20; ++query) {
    late.record(0, 0, static_cast<std::int64_t>(query) - 20, 0,
                std::span(masses).subspan(query * 5, 5));
  }
  require_same_shares(scores_of(late, 5), naive.scores, 1e-5);
}

TEST_CASE("layers and groups keep scores of their own") {
  Rasr scorer({.decay = 0.5f}, {.layers = 2, .groups = 2, .slots = 3});
  const std::vector<float> mass{1.0f, 2.0f};
  scorer.record(1, 0, 0, 1, mass);
  CHECK(scores_of(scorer, 3, 0, 0) == std::vector<float>{0, 0, 0});
  CHECK(scores_of(scorer, 3, 1, 1) == std::vector<float>{0, 0, 0});
  const std::vector<float> found = scores_of(scorer, 3, 1, 0);
  CHECK(found[0] == 0);
  CHECK(found[2] == 2 * found[1]);
}

TEST_CASE("a layer observed rarely keeps pace with the others") {
  Rasr scorer({.decay = 0.5f}, {.layers = 2, .groups = 1, .slots = 2});
  const std::vector<float> old{1.0f, 0.0f};
  const std::vector<float> recent{0.0f, 1.0f};
  scorer.record(1, 0, 0, 0, old);
  scorer.advance(1);
  for (int step = 0; step < 200; ++step) {
    scorer.record(0, 0, 0, 0, old);
    scorer.advance(1);
  }
  scorer.record(1, 0, 0, 0, recent);
  const std::vector<float> scores = scores_of(scorer, 2, 1);
  CHECK(scores[1] > 0);
  CHECK(scores[0] < 1e-30f * scores[1]);
}

TEST_CASE("survivors keep their scores, and slots behind them are as new") {
  Rasr scorer({.decay = 0.9f}, {.layers = 1, .groups = 2, .slots = 6});
  const std::vector<float> mass{1, 2, 3, 4, 5};
  for (std::size_t group = 0; group < 2; ++group) scorer.record(0, group, 0, 0, mass);
  const std::vector<float> before = scores_of(scorer, 5, 0, 1);
  const std::vector<lethe::Slot> kept{0, 2, 4};
  const lethe::EvictionPlan plan{.tokens = 5, .first_move = 1, .kept = kept};
  scorer.keep(plan, 1);
  CHECK(scores_of(scorer, 6, 0, 1) == std::vector<float>{before[0], before[2], before[4], 0, 0, 0});
  CHECK(scores_of(scorer, 5, 0, 0) == before);
  scorer.forget(0, 0, 3);
  CHECK(scores_of(scorer, 5, 0, 0)[3] == 0);
}

TEST_CASE("scores that are not finite stay so, also when scores are scaled down") {
  for (const float bad : {not_a_number, infinity}) {
    Rasr scorer({.decay = 0.5f}, {.layers = 1, .groups = 1, .slots = 3});
    const std::vector<float> mass{0.5f, bad, 0.5f};
    scorer.record(0, 0, 0, 0, mass);
    scorer.advance(1);
    const std::vector<float> fine(3, 0.5f);
    for (int step = 0; step < 300; ++step) {
      scorer.record(0, 0, 0, 0, fine);
      scorer.advance(1);
    }
    const std::vector<float> scores = scores_of(scorer, 3);
    CHECK(lethe::is_finite(scores[0]));
    CHECK_FALSE(lethe::is_finite(scores[1]));
  }
}

TEST_CASE("scores of large mass stay far from overflow between renormalisations") {
  Rasr scorer({.decay = 0.99f}, {.layers = 1, .groups = 1, .slots = 2});
  const std::vector<float> mass{1e6f, 2e6f};
  for (int step = 0; step < 20000; ++step) {
    scorer.record(0, 0, 0, 0, mass);
    scorer.advance(1);
    const std::vector<float> scores = scores_of(scorer, 2);
    REQUIRE(lethe::is_finite(scores[1]));
    REQUIRE(scores[0] > 0);
  }
  const std::vector<float> scores = scores_of(scorer, 2);
  CHECK_THAT(static_cast<double>(scores[1] / scores[0]), WithinRel(2.0, 1e-5));
}

TEST_CASE("reset makes a scorer as new") {
  const lethe::ScoreShape shape{.layers = 1, .groups = 1, .slots = 4};
  Rasr fresh({.decay = 0.7f}, shape);
  Rasr used = fresh;
  NaiveRasr naive{.decay = 0.7, .scores = std::vector<double>(4, 0.0)};
  Samples samples(15);
  run_steps(used, naive, samples, 100);
  used.reset();
  CHECK(scores_of(used, 4) == std::vector<float>(4, 0.0f));
  Samples same(16);
  Samples again(16);
  run_steps(used, naive, same, 10);
  run_steps(fresh, naive, again, 10);
  CHECK(scores_of(used, 4) == scores_of(fresh, 4));
}

TEST_CASE("a decay outside (0, 1] is refused by name") {
  const lethe::ScoreShape shape{.layers = 1, .groups = 1, .slots = 4};
  for (const float decay : {0.0f, -0.5f, 1.0001f, not_a_number, infinity}) {
    CHECK_THROWS_WITH(Rasr({.decay = decay}, shape),
                      Catch::Contains("decay") && Catch::Contains(std::to_string(decay)));
    CHECK_THROWS_AS(Rasr({.decay = decay}, shape), std::invalid_argument);
  }
  CHECK_NOTHROW(Rasr({.decay = std::numeric_limits<float>::denorm_min()}, shape));
}
