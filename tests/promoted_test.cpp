#include "lethe/score/promoted.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/rasr.hpp"
#include "lethe/score/window.hpp"
#include "naive/given.hpp"
#include "naive/pruner.hpp"
#include "naive/token_cache.hpp"
#include "samples.hpp"

namespace {

using lethe::Position;
using naive::Given;
using naive::scores_of;
using naive::Shown;
using Row = std::vector<float>;
using Promoted = lethe::Promoted<Given, Given>;

template <class First, class Rest>
concept Reading = requires {
  lethe::Promoted<First, Rest>::reads_cache;
};
template <class First, class Rest>
concept Read = lethe::CacheReadingScorer<lethe::Promoted<First, Rest>, naive::GivenCache>;

static_assert(Reading<Shown, Given> && Reading<Given, Shown> && Reading<Shown, Shown>);
static_assert(Read<Shown, Given> && Read<Given, Shown> && Read<Shown, Shown>);
static_assert(!Reading<Given, lethe::Rasr> && !Read<Given, lethe::Rasr>);
static_assert(!lethe::CacheReadingScorer<lethe::Promoted<Shown, Given>, int>);
static_assert(lethe::Promoted<Given, lethe::Rasr>::reads_mass);
static_assert(lethe::Promoted<lethe::Rasr, Given>::reads_mass);
static_assert(!Promoted::reads_mass);

constexpr lethe::ScoreShape shape{.layers = 2, .groups = 2, .slots = 64};

/// Positions that do not ascend with slots, and have gaps.
std::vector<Position> mixed_positions(Samples& samples, std::size_t count) {
  std::vector<Position> positions = ascending_positions(count);
  for (Position& position : positions) position *= 2;
  for (std::size_t i = 1; i < count; ++i) std::swap(positions[i], positions[samples.below(i + 1)]);
  return positions;
}

/// Slots of the best by the first score, protected tokens beside.
std::vector<bool> promoted_by(const naive::Selection& tokens, std::size_t count) {
  const std::vector<bool> safe = tokens.covered();
  const std::size_t covered = static_cast<std::size_t>(std::count(safe.begin(), safe.end(), true));
  std::vector<bool> result(safe.size(), false);
  for (const std::size_t slot : tokens.best(count == 0 ? 0 : count + covered)) result[slot] = true;
  return result;
}

naive::Selection select(const Row& by_position, const std::vector<Position>& positions,
                        std::size_t first_tokens, std::size_t recent) {
  naive::Selection tokens;
  for (const Position position : positions) {
    tokens.scores.push_back(double(by_position[position]));
  }
  tokens.positions = positions;
  tokens.prefix_end = static_cast<Position>(first_tokens);
  tokens.recent = recent;
  return tokens;
}

/// A token and what queries paid it, newest last: whole numbers, so that sums are exact.
struct Paid {
  Position position = 0;
  std::vector<double> mass;

  [[nodiscard]] double sum(std::size_t queries) const {
    double result = 0;
    for (std::size_t i = mass.size() - std::min(mass.size(), queries); i < mass.size(); ++i) {
      result += mass[i];
    }
    return result;
  }
};

/// Those promoted by their whole mass first, the others by that of three queries.
std::vector<Position> kept_of(const std::vector<Paid>& tokens, std::size_t count,
                              std::size_t recent, std::size_t budget) {
  naive::Selection all;
  all.recent = recent;
  for (const Paid& token : tokens) {
    all.scores.push_back(token.sum(token.mass.size()));
    all.positions.push_back(token.position);
  }
  const std::vector<bool> promoted = promoted_by(all, count);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    all.scores[i] = promoted[i] ? 1e9 : tokens[i].sum(3);
  }
  std::vector<Position> kept;
  for (const std::size_t slot : all.best(budget)) kept.push_back(tokens[slot].position);
  return kept;
}

/// One query's mass, whole numbers below `end`.
Row pay(std::vector<Paid>& tokens, Samples& samples, std::size_t end) {
  Row mass;
  for (Paid& token : tokens) {
    mass.push_back(static_cast<float>(samples.below(end)));
    token.mass.push_back(double(mass.back()));
  }
  return mass;
}

using RoundPruner =
    lethe::Pruner<lethe::Promoted<lethe::Rasr, lethe::WindowMass>, lethe::UniformBudget>;

RoundPruner make_pruner() {
  return {
      {.layers = 1, .capacity = 40},
      {.retention = {.first_tokens = 0, .recent_tokens = 4}},
      {.first = {.decay = 1.0f}, .rest = {.window = 3, .pool = 1}, .count = 10, .recent_tokens = 4},
      {.budget = 30}};
}

}  // namespace

TEST_CASE("the best by one score come before all others, which keep the other score") {
  Samples samples(7);
  for (int trial = 0; trial < 300; ++trial) {
    const Row first = samples.mass(128);
    const Row rest = samples.mass(128);
    const std::vector<Position> positions = trial % 2 == 0
                                                ? ascending_positions(1 + samples.below(64))
                                                : mixed_positions(samples, 1 + samples.below(64));
    const std::size_t count = samples.below(20);
    const std::size_t first_tokens = samples.below(3);
    const std::size_t recent = samples.below(9);
    Promoted scorer({.first = {first},
                     .rest = {rest},
                     .count = count,
                     .first_tokens = first_tokens,
                     .recent_tokens = recent},
                    shape);
    const Row scores = scores_of(scorer, positions);
    const std::vector<bool> promoted =
        promoted_by(select(first, positions, first_tokens, recent), count);
    for (std::size_t i = 0; i < positions.size(); ++i) {
      if (!promoted[i]) REQUIRE(scores[i] == rest[positions[i]]);
      for (std::size_t j = 0; promoted[i] && j < positions.size(); ++j) {
        REQUIRE((promoted[j] ? scores[j] == scores[i] : scores[j] < scores[i]));
      }
    }
  }
}

TEST_CASE("a pruner keeps what the two scores say, round after round") {
  Samples samples(8);
  RoundPruner pruner = make_pruner();
  naive::TokenCache<naive::plain> cache(1, 1);
  std::vector<Paid> tokens;
  std::size_t rounds = 0;
  for (Position now = 0; now < 300; ++now) {
    const std::vector<Position> wanted = kept_of(tokens, 10, 4, 30);
    if (pruner.make_room(cache, 1) != 0) {
      ++rounds;
      const auto held = pruner.positions(0);
      REQUIRE(std::vector<Position>(held.begin(), held.end()) == wanted);
      std::erase_if(tokens, [&](const Paid& token) {
        return std::find(wanted.begin(), wanted.end(), token.position) == wanted.end();
      });
    }
    cache.append(0, std::vector<Position>{now});
    tokens.push_back({now, {}});
    const Row mass = pay(tokens, samples, now % 7 == 0 ? 1000 : 20);
    pruner.observe(0, lethe::Mass<float>{.data = mass.data(), .columns = mass.size()});
    pruner.commit();
  }
  CHECK(rounds > 20);
}

TEST_CASE("no count changes nothing, and any count is enough for all") {
  const Row rest{-3.0f, -2.0f, -5.0f};
  Promoted none({.first = {Row{1, 2, 3}}, .rest = {rest}, .recent_tokens = 1}, shape);
  CHECK(scores_of(none, {0, 1, 2}) == rest);
  CHECK(scores_of(none, {}).empty());
  const std::size_t most = std::numeric_limits<std::size_t>::max();
  Promoted all({.first = {Row{1, 2, 3}}, .rest = {rest}, .count = most, .first_tokens = most},
               shape);
  const Row same = scores_of(all, {0, 1, 2});
  CHECK(same == Row(3, same[0]));
  CHECK(same[0] > -2.0f);
  CHECK(scores_of(all, {}).empty());
}

TEST_CASE("the promoted come first above scores of any size, and stay finite") {
  const float most = std::numeric_limits<float>::max();
  for (const float high : {-1.0f, 0.0f, 1e-45f, 1e-30f, 1.0f, 1e38f, 3e38f}) {
    Promoted scorer({.first = {Row{1, 2, 3}}, .rest = {Row{high, high, -most}}, .count = 1}, shape);
    const Row scores = scores_of(scorer, {0, 1, 2});
    CAPTURE(high);
    CHECK(scores[2] > scores[0]);
    CHECK(lethe::is_finite(scores[2]));
    CHECK(scores[0] == high);
  }
}

TEST_CASE("scores that are not finite stay visible, whichever scorer gives them") {
  for (const float odd : {not_a_number, infinity, -infinity}) {
    const Row fine{1.0f, 2.0f, 3.0f, 4.0f};
    const Row bad{1.0f, 2.0f, odd, 4.0f};
    Promoted first({.first = {bad}, .rest = {fine}, .count = 2}, shape);
    CHECK_FALSE(lethe::is_finite(scores_of(first, {0, 1, 2, 3})[2]));
    Promoted rest({.first = {fine}, .rest = {bad}, .count = 2}, shape);
    CHECK_FALSE(lethe::is_finite(scores_of(rest, {0, 1, 2, 3})[2]));
  }
}

TEST_CASE("either scorer is shown the cache, and one that keeps a row of its own is not changed") {
  const naive::GivenCache cache{{4.0f, 3.0f, 2.0f, 1.0f}};
  const Row other{1.0f, 2.0f, 3.0f, 4.0f};
  const std::vector<Position> positions{0, 1, 2, 3};
  lethe::Promoted<Shown, Given> first({.rest = {other}, .count = 1}, shape);
  first.read(cache, 0, 0, positions);
  lethe::Promoted<Given, Shown> rest({.first = {other}, .count = 1}, shape);
  rest.read(cache, 0, 0, positions);
  lethe::Promoted<Shown, Shown> both({.count = 1}, shape);
  both.read(cache, 0, 0, positions);
  for (int look = 0; look < 2; ++look) {
    CHECK(scores_of(first, positions) == Row{8, 2, 3, 4});
    CHECK(scores_of(rest, positions) == Row{4, 3, 2, 8});
    CHECK(scores_of(both, positions) == Row{8, 3, 2, 1});
  }
}

TEST_CASE("the state of both scorers follows, and is saved") {
  using Scorer = lethe::Promoted<lethe::Rasr, lethe::Rasr>;
  const Scorer::Config config{.first = {.decay = 1.0f}, .rest = {.decay = 0.5f}, .count = 1};
  Scorer scorer(config, shape);
  scorer.record(1, 1, 0, 0, Row{4, 5, 1, 2});
  scorer.advance(1);
  scorer.record(1, 1, 0, 0, Row{4, 0, 6, 2});
  scorer.advance(1);
  // Sums 8 5 7 4; decayed, on Rasr's scale: 12 5 13 6.
  CHECK(scores_of(scorer, {0, 1, 2, 3}, 1, 1) == Row{52, 10, 26, 12});
  CHECK(scores_of(scorer, {0, 1}, 1, 0) == Row{1, 0});
  const std::vector<lethe::Slot> kept{1, 2, 3};
  scorer.keep({.layer = 1, .tokens = 4, .first_move = 0, .kept = kept}, 1);
  CHECK(scores_of(scorer, {1, 2, 3}, 1, 1) == Row{10, 52, 12});
  scorer.forget(1, 1, 1);
  CHECK(scores_of(scorer, {1, 9, 3}, 1, 1) == Row{24, 0, 12});
  Scorer restored = naive::restored(scorer, config, shape);
  CHECK(scores_of(restored, {1, 9, 3}, 1, 1) == Row{24, 0, 12});
  scorer.reset();
  CHECK(scores_of(scorer, {0, 1}, 1, 1) == Row{1, 0});
}

TEST_CASE("settings of either scorer are refused as its own") {
  using Scorer = lethe::Promoted<lethe::Rasr, lethe::WindowMass>;
  CHECK_THROWS_WITH(Scorer({.first = {.decay = 2.0f}}, shape), Catch::Contains("decay = 2"));
  CHECK_THROWS_WITH(Scorer({.rest = {.window = 0}}, shape), Catch::Contains("window = 0"));
  CHECK_THROWS_AS(Scorer({.rest = {.window = 0}}, shape), std::invalid_argument);
}
