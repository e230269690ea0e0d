#include "lethe/budget/breakpoint.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"

namespace {

struct Case {
  std::vector<float> scores;
  float ratio = 400;
  std::size_t segments = 64;
  lethe::Protection protection{};
};

lethe::Budget budget_of(const Case& c) {
  const std::vector<lethe::Position> positions = ascending_positions(c.scores.size());
  std::vector<std::uint32_t> keys(c.scores.size() + 1);
  std::vector<std::uint32_t> scratch(c.scores.size() + 1);
  std::size_t held = 0;
  for (const lethe::Position p : positions) held += c.protection.covers(p) ? 1 : 0;
  const lethe::SegmentBreakpoint allocator({.sparsity_ratio = c.ratio, .segments = c.segments});
  return allocator.budget({.scores = c.scores,
                           .positions = positions,
                           .protection = c.protection,
                           .protected_tokens = held,
                           .limit = c.scores.size(),
                           .summary = lethe::summarise(c.scores),
                           .keys = keys,
                           .scratch = scratch});
}

/// Algorithm 1 as it is written: sort, cut into segments, look at each segment's head value.
std::size_t naive_breakpoint(const Case& c) {
  std::vector<float> sorted = c.scores;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  const std::size_t tokens = sorted.size();
  const double level = static_cast<double>(sorted[0]) / static_cast<double>(c.ratio);
  for (std::size_t segment = 1; segment < c.segments; ++segment) {
    const std::size_t head = (segment * tokens + c.segments - 1) / c.segments;
    if (head < tokens && static_cast<double>(sorted[head]) < level) return head;
  }
  return tokens;
}

/// Salient tokens, first tokens and recents together.
std::size_t naive_kept(const Case& c, std::size_t breakpoint) {
  std::vector<std::size_t> order(c.scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return c.scores[a] > c.scores[b]; });
  std::size_t kept = 0;
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    const bool held = c.protection.covers(static_cast<lethe::Position>(order[rank]));
    kept += rank < breakpoint || held ? 1 : 0;
  }
  return kept;
}

Case random_case(Samples& samples) {
  const std::size_t tokens = 1 + samples.below(400);
  Case c{.scores = samples.mass(tokens)};
  const float ratios[] = {1.01f, 2.0f, 8.0f, 100.0f, 400.0f, 1e6f};
  c.ratio = ratios[samples.below(6)];
  const std::size_t segments[] = {1, 2, 3, 16, 64, 1000};
  c.segments = segments[samples.below(6)];
  c.protection.prefix_end = static_cast<lethe::Position>(samples.below(6));
  c.protection.recent_begin = static_cast<lethe::Position>(samples.below(tokens + 1));
  return c;
}

}  // namespace

TEST_CASE("the breakpoint equals Algorithm 1 with its sort") {
  Samples samples(31);
  int spread = 0;
  for (int trace = 0; trace < 4000; ++trace) {
    const Case c = random_case(samples);
    const std::size_t expected = naive_breakpoint(c);
    const lethe::Budget found = budget_of(c);
    REQUIRE(found.breakpoint == expected);
    REQUIRE(found.spread_out == (expected == c.scores.size()));
    REQUIRE(found.tokens == naive_kept(c, expected));
    spread += found.spread_out ? 1 : 0;
  }
  CHECK(spread > 400);
  CHECK(spread < 3600);
}

TEST_CASE("a score at the level is salient, one just below it is not") {
  // 100 tokens, 10 segments, level 1 / 4: boundaries at 10, 20, ...
  Case c{.scores = std::vector<float>(100, 0.01f), .ratio = 4, .segments = 10};
  c.scores[0] = 1.0f;
  for (std::size_t i = 1; i < 10; ++i) c.scores[i] = 0.5f;
  CHECK(budget_of(c).breakpoint == 10);
  c.scores[50] = 0.25f;
  CHECK(budget_of(c).breakpoint == 20);
  c.scores[50] = std::nextafter(0.25f, 0.0f);
  CHECK(budget_of(c).breakpoint == 10);
}

TEST_CASE("the level is not rounded to the scores' precision") {
  // 1 / 3 lies between two floats: only the upper one reaches it.
  Case c{.scores = std::vector<float>(8, 0.01f), .ratio = 3, .segments = 8};
  c.scores[0] = 1.0f;
  const float nearest = static_cast<float>(1.0 / 3.0);
  const float below =
      static_cast<double>(nearest) < 1.0 / 3.0 ? nearest : std::nextafter(nearest, 0.0f);
  c.scores[1] = below;
  CHECK(budget_of(c).breakpoint == naive_breakpoint(c));
  c.scores[1] = std::nextafter(below, 1.0f);
  CHECK(budget_of(c).breakpoint == naive_breakpoint(c));
  Case d = c;
  d.ratio = 10;
  for (std::size_t i = 0; i < 60; ++i) {
    d.scores[0] = 1.0f + static_cast<float>(i) / 64.0f;
    const float near = static_cast<float>(static_cast<double>(d.scores[0]) / 10.0);
    for (const float score : {std::nextafter(near, 0.0f), near, std::nextafter(near, 1.0f)}) {
      d.scores[1] = score;
      CHECK(budget_of(d).breakpoint == naive_breakpoint(d));
    }
  }
}

TEST_CASE("the last boundary still prunes, the end does not") {
  // 9 segments of 10: 90 salient tokens break at 90; 91 find no boundary before the end.
  Case c{.scores = std::vector<float>(100, 1.0f), .ratio = 4, .segments = 10};
  for (std::size_t i = 90; i < 100; ++i) c.scores[i] = 0.0f;
  CHECK(budget_of(c).breakpoint == 90);
  CHECK_FALSE(budget_of(c).spread_out);
  c.scores[95] = 1.0f;
  CHECK(budget_of(c).spread_out);
  CHECK(budget_of(c).tokens == 100);
}

TEST_CASE("equal scores, no mass and one token are spread out") {
  CHECK(budget_of({.scores = std::vector<float>(50, 0.3f)}).spread_out);
  CHECK(budget_of({.scores = std::vector<float>(50, 0.0f)}).spread_out);
  CHECK(budget_of({.scores = {0.4f}}).spread_out);
  CHECK(budget_of({.scores = std::vector<float>(50, 0.3f), .segments = 1}).spread_out);
}

TEST_CASE("boundaries are the smallest multiples of a segment not below the salient count") {
  for (std::size_t tokens = 1; tokens <= 40; ++tokens) {
    for (std::size_t segments = 1; segments <= 45; ++segments) {
      for (std::size_t salient = 1; salient <= tokens; ++salient) {
        std::size_t expected = tokens;
        for (std::size_t i = segments; i-- > 1;) {
          const std::size_t boundary = (i * tokens + segments - 1) / segments;
          if (boundary >= salient) expected = boundary;
        }
        REQUIRE(lethe::segment_boundary(salient, tokens, segments) == expected);
      }
    }
  }
}

TEST_CASE("settings of the breakpoint that cannot be are refused by name") {
  using lethe::SegmentBreakpoint;
  for (const float ratio : {1.0f, 0.0f, -3.0f, not_a_number}) {
    CHECK_THROWS_WITH(SegmentBreakpoint({.sparsity_ratio = ratio}),
                      Catch::Contains("sparsity_ratio") && Catch::Contains(std::to_string(ratio)));
    CHECK_THROWS_AS(SegmentBreakpoint({.sparsity_ratio = ratio}), std::invalid_argument);
  }
  CHECK_THROWS_WITH(SegmentBreakpoint({.segments = 0}), Catch::Contains("segments = 0"));
}
