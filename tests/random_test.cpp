#include "lethe/score/random.hpp"

#include <algorithm>
#include <set>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"

namespace {

using lethe::RandomScore;

constexpr lethe::ScoreShape shape{.layers = 4, .groups = 4, .slots = 4096};

std::vector<float> draw(const RandomScore& scorer, const std::vector<lethe::Position>& positions,
                        std::size_t layer = 0, std::size_t group = 0) {
  std::vector<float> scratch(positions.size());
  const auto row = scorer.score(layer, group, positions, scratch);
  return {row.begin(), row.end()};
}

}  // namespace

TEST_CASE("draws are the same on every machine and in every release") {
  // Saved runs and published comparisons rest on these values.
  // When this fails: is this change intended? Then it belongs in CHANGELOG.md.
  RandomScore scorer({.seed = 1}, shape);
  scorer.advance(100);
  std::vector<std::uint32_t> found;
  for (const float value : draw(scorer, {0, 1, 2, 1000}, 2, 3)) {
    found.push_back(static_cast<std::uint32_t>(value * 0x1p24f));
  }
  CHECK(found == std::vector<std::uint32_t>{5611496, 10421611, 8730819, 2126289});
}

TEST_CASE("a draw depends on seed, layer, group, round and position, and on nothing else") {
  RandomScore scorer({.seed = 5}, shape);
  const RandomScore other({.seed = 6}, shape);
  const std::vector<lethe::Position> positions = ascending_positions(64);
  const std::vector<float> base = draw(scorer, positions);
  CHECK(draw(scorer, positions) == base);
  CHECK(draw(other, positions) != base);
  CHECK(draw(scorer, positions, 1, 0) != base);
  CHECK(draw(scorer, positions, 0, 1) != base);
  CHECK(draw(scorer, positions, 1, 0) != draw(scorer, positions, 0, 1));

  // The slot a token sits in changes nothing.
  CHECK(draw(scorer, {7, 3}) == std::vector<float>{base[7], base[3]});

  scorer.advance(1);
  CHECK(draw(scorer, positions) != base);
  scorer.reset();
  CHECK(draw(scorer, positions) == base);
}

TEST_CASE("a fork draws what its parent would") {
  RandomScore parent({.seed = 9}, shape);
  parent.advance(17);
  RandomScore fork = parent;
  parent.advance(3);
  fork.advance(3);
  CHECK(draw(parent, ascending_positions(32)) == draw(fork, ascending_positions(32)));
}

TEST_CASE("draws are uniform in [0, 1), and all but distinct") {
  const RandomScore scorer({.seed = 2}, shape);
  const std::vector<float> values = draw(scorer, ascending_positions(4096));
  std::vector<int> tenths(10, 0);
  for (const float value : values) {
    REQUIRE(value >= 0.0f);
    REQUIRE(value < 1.0f);
    ++tenths[static_cast<std::size_t>(value * 10.0f)];
  }
  // 410 are expected in each, with a standard deviation of 19.
  for (const int count : tenths) CHECK(std::abs(count - 410) < 80);
  CHECK(std::set<float>(values.begin(), values.end()).size() > 4090);
}
