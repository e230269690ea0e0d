#include "lethe/score.hpp"

#include <vector>

#include "catch.hpp"
#include "lethe/score/random.hpp"
#include "lethe/score/rasr.hpp"
#include "lethe/score/window.hpp"
#include "samples.hpp"

namespace {

struct NotAScorer {
  struct Config {};
};

/// Everything but record.
class Deaf : public lethe::NoScore {
 public:
  using NoScore::NoScore;
  void record() = delete;
};

struct KeyScorer : lethe::NoScore {
  using NoScore::NoScore;
  template <class Cache>
  void read(const Cache&, std::size_t, std::size_t, std::span<const lethe::Position>) {}
};

}  // namespace

static_assert(lethe::TokenScorer<lethe::NoScore>);
static_assert(lethe::TokenScorer<lethe::Rasr>);
static_assert(lethe::TokenScorer<lethe::WindowMass>);
static_assert(lethe::TokenScorer<lethe::RandomScore>);
static_assert(lethe::TokenScorer<KeyScorer>);
static_assert(!lethe::TokenScorer<NotAScorer>);
static_assert(!lethe::TokenScorer<Deaf>);
static_assert(!lethe::TokenScorer<int>);

static_assert(lethe::CacheReadingScorer<KeyScorer, int>);
static_assert(!lethe::CacheReadingScorer<lethe::Rasr, int>);

TEST_CASE("no score means equal scores, whatever scratch held") {
  lethe::NoScore scorer({}, {.layers = 1, .groups = 1, .slots = 8});
  const std::vector<lethe::Position> positions = ascending_positions(3);
  std::vector<float> scratch(8, 7.0f);
  const std::span<const float> scores = scorer.score(0, 0, positions, scratch);
  CHECK(std::vector<float>(scores.begin(), scores.end()) == std::vector<float>(3, 0.0f));
}

TEST_CASE("state rows pack with their slots and are cleared behind") {
  std::vector<float> row{1, 2, 3, 4, 5, 9};
  const std::vector<lethe::Slot> kept{0, 3, 4};
  lethe::keep_row(row, {.tokens = 5, .first_move = 1, .kept = kept});
  CHECK(row == std::vector<float>{1, 4, 5, 0, 0, 9});
}
