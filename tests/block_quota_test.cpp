#include "lethe/score/block_quota.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "lethe/budget/growing.hpp"
#include "lethe/score/rasr.hpp"
#include "samples.hpp"

namespace {

using Scorer = lethe::BlockQuota<lethe::Rasr>;
using Positions = std::vector<lethe::Position>;

std::vector<float> scores_of(const std::vector<float>& mass, const Positions& positions,
                             std::size_t block) {
  Scorer scorer({.score = {.decay = 1.0f}, .block = block},
                {.layers = 1, .groups = 1, .slots = mass.size()});
  scorer.record(0, 0, 0, 0, mass);
  scorer.advance(1);
  std::vector<float> scratch(mass.size());
  const auto scores = scorer.score(0, 0, positions, scratch);
  return {scores.begin(), scores.end()};
}

/// Round after round, every block that has a token left gives its best; the round's tokens come in
/// the order of their mass.
Positions naive_order(const std::vector<float>& mass, const Positions& positions,
                      std::size_t block) {
  const auto is_better = [&](std::size_t a, std::size_t b) {
    return mass[a] != mass[b] ? mass[a] > mass[b] : positions[a] < positions[b];
  };
  std::map<std::size_t, std::vector<std::size_t>> blocks;
  for (std::size_t slot = 0; slot < mass.size(); ++slot) {
    blocks[positions[slot] / block].push_back(slot);
  }
  for (auto& [number, slots] : blocks) std::sort(slots.begin(), slots.end(), is_better);
  Positions order;
  for (std::size_t rank = 0; order.size() < mass.size(); ++rank) {
    std::vector<std::size_t> round;
    for (const auto& [number, slots] : blocks) {
      if (rank < slots.size()) round.push_back(slots[rank]);
    }
    std::sort(round.begin(), round.end(), is_better);
    for (const std::size_t slot : round) order.push_back(positions[slot]);
  }
  return order;
}

Positions order_by(const std::vector<float>& scores, const Positions& positions) {
  std::vector<std::size_t> slots(scores.size());
  std::iota(slots.begin(), slots.end(), std::size_t{0});
  std::sort(slots.begin(), slots.end(),
            [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  Positions order;
  for (const std::size_t slot : slots) order.push_back(positions[slot]);
  return order;
}

}  // namespace

TEST_CASE("every block gives its best token before any gives another") {
  Samples samples(41);
  for (int trace = 0; trace < 400; ++trace) {
    const std::size_t tokens = 1 + samples.below(120);
    const std::vector<float> mass = samples.mass(tokens);
    Positions positions(tokens);
    lethe::Position next = 0;
    for (lethe::Position& position : positions) {
      position = next += static_cast<lethe::Position>(1 + samples.below(9));
    }
    // An overwritten slot holds a younger token than its neighbours.
    if (trace % 2 == 1) std::swap(positions[samples.below(tokens)], positions.back());
    const std::size_t block = 1 + samples.below(24);
    CAPTURE(trace, tokens, block);
    const std::vector<float> scores = scores_of(mass, positions, block);
    REQUIRE(order_by(scores, positions) == naive_order(mass, positions, block));
    REQUIRE(*std::min_element(scores.begin(), scores.end()) == 0.0f);
  }
}

TEST_CASE("whatever the budget, blocks keep equally many as far as they have them") {
  const std::vector<float> mass{9, 8, 7, 6, 5, 4, 3, 2, 1};
  Positions positions(9);
  std::iota(positions.begin(), positions.end(), 0u);
  CHECK(order_by(scores_of(mass, positions, 4), positions) == Positions{0, 4, 8, 1, 5, 2, 6, 3, 7});
}

TEST_CASE("scores that are not finite stay visible, and no block is refused by name") {
  Positions positions{0, 1, 2};
  const std::vector<float> scores = scores_of({1.0f, not_a_number, 2.0f}, positions, 2);
  CHECK_FALSE(lethe::is_finite(scores[1]));
  CHECK_THROWS_WITH(scores_of({1.0f}, {0}, 0), Catch::Contains("block = 0"));
}

TEST_CASE("a growing budget adds a step for every round that asked for one") {
  const lethe::GrowingBudget budget({.budget = 40, .step = 16});
  CHECK(budget.budget({}).tokens == 40);
  CHECK(budget.budget({.growth = 3}).tokens == 88);
  CHECK_THROWS_WITH(lethe::GrowingBudget({}), Catch::Contains("budget = 0"));
  CHECK_THROWS_WITH(lethe::GrowingBudget({.budget = 4, .step = 0}), Catch::Contains("step = 0"));
  CHECK_THROWS_AS(lethe::GrowingBudget({}), std::invalid_argument);
}
