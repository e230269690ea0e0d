#include "lethe/budget/mass_target.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/rasr.hpp"
#include "samples.hpp"

namespace {

using lethe::Position;

struct Case {
  std::vector<float> scores;
  float share = 0.93f;
  lethe::Protection protection{};
  /// Empty: in the order of slots.
  std::vector<Position> positions{};
};

lethe::Budget budget_of(const Case& c) {
  const std::size_t tokens = c.scores.size();
  const std::vector<Position> positions =
      c.positions.empty() ? ascending_positions(tokens) : c.positions;
  std::vector<std::uint32_t> keys(tokens + 1);
  std::vector<std::uint32_t> scratch(tokens + 1);
  std::size_t held = 0;
  for (const Position p : positions) held += c.protection.covers(p) ? 1 : 0;
  return lethe::MassTarget({.share = c.share})
      .budget({.scores = c.scores,
               .positions = positions,
               .ordered = c.positions.empty(),
               .protection = c.protection,
               .protected_tokens = held,
               .limit = tokens,
               .summary = lethe::summarise(c.scores),
               .keys = keys,
               .scratch = scratch});
}

double mass_of(float score) { return std::max(0.0, static_cast<double>(score)); }

/// The positions of the smallest set, from its definition: protected tokens, then the best by score
/// and age until the share is reached. Slots are in the order of position.
std::vector<Position> naive_kept(const Case& c) {
  std::vector<Position> order(c.scores.size());
  std::iota(order.begin(), order.end(), Position{0});
  std::stable_sort(order.begin(), order.end(), [&](Position a, Position b) {
    const bool first = c.protection.covers(a);
    const bool second = c.protection.covers(b);
    return first != second ? first : !first && c.scores[a] > c.scores[b];
  });
  double total = 0;
  for (const float score : c.scores) total += mass_of(score);
  const double target = total * static_cast<double>(c.share) - 1e-6 * total;
  std::vector<Position> kept;
  double held = 0;
  for (const Position token : order) {
    if (!c.protection.covers(token) && held >= target) break;
    held += mass_of(c.scores[token]);
    kept.push_back(token);
  }
  std::sort(kept.begin(), kept.end());
  return kept;
}

Case random_case(Samples& samples) {
  const std::size_t tokens = 1 + samples.below(400);
  Case c{.scores = samples.mass(tokens)};
  const float shares[] = {1e-3f, 0.1f, 0.5f, 0.75f, 0.93f, 0.99f};
  c.share = shares[samples.below(6)];
  c.protection.prefix_end = static_cast<Position>(samples.below(6));
  c.protection.recent_begin = static_cast<Position>(samples.below(2 * tokens));
  if (samples.below(4) == 0) {
    for (float& score : c.scores) score *= 1e-30f;
  }
  if (samples.below(4) == 0) c.scores[samples.below(tokens)] = 3e8f;
  return c;
}

}  // namespace

TEST_CASE("the budget is the size of the smallest set that holds the share") {
  Samples samples(91);
  std::size_t spread = 0;
  for (int trace = 0; trace < 4000; ++trace) {
    const Case c = random_case(samples);
    const std::size_t expected = naive_kept(c).size();
    const lethe::Budget found = budget_of(c);
    REQUIRE(found.tokens == expected);
    REQUIRE(found.spread_out == (expected == c.scores.size()));
    spread += found.spread_out ? 1 : 0;
  }
  CHECK(spread > 20);
  CHECK(spread < 2000);
}

TEST_CASE("its cut keeps that set, ties to the older token") {
  Samples samples(92);
  int cuts = 0;
  for (int trace = 0; trace < 2000; ++trace) {
    const Case c = random_case(samples);
    const lethe::Budget found = budget_of(c);
    if (found.cut.ties == 0) continue;
    ++cuts;
    std::vector<std::uint32_t> keys(c.scores.size());
    lethe::make_keys(c.scores, keys);
    std::vector<lethe::Slot> slots(c.scores.size() + 1);
    std::vector<std::uint32_t> scratch(c.scores.size() + 1);
    const std::vector<Position> positions = ascending_positions(c.scores.size());
    slots.resize(lethe::collect(keys, found.cut, positions, true, slots, scratch));
    for (const Position p : positions) {
      if (c.protection.covers(p)) slots.push_back(p);
    }
    std::sort(slots.begin(), slots.end());
    slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
    REQUIRE(slots == naive_kept(c));
  }
  CHECK(cuts > 500);
}

TEST_CASE("the share is reached and not passed by a token") {
  Case c{.scores = std::vector<float>(10, 0.1f), .share = 0.5f};
  CHECK(budget_of(c).tokens == 5);
  c.share = 0.1f;  // a float a little above a tenth
  CHECK(budget_of(c).tokens == 1);
  c.share = 0.11f;
  CHECK(budget_of(c).tokens == 2);
  c.share = 1.0f;
  CHECK(budget_of(c).tokens == 10);
  CHECK(budget_of(c).spread_out);
  c.scores[4] = 0.0f;  // no part of the smallest set
  CHECK(budget_of(c).tokens == 9);
  CHECK_FALSE(budget_of(c).spread_out);
}

TEST_CASE("protected tokens count: what they hold need not be kept elsewhere") {
  Case c{.scores = {4, 1, 1, 1, 1, 2}, .share = 0.6f};
  CHECK(budget_of(c).tokens == 2);
  c.protection = {.prefix_end = 1, .recent_begin = 5};
  CHECK(budget_of(c).tokens == 2);
  c.share = 0.7f;
  CHECK(budget_of(c).tokens == 3);
  c.protection = {.prefix_end = 2, .recent_begin = 4};
  CHECK(budget_of(c).tokens == 4);
  c.share = 0.2f;
  CHECK(budget_of(c).tokens == 4);
}

TEST_CASE("neither the order of slots nor the scale of scores changes the count") {
  Samples samples(93);
  for (int trace = 0; trace < 300; ++trace) {
    Case c = random_case(samples);
    if (*std::max_element(c.scores.begin(), c.scores.end()) > 1.0f) continue;
    const std::size_t expected = budget_of(c).tokens;
    Case scaled = c;
    for (float& score : scaled.scores) score *= 0x1p20f;
    REQUIRE(budget_of(scaled).tokens == expected);
    c.positions = ascending_positions(c.scores.size());
    for (std::size_t i = c.scores.size() - 1; i > 0; --i) {
      const std::size_t j = samples.below(i + 1);
      std::swap(c.scores[i], c.scores[j]);
      std::swap(c.positions[i], c.positions[j]);
    }
    REQUIRE(budget_of(c).tokens == expected);
  }
}

TEST_CASE("no mass, one token and the extremes of float have budgets") {
  CHECK(budget_of({.scores = std::vector<float>(50, 0.0f)}).spread_out);
  CHECK(budget_of({.scores = std::vector<float>(50, -1.0f)}).spread_out);
  CHECK(budget_of({.scores = {0.3f}}).spread_out);
  CHECK(budget_of({.scores = {-5.0f, 2.0f, -7.0f}}).tokens == 1);
  CHECK(budget_of({.scores = {1e-45f, 1e-45f, 0.0f}}).tokens == 2);
  CHECK(budget_of({.scores = {0x1p-126f, 0x1p-127f, 0x1p-127f}, .share = 0.6f}).tokens == 2);
  CHECK(budget_of({.scores = {3e38f, 3e38f, 1e-45f}}).tokens == 2);
  CHECK(budget_of({.scores = {3e38f, 1e-38f, 1e-45f}, .share = 1.0f}).tokens == 1);
  CHECK(budget_of({.scores = std::vector<float>(100000, 1.0f), .share = 0.25f}).tokens == 25000);
}

namespace {

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

}  // namespace

TEST_CASE("a pruner keeps the smallest set") {
  Samples samples(94);
  lethe::Pruner<lethe::Rasr, lethe::MassTarget> pruner(
      {.layers = 1, .capacity = 512, .round_interval = 16},
      {.retention = {.first_tokens = 3, .recent_tokens = 10}, .first_threshold = 40},
      {.decay = 0.9f}, {.share = 0.8f});
  Tokens cache;
  int rounds = 0;
  for (Position token = 0; token < 400; ++token) {
    const std::vector<Position> before = cache.held;
    const auto scores = pruner.scores(0);
    const std::vector<float> row(scores.begin(), scores.end());
    if (pruner.make_room(cache, 1) != 0) {
      ++rounds;
      Case c{.scores = row, .share = 0.8f};
      c.protection = {.prefix_end = 3, .recent_begin = static_cast<Position>(row.size() - 10)};
      std::vector<Position> expected;
      for (const Position slot : naive_kept(c)) expected.push_back(before[slot]);
      REQUIRE(cache.held == expected);
    }
    cache.held.push_back(token);
    const std::vector<float> mass = samples.mass(cache.held.size());
    pruner.observe(0, lethe::Mass<float>{.data = mass.data(), .columns = mass.size()});
    pruner.commit();
  }
  CHECK(rounds > 5);
}

TEST_CASE("a share that is none is refused by name") {
  for (const float share : {0.0f, -0.5f, 1.5f, not_a_number}) {
    CHECK_THROWS_WITH(lethe::MassTarget({.share = share}), Catch::Contains("share = "));
    CHECK_THROWS_AS(lethe::MassTarget({.share = share}), std::invalid_argument);
  }
}
