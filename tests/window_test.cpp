#include "lethe/score/window.hpp"

#include <algorithm>
#include <deque>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"

namespace {

using lethe::Pooling;
using lethe::WindowMass;

std::vector<float> scores_of(WindowMass& scorer, const std::vector<lethe::Position>& positions,
                             std::size_t layer = 0, std::size_t group = 0) {
  std::vector<float> scratch(positions.size());
  const auto row = scorer.score(layer, group, positions, scratch);
  return {row.begin(), row.end()};
}

/// SnapKV's score as it is written: sum over the window, then pool over neighbours.
std::vector<double> naive_scores(const std::deque<std::vector<float>>& window, std::size_t tokens,
                                 std::size_t pool, Pooling pooling) {
  std::vector<double> sums(tokens, 0.0);
  for (const auto& mass : window) {
    for (std::size_t i = 0; i < std::min(tokens, mass.size()); ++i) {
      sums[i] += static_cast<double>(mass[i]);
    }
  }
  std::vector<double> pooled(tokens);
  const auto reach = static_cast<std::ptrdiff_t>(pool / 2);
  for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(tokens); ++i) {
    double sum = 0;
    double best = 0;
    for (std::ptrdiff_t j = i - reach; j <= i + reach; ++j) {
      if (j < 0 || j >= static_cast<std::ptrdiff_t>(tokens)) continue;
      sum += sums[static_cast<std::size_t>(j)];
      best = std::max(best, sums[static_cast<std::size_t>(j)]);
    }
    pooled[static_cast<std::size_t>(i)] =
        pooling == Pooling::maximum ? best : sum / static_cast<double>(pool);
  }
  return pooled;
}

void require_close(const std::vector<float>& found, const std::vector<double>& expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    REQUIRE_THAT(static_cast<double>(found[i]), WithinAbs(expected[i], 1e-5));
  }
}

}  // namespace

TEST_CASE("pooling hides no mass that is not a number") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const std::size_t spoilt : {0u, 5u, 19u}) {
    WindowMass scorer({.window = 2, .pool = 7}, {.layers = 1, .slots = 20});
    std::vector<float> mass(20, 0.05f);
    mass[spoilt] = nan;
    scorer.record(0, 0, 0, 0, mass);
    scorer.advance(1);
    std::vector<lethe::Position> positions(20);
    std::iota(positions.begin(), positions.end(), 0u);
    std::vector<float> scratch(20);
    const auto scores = scorer.score(0, 0, positions, scratch);
    for (std::size_t i = 0; i < 20; ++i) {
      const bool is_near = (i > spoilt ? i - spoilt : spoilt - i) <= 3;
      CHECK(lethe::is_finite(scores[i]) != is_near);
    }
  }
}

TEST_CASE("only the last queries count, pooled as SnapKV pools") {
  for (const std::size_t pool : {1u, 3u, 7u, 41u}) {
    for (const Pooling pooling : {Pooling::maximum, Pooling::mean}) {
      Samples samples(21);
      WindowMass scorer({.window = 4, .pool = pool, .pooling = pooling},
                        {.layers = 1, .groups = 1, .slots = 40});
      std::deque<std::vector<float>> window;
      for (std::size_t tokens = 1; tokens <= 40; ++tokens) {
        window.push_back(samples.mass(tokens));
        if (window.size() > 4) window.pop_front();
        scorer.record(0, 0, 0, 0, window.back());
        scorer.advance(1);
        require_close(scores_of(scorer, ascending_positions(tokens)),
                      naive_scores(window, tokens, pool, pooling));
      }
    }
  }
}

TEST_CASE("pooling neighbours are neighbours in position, not in slot") {
  WindowMass scorer({.window = 1, .pool = 3}, {.layers = 1, .groups = 1, .slots = 4});
  const std::vector<float> mass{4.0f, 1.0f, 2.0f, 3.0f};
  scorer.record(0, 0, 0, 0, mass);
  scorer.advance(1);
  // In order of position: 1 2 3 4.
  CHECK(scores_of(scorer, {9, 2, 3, 5}) == std::vector<float>{4, 2, 3, 4});
}

TEST_CASE("a window of one is the last query alone") {
  WindowMass scorer({.window = 1, .pool = 1}, {.layers = 1, .groups = 1, .slots = 3});
  const std::vector<float> first{9, 9};
  const std::vector<float> last{1, 2, 3};
  scorer.record(0, 0, 0, 0, first);
  scorer.advance(1);
  scorer.record(0, 0, 0, 0, last);
  scorer.advance(1);
  CHECK(scores_of(scorer, ascending_positions(3)) == last);
}

TEST_CASE("a step of many queries leaves its last ones, in any order of arrival") {
  const lethe::ScoreShape shape{.layers = 1, .groups = 1, .slots = 2};
  WindowMass forward({.window = 2, .pool = 1}, shape);
  WindowMass backward = forward;
  const std::vector<float> masses{1, 10, 2, 20, 3, 30, 4, 40, 5, 50};
  const auto mass = [&](std::size_t query) { return std::span(masses).subspan(2 * query, 2); };
  for (std::size_t q = 0; q < 5; ++q)
    forward.record(0, 0, static_cast<std::int64_t>(q), 0, mass(q));
  for (std::size_t q = 5; q-- > 0;) backward.record(0, 0, static_cast<std::int64_t>(q), 0, mass(q));
  forward.advance(5);
  backward.advance(5);
  CHECK(scores_of(forward, ascending_positions(2)) == std::vector<float>{9, 90});
  CHECK(scores_of(backward, ascending_positions(2)) == std::vector<float>{9, 90});
}

TEST_CASE("mass of earlier queries counts while they are in the window") {
  WindowMass scorer({.window = 2, .pool = 1}, {.layers = 1, .groups = 1, .slots = 1});
  const std::vector<float> one{1.0f};
  const std::vector<float> ten{10.0f};
  const std::vector<float> hundred{100.0f};
  scorer.advance(3);
  scorer.record(0, 0, -3, 0, one);
  scorer.record(0, 0, -2, 0, ten);
  scorer.record(0, 0, -1, 0, hundred);
  CHECK(scores_of(scorer, ascending_positions(1)) == std::vector<float>{110});
  scorer.advance(1);
  CHECK(scores_of(scorer, ascending_positions(1)) == std::vector<float>{100});
  scorer.record(0, 0, -30, 0, one);
  CHECK(scores_of(scorer, ascending_positions(1)) == std::vector<float>{100});
}

TEST_CASE("several rows of one query add up: heads, and tiles of slots") {
  WindowMass scorer({.window = 3, .pool = 1}, {.layers = 2, .groups = 2, .slots = 4});
  const std::vector<float> pair{1, 2};
  scorer.record(1, 1, 0, 0, pair);
  scorer.record(1, 1, 0, 0, pair);
  scorer.record(1, 1, 0, 2, pair);
  scorer.advance(1);
  CHECK(scores_of(scorer, ascending_positions(4), 1, 1) == std::vector<float>{2, 4, 1, 2});
  CHECK(scores_of(scorer, ascending_positions(4), 1, 0) == std::vector<float>(4, 0.0f));
  CHECK(scores_of(scorer, ascending_positions(4), 0, 1) == std::vector<float>(4, 0.0f));
}

TEST_CASE("every row of the window follows its slots") {
  WindowMass scorer({.window = 2, .pool = 1}, {.layers = 1, .groups = 1, .slots = 4});
  const std::vector<float> first{1, 2, 3, 4};
  const std::vector<float> second{10, 20, 30, 40};
  scorer.record(0, 0, 0, 0, first);
  scorer.advance(1);
  scorer.record(0, 0, 0, 0, second);
  scorer.advance(1);
  const std::vector<lethe::Slot> kept{1, 3};
  scorer.keep({.tokens = 4, .first_move = 0, .kept = kept}, 0);
  CHECK(scores_of(scorer, ascending_positions(4)) == std::vector<float>{22, 44, 0, 0});
  scorer.forget(0, 0, 1);
  CHECK(scores_of(scorer, ascending_positions(2)) == std::vector<float>{22, 0});
  scorer.reset();
  CHECK(scores_of(scorer, ascending_positions(2)) == std::vector<float>{0, 0});
}

TEST_CASE("an empty window and an even pool are refused by name") {
  const lethe::ScoreShape shape{.layers = 1, .groups = 1, .slots = 4};
  CHECK_THROWS_WITH(WindowMass({.window = 0}, shape), Catch::Contains("window = 0"));
  CHECK_THROWS_WITH(WindowMass({.pool = 4}, shape), Catch::Contains("pool = 4"));
  CHECK_THROWS_WITH(WindowMass({.pool = 0}, shape), Catch::Contains("pool = 0"));
  CHECK_THROWS_AS(WindowMass({.pool = 4}, shape), std::invalid_argument);
}
