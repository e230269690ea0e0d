#include "lethe/score/per_age.hpp"

#include <vector>

#include "catch.hpp"
#include "lethe/score/rasr.hpp"

namespace {

using Scorer = lethe::PerAge<lethe::Rasr>;

}  // namespace

TEST_CASE("mass is divided by the queries that could see a token") {
  Scorer scorer({.decay = 1.0f}, {.layers = 1, .slots = 8});
  for (std::size_t token = 0; token < 5; ++token) {
    scorer.record(0, 0, 0, 0, std::vector<float>(token + 1, 0.5f));
    scorer.advance(1);
  }
  std::vector<float> scratch(5);
  const std::vector<lethe::Position> positions{0, 1, 2, 3, 4};
  for (const float score : scorer.score(0, 0, positions, scratch)) {
    CHECK_THAT(score, WithinRel(0.5f, 1e-6f));  // each saw as many queries as it has mass
  }
  const std::vector<lethe::Slot> kept{1, 4};
  scorer.keep({.layer = 0, .tokens = 5, .first_move = 0, .kept = kept}, 0);
  scorer.record(0, 0, 0, 0, std::vector<float>{1.0f, 0.0f});
  scorer.advance(1);
  const std::vector<lethe::Position> left{1, 4};
  const auto scores = scorer.score(0, 0, left, scratch);
  CHECK_THAT(scores[0], WithinRel(3.0f / 5.0f, 1e-6f));  // 4 x 0.5 + 1, seen by queries 1 to 5
  CHECK_THAT(scores[1], WithinRel(0.5f / 2.0f, 1e-6f));
}
