#include "lethe/score/blocks.hpp"

#include <algorithm>
#include <map>
#include <vector>

#include "catch.hpp"
#include "lethe/budget/whole_blocks.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/rasr.hpp"
#include "naive/given.hpp"
#include "naive/pruner.hpp"
#include "naive/token_cache.hpp"
#include "samples.hpp"

namespace {

using lethe::BlockScore;
using lethe::Position;
using naive::Given;
using naive::scores_of;
using naive::Shown;
using Row = std::vector<float>;
using Blocks = lethe::Blocks<Given>;

static_assert(lethe::CacheReadingScorer<lethe::Blocks<Shown>, naive::GivenCache>);
static_assert(!lethe::CacheReadingScorer<lethe::Blocks<Shown>, int>);
static_assert(!lethe::CacheReadingScorer<Blocks, naive::GivenCache>);
static_assert(lethe::Blocks<Shown>::reads_cache && !Blocks::reads_mass);

constexpr lethe::ScoreShape shape{.layers = 2, .groups = 2, .slots = 96};

/// Tokens of each block: positions divided by the block's length.
using Members = std::map<Position, std::vector<Position>>;

Members members_of(const std::vector<Position>& positions, std::size_t block) {
  Members members;
  for (const Position position : positions) {
    members[static_cast<Position>(position / block)].push_back(position);
  }
  return members;
}

double combine(const Row& by_position, const std::vector<Position>& tokens, BlockScore how) {
  double sum = 0;
  double most = double(by_position[tokens[0]]);
  for (const Position position : tokens) {
    sum += double(by_position[position]);
    most = std::max(most, double(by_position[position]));
  }
  if (how == BlockScore::maximum) return most;
  return how == BlockScore::sum ? sum : sum / double(tokens.size());
}

/// Some of 96 positions, in no order.
std::vector<Position> some_positions(Samples& samples) {
  std::vector<Position> positions;
  for (const lethe::Slot slot : samples.slots(96, 1 + samples.below(60))) positions.push_back(slot);
  for (std::size_t i = 1; i < positions.size() && samples.below(2) == 0; ++i) {
    std::swap(positions[i], positions[samples.below(i + 1)]);
  }
  return positions;
}

/// Blocks that hold one of the first or of the most recent tokens.
std::map<Position, bool> protected_blocks(std::vector<Position> positions, std::size_t block,
                                          std::size_t first_tokens, std::size_t recent) {
  std::sort(positions.begin(), positions.end());
  std::map<Position, bool> result;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const bool safe = positions[i] < first_tokens || i + recent >= positions.size();
    bool& whole = result[static_cast<Position>(positions[i] / block)];
    whole = whole || safe;
  }
  return result;
}

struct Trial {
  explicit Trial(Samples& samples) : given(samples.mass(96)), positions(some_positions(samples)) {
    config.score = {given};
    config.block = 1 + samples.below(9);
    config.combine = static_cast<BlockScore>(samples.below(3));
    config.first_tokens = samples.below(2) * samples.below(12);
    config.recent_tokens = samples.below(2) * samples.below(12);
    members = members_of(positions, config.block);
    safe = protected_blocks(positions, config.block, config.first_tokens, config.recent_tokens);
  }

  [[nodiscard]] Position block_of(std::size_t slot) const {
    return static_cast<Position>(positions[slot] / config.block);
  }
  [[nodiscard]] double value(Position block) const {
    return combine(given, members.at(block), config.combine);
  }

  Row given;
  std::vector<Position> positions;
  Blocks::Config config;
  Members members;
  std::map<Position, bool> safe;
};

/// Drops of a pruner in whole blocks, with a random score for each token and query.
struct BlockTrace {
  using Scorer = lethe::Blocks<lethe::Rasr>;

  BlockTrace(std::size_t block, std::size_t budget, std::size_t recent, std::size_t pinned)
      : block_(block),
        pruner_(
            {.layers = 1, .capacity = 100}, {.retention = {.recent_tokens = recent}},
            {.score = {.decay = 1.0f}, .block = block, .first_tokens = 4, .recent_tokens = recent},
            {.block = block, .budget = budget}),
        cache_(1, 1) {
    pruner_.pin(pinned);
  }

  /// Returns how many rounds dropped blocks.
  std::size_t run() {
    std::size_t rounds = 0;
    for (Position now = 0; now < 600; ++now) {
      const std::size_t gone = pruner_.make_room(cache_, 1);
      rounds += gone != 0 ? 1 : 0;
      REQUIRE(gone % block_ == 0);
      check_whole(now);
      cache_.append(0, std::vector<Position>{now});
      const Row mass = samples_.row(cache_.size(0));
      pruner_.observe(0, lethe::Mass<float>{.data = mass.data(), .columns = mass.size()});
      pruner_.commit();
    }
    return rounds;
  }

 private:
  /// Of every block all tokens are there, or none; but the newest block grows.
  void check_whole(Position now) {
    const auto held = pruner_.positions(0);
    for (const auto& [block, tokens] : members_of({held.begin(), held.end()}, block_)) {
      const std::size_t end = std::min<std::size_t>((block + 1) * block_, now);
      REQUIRE(tokens.size() == end - block * block_);
    }
  }

  std::size_t block_;
  lethe::Pruner<Scorer, lethe::WholeBlocks> pruner_;
  naive::TokenCache<naive::plain> cache_;
  Samples samples_{5};
};

}  // namespace

TEST_CASE("a token scores the sum, the mean or the maximum of its block") {
  Samples samples(3);
  for (int number = 0; number < 300; ++number) {
    const Trial trial(samples);
    Blocks scorer(trial.config, shape);
    const Row scores = scores_of(scorer, trial.positions);
    for (std::size_t slot = 0; slot < scores.size(); ++slot) {
      const Position block = trial.block_of(slot);
      if (!trial.safe.at(block)) {
        REQUIRE_THAT(scores[slot], WithinRel(static_cast<float>(trial.value(block)), 1e-6f));
        continue;
      }
      for (const auto& [other, safe] : trial.safe) {
        if (!safe) REQUIRE(double(scores[slot]) > trial.value(other));
      }
    }
  }
}

TEST_CASE("blocks can be ranked, so that of equal ones the newer stays") {
  Samples samples(4);
  for (int number = 0; number < 300; ++number) {
    Trial trial(samples);
    for (float& score : trial.given) score = static_cast<float>(samples.below(3));
    trial.config.score = {trial.given};
    trial.config.newer_wins_ties = true;
    Blocks scorer(trial.config, shape);
    const Row scores = scores_of(scorer, trial.positions);
    for (std::size_t slot = 0; slot < scores.size(); ++slot) {
      const Position block = trial.block_of(slot);
      std::size_t below = 0;
      for (const auto& [other, safe] : trial.safe) {
        const bool lower = trial.value(other) < trial.value(block) ||
                           (trial.value(other) == trial.value(block) && other < block);
        below += safe == trial.safe.at(block) ? lower : trial.safe.at(block);
      }
      REQUIRE(scores[slot] == static_cast<float>(below));
    }
  }
}

TEST_CASE("whole blocks go, round after round") {
  CHECK(BlockTrace(4, 60, 10, 0).run() > 10);
  CHECK(BlockTrace(20, 60, 32, 0).run() > 10);
  CHECK(BlockTrace(7, 0, 9, 0).run() > 20);
  CHECK(BlockTrace(4, 60, 10, 16).run() > 10);
}

TEST_CASE("as many full blocks go as exceed the budget, and more where the cap asks") {
  const lethe::WholeBlocks budget({.block = 4, .budget = 43});
  const Row scores(217);
  const auto kept = [&](std::size_t tokens, std::size_t limit) {
    const std::span<const float> row = std::span<const float>(scores).first(tokens);
    return budget.budget({.scores = row, .limit = limit}).tokens;
  };
  CHECK(kept(39, 39) == 39);
  CHECK(kept(43, 43) == 43);  // ten blocks of four, and three
  CHECK(kept(44, 44) == 40);
  CHECK(kept(217, 217) == 41);  // 54 blocks and one
  CHECK(kept(44, 39) == 36);
  CHECK(kept(43, 42) == 39);
  CHECK(kept(43, 0) == 3);
  const lethe::WholeBlocks open({.block = 4});
  CHECK(open.budget({.scores = scores, .limit = 217}).tokens == 217);
  CHECK(open.budget({.scores = scores, .limit = 216}).tokens == 213);
  CHECK_THROWS_WITH(lethe::WholeBlocks({.block = 0}), Catch::Contains("block = 0"));
  CHECK_THROWS_WITH(lethe::WholeBlocks({.block = 8, .budget = 7}), Catch::Contains("budget = 7"));
  CHECK_THROWS_AS(lethe::WholeBlocks({.block = 0}), std::invalid_argument);
}

TEST_CASE("scores that are not finite stay visible in their block") {
  for (const float odd : {not_a_number, infinity, -infinity}) {
    for (const BlockScore how : {BlockScore::sum, BlockScore::mean, BlockScore::maximum}) {
      for (const bool ranked : {false, true}) {
        Blocks scorer({.score = {Row{1, 2, 3, 4, odd, 6, 7, 8}},
                       .block = 2,
                       .combine = how,
                       .newer_wins_ties = ranked,
                       .recent_tokens = 3},
                      shape);
        const Row scores = scores_of(scorer, ascending_positions(8));
        CHECK_FALSE(lethe::is_finite(scores[4]));
        CHECK_FALSE(lethe::is_finite(scores[5]));
        CHECK(lethe::is_finite(scores[0]));
      }
    }
  }
}

TEST_CASE("the inner scorer is shown the cache, its state follows and is saved") {
  const naive::GivenCache cache{{1.0f, 3.0f, 5.0f}};
  lethe::Blocks<Shown> shown({.block = 2}, shape);
  shown.read(cache, 0, 0, ascending_positions(3));
  CHECK(scores_of(shown, {0, 1, 2}) == Row{2, 2, 5});
  CHECK(scores_of(shown, {0, 1, 2}) == Row{2, 2, 5});
  CHECK(scores_of(shown, {}).empty());

  using Scorer = lethe::Blocks<lethe::Rasr>;
  const Scorer::Config config{.score = {.decay = 1.0f}, .block = 2, .combine = BlockScore::sum};
  Scorer scorer(config, shape);
  scorer.record(1, 1, 0, 0, Row{1, 2, 3, 4});
  scorer.advance(4);
  CHECK(scores_of(scorer, {0, 1, 2, 3}, 1, 1) == Row{3, 3, 7, 7});
  CHECK(scores_of(scorer, {0, 1}, 1, 0) == Row{0, 0});
  const std::vector<lethe::Slot> kept{0, 2, 3};
  scorer.keep({.layer = 1, .tokens = 4, .first_move = 1, .kept = kept}, 1);
  scorer.forget(1, 1, 1);
  CHECK(scores_of(scorer, {0, 4, 3}, 1, 1) == Row{1, 0, 4});
  Scorer restored = naive::restored(scorer, config, shape);
  CHECK(scores_of(restored, {0, 4, 3}, 1, 1) == Row{1, 0, 4});
  scorer.reset();
  CHECK(scores_of(scorer, {0, 1}, 1, 1) == Row{0, 0});
}

TEST_CASE("a block of no positions is refused by name") {
  CHECK_THROWS_WITH(Blocks({.block = 0}, shape), Catch::Contains("block = 0"));
  CHECK_THROWS_AS(Blocks({.block = 0}, shape), std::invalid_argument);
}
