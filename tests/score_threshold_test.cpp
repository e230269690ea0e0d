#include "lethe/budget/score_threshold.hpp"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/rasr.hpp"
#include "lethe/score/window.hpp"
#include "samples.hpp"

namespace {

using lethe::Position;

struct Case {
  std::vector<float> scores;
  float share = 0.1f;
  lethe::Protection protection{};
};

lethe::Budget budget_of(const Case& c) {
  const std::size_t tokens = c.scores.size();
  const std::vector<Position> positions = ascending_positions(tokens);
  std::vector<std::uint32_t> keys(tokens + 1);
  std::vector<std::uint32_t> scratch(tokens + 1);
  return lethe::ScoreThreshold({.share = c.share})
      .budget({.scores = c.scores,
               .positions = positions,
               .protection = c.protection,
               .limit = tokens,
               .summary = lethe::summarise(c.scores),
               .keys = keys,
               .scratch = scratch});
}

/// The slots that stay, from the rule, of a share that may be a decimal; slots are in the order of
/// position.
std::vector<std::size_t> naive_kept(const Case& c) {
  double sum = 0;
  double open = 0;
  for (std::size_t i = 0; i < c.scores.size(); ++i) {
    if (c.protection.covers(static_cast<Position>(i))) continue;
    sum += double(c.scores[i]);
    ++open;
  }
  std::vector<std::size_t> kept;
  for (std::size_t i = 0; i < c.scores.size(); ++i) {
    const bool held = c.protection.covers(static_cast<Position>(i));
    if (held || double(c.scores[i]) >= double(c.share) * sum / open * (1 - 1e-7)) kept.push_back(i);
  }
  return kept;
}

/// A cache of positions.
struct Tokens {
  std::vector<Position> held;
  std::size_t layers() const { return 1; }
  std::size_t size(std::size_t) const { return held.size(); }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    for (const auto& plan : plans) {
      for (std::size_t i = 0; i < plan.kept.size(); ++i) held[i] = held[plan.kept[i]];
      held.resize(plan.kept.size());
    }
  }
};

/// Where more than `most` reach the threshold, the worst of them go; of equal ones the younger.
void limit(std::vector<std::size_t>& kept, const Case& c, std::size_t most) {
  std::stable_sort(kept.begin(), kept.end(), [&](std::size_t a, std::size_t b) {
    const bool first = c.protection.covers(static_cast<Position>(a));
    const bool second = c.protection.covers(static_cast<Position>(b));
    return first != second ? first : !first && c.scores[a] > c.scores[b];
  });
  kept.resize(std::min(kept.size(), most));
  std::sort(kept.begin(), kept.end());
}

struct Seen {
  int rounds = 0;
  int capped = 0;
  int idle = 0;
};

/// Decodes 700 tokens; a round must keep what the rule does. 3 first, 20 recent, at most 120
/// tokens.
template <class Pruner>
Seen decode(Pruner pruner, float share) {
  Samples samples(94);
  Tokens cache;
  Seen seen;
  for (Position token = 0; token < 700; ++token) {
    const std::vector<Position> before = cache.held;
    const auto scores = pruner.scores(0);
    Case c{.scores = {scores.begin(), scores.end()}, .share = share};
    c.protection = {.prefix_end = 3, .recent_begin = static_cast<Position>(before.size() - 20)};
    bool examined = false;
    pruner.make_room(cache, 1, [&](const lethe::RoundStatistics&) { examined = true; });
    if (examined) {
      std::vector<std::size_t> expected = naive_kept(c);
      const std::size_t reaching = expected.size();
      // At the bound a round leaves the slack.
      limit(expected, c, before.size() == 120 ? 105 : before.size());
      std::vector<Position> wanted;
      for (const std::size_t slot : expected) wanted.push_back(before[slot]);
      REQUIRE(cache.held == wanted);
      ++seen.rounds;
      seen.capped += reaching > expected.size() ? 1 : 0;
      seen.idle += expected.size() == before.size() ? 1 : 0;
    }
    cache.held.push_back(token);
    const std::vector<float> mass = samples.mass(cache.held.size());
    pruner.observe(0, lethe::Mass<float>{.data = mass.data(), .columns = mass.size()});
    pruner.commit();
  }
  return seen;
}

constexpr lethe::PrunerConfig config{.layers = 1, .capacity = 120, .round_interval = 8};
constexpr lethe::PolicySettings settings{.retention = {.first_tokens = 3, .recent_tokens = 20},
                                         .first_threshold = 24};

}  // namespace

TEST_CASE("the budget is the protected tokens and those that reach a share of the others' mean") {
  Samples samples(91);
  std::size_t partial = 0;
  for (int trace = 0; trace < 3000; ++trace) {
    const std::size_t tokens = 1 + samples.below(300);
    Case c{.scores = samples.mass(tokens)};
    const float shares[] = {1e-3f, 0.1f, 0.5f, 0.9f};
    c.share = shares[samples.below(4)];
    c.protection.prefix_end = static_cast<Position>(samples.below(6));
    c.protection.recent_begin = static_cast<Position>(samples.below(2 * tokens));
    if (samples.below(4) == 0) c.scores[0] = 3e8f;
    const lethe::Budget found = budget_of(c);
    REQUIRE(found.tokens == naive_kept(c).size());
    REQUIRE_FALSE(found.spread_out);
    partial += found.tokens < tokens ? 1 : 0;
  }
  CHECK(partial > 1000);
}

TEST_CASE("the threshold is reached by what equals it, and protected tokens do not set it") {
  CHECK(budget_of({.scores = {1, 1, 1, 1}, .share = 1.0f}).tokens == 4);
  CHECK(budget_of({.scores = {1, 19, 10, 10}, .share = 0.1f}).tokens == 4);
  CHECK(budget_of({.scores = {0.09f, 1.91f, 1, 1}, .share = 0.1f}).tokens == 3);
  Case c{.scores = {1000, 1, 2, 3, 0}, .share = 0.5f};
  CHECK(budget_of(c).tokens == 1);
  c.protection = {.prefix_end = 1, .recent_begin = 4};
  CHECK(budget_of(c).tokens == 5);
  c.share = 0.6f;
  CHECK(budget_of(c).tokens == 4);
}

TEST_CASE("neither tokens without mass nor protected ones alone make a round drop any") {
  CHECK(budget_of({.scores = std::vector<float>(50, 0.0f)}).tokens == 50);
  CHECK(budget_of({.scores = {}}).tokens == 0);
  CHECK(budget_of({.scores = {1, 2, 3}, .protection = {.prefix_end = 3}}).tokens == 3);
}

TEST_CASE("a pruner keeps who reaches the threshold, whatever the score, and the cap the best") {
  using Decayed = lethe::Pruner<lethe::Rasr, lethe::ScoreThreshold>;
  const Seen few = decode(Decayed(config, settings, {.decay = 0.9f}, {.share = 0.9f}), 0.9f);
  CHECK(few.rounds > 70);
  CHECK(few.capped == 0);
  const Seen many = decode(Decayed(config, settings, {.decay = 1.0f}, {.share = 0.1f}), 0.1f);
  CHECK(many.rounds > 30);
  CHECK(many.capped > 10);
  CHECK(many.idle > 5);
  using Window = lethe::Pruner<lethe::WindowMass, lethe::ScoreThreshold>;
  CHECK(decode(Window(config, settings, {.window = 4, .pool = 1}, {.share = 0.5f}), 0.5f).rounds >
        30);
}

TEST_CASE("a share of the mean that is none is refused by name") {
  for (const float share : {0.0f, -0.5f, 1.5f, not_a_number}) {
    CHECK_THROWS_WITH(lethe::ScoreThreshold({.share = share}), Catch::Contains("share = "));
    CHECK_THROWS_AS(lethe::ScoreThreshold({.share = share}), std::invalid_argument);
  }
}
