#include "lethe/score/decayed_maximum.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "lethe/score/rasr.hpp"
#include "lethe/score/window.hpp"
#include "samples.hpp"

namespace {

using lethe::Position;
using Scorer = lethe::DecayedMaximum<lethe::WindowMass>;

constexpr std::size_t slots = 24;
const Scorer::Config config{.score = {.window = 3, .pool = 1}, .decay = 0.8f};

std::vector<double> scores_of(Scorer& scorer, std::size_t tokens) {
  const std::vector<Position> positions(tokens);
  std::vector<float> scratch(tokens);
  const auto row = scorer.score(1, 0, positions, scratch);
  return {row.begin(), row.end()};
}

void observe(Scorer& scorer, const std::vector<float>& mass) {
  scorer.record(1, 0, 0, 0, mass);
  scorer.advance(1);
}

/// Keeps every second token.
std::vector<lethe::Slot> drop_half(Scorer& scorer, std::size_t tokens) {
  std::vector<lethe::Slot> kept;
  for (std::size_t i = 0; i < tokens; i += 2) kept.push_back(static_cast<lethe::Slot>(i));
  scorer.keep({.layer = 1, .tokens = static_cast<std::uint32_t>(tokens), .kept = kept}, 0);
  return kept;
}

template <class Value>
void keep_only(std::vector<Value>& row, const std::vector<lethe::Slot>& kept) {
  for (std::size_t i = 0; i < kept.size(); ++i) row[i] = row[kept[i]];
  row.resize(kept.size());
}

}  // namespace

TEST_CASE("standings are the published recurrence, once a round that drops tokens") {
  Samples samples(4);
  Scorer scorer(config, {.layers = 2, .slots = slots});
  std::vector<double> remembered;
  std::vector<std::vector<float>> window;
  for (int round = 0; round < 6; ++round) {
    for (int query = 0; query < 4; ++query) {
      remembered.push_back(0);
      for (auto& row : window) row.push_back(0);
      window.emplace_back();
      for (std::size_t i = 0; i < remembered.size(); ++i)
        window.back().push_back(samples.uniform());
      observe(scorer, window.back());
      if (window.size() > 3) window.erase(window.begin());
    }
    std::vector<double> sums(remembered.size(), 0.0);
    for (const auto& row : window) {
      for (std::size_t i = 0; i < row.size(); ++i) sums[i] += static_cast<double>(row[i]);
    }
    const double best = *std::max_element(sums.begin(), sums.end());
    for (std::size_t i = 0; i < sums.size(); ++i) {
      remembered[i] = std::max(0.8 * remembered[i], sums[i] / best);
    }
    for (int look = 0; look < 2; ++look) {  // looking changes nothing
      const std::vector<double> found = scores_of(scorer, remembered.size());
      for (std::size_t i = 0; i < found.size(); ++i) {
        REQUIRE_THAT(found[i], WithinAbs(remembered[i], 1e-6));
      }
    }
    const auto kept = drop_half(scorer, remembered.size());
    keep_only(remembered, kept);
    for (auto& row : window) keep_only(row, kept);
  }
}

TEST_CASE("a new token in a forgotten slot starts from nothing") {
  Scorer scorer(config, {.layers = 2, .slots = slots});
  observe(scorer, {0.2f, 0.6f, 0.2f, 0.1f});
  scores_of(scorer, 4);
  drop_half(scorer, 4);
  scorer.forget(1, 0, 0);
  for (int query = 0; query < 3; ++query) observe(scorer, {0.0f, 0.5f});
  CHECK(scores_of(scorer, 2) == std::vector<double>{0.0, 1.0});
}

TEST_CASE("standings fade too where single slots are overwritten") {
  Scorer scorer(config, {.layers = 2, .slots = slots});
  observe(scorer, {0.2f, 0.8f, 0.2f, 0.4f});
  CHECK_THAT(scores_of(scorer, 4)[3], WithinAbs(0.5, 1e-6));
  scorer.forget(1, 0, 0);
  for (int query = 0; query < 3; ++query) observe(scorer, {0.3f, 0.1f, 0.0f, 0.0f});
  const std::vector<double> found = scores_of(scorer, 4);
  CHECK(found[0] == 1.0);
  CHECK_THAT(found[1], WithinAbs(0.8, 1e-6));
  CHECK_THAT(found[3], WithinAbs(0.4, 1e-6));
}

TEST_CASE("scores that are not finite stay visible") {
  for (const float odd :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Scorer scorer(config, {.layers = 2, .slots = slots});
    observe(scorer, {0.5f, odd, 0.5f});
    CHECK_FALSE(lethe::is_finite(static_cast<float>(scores_of(scorer, 3)[1])));
  }
}

TEST_CASE("the smallest scores have standings") {
  Scorer scorer(config, {.layers = 2, .slots = slots});
  observe(scorer, {0.0f, 1e-39f});
  CHECK(scores_of(scorer, 2) == std::vector<double>{0.0, 1.0});
}

TEST_CASE("a decay that is no share is refused") {
  const lethe::ScoreShape shape{.layers = 1, .slots = 4};
  using Decayed = lethe::DecayedMaximum<lethe::Rasr>;
  CHECK_THROWS_AS(Decayed({.decay = 1.5f}, shape), std::invalid_argument);
  CHECK_THROWS_AS(Decayed({.decay = -0.1f}, shape), std::invalid_argument);
}
