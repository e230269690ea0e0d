#include "lethe/budget/flat_heads.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "catch.hpp"
#include "lethe/budget/entropy.hpp"
#include "samples.hpp"

namespace {

using Allocator = lethe::FlatHeads<lethe::UniformBudget>;
using Counts = std::vector<std::size_t>;

static_assert(lethe::GlobalBudgetAllocator<lethe::FlatHeads<lethe::EntropyBudget>>);
static_assert(!lethe::HeadBudgetAllocator<lethe::UniformBudget>);

/// A head as a user has it: scores of the tokens that may go, and their positions.
struct Head {
  std::vector<float> scores;
  std::vector<lethe::Position> positions;
  std::size_t protected_tokens = 0;
  std::size_t ceiling = 0;
};

Counts shared(const std::vector<Head>& heads, std::size_t total, float safeguard, float even) {
  std::vector<std::vector<std::uint32_t>> keys;
  std::size_t all = 0;
  for (const Head& head : heads) {
    keys.emplace_back();
    for (const float score : head.scores) keys.back().push_back(lethe::ordered_key(score));
    all += head.scores.size();
  }
  std::vector<lethe::HeadShare> shares;
  for (std::size_t h = 0; h < heads.size(); ++h) {
    shares.push_back({.keys = keys[h],
                      .positions = heads[h].positions,
                      .protected_tokens = heads[h].protected_tokens,
                      .ceiling = heads[h].ceiling});
  }
  std::vector<std::uint32_t> scratch(2 * all + 1);
  Allocator({.safeguard = safeguard, .even_share = even}).share(shares, total, scratch);
  Counts counts;
  for (const lethe::HeadShare& share : shares) counts.push_back(share.tokens);
  return counts;
}

std::size_t room_of(const Head& head) {
  return std::min(head.ceiling, head.protected_tokens + head.scores.size()) - head.protected_tokens;
}

/// Every token of every head in one list, the best first; those of full heads are passed over.
Counts naive_winners(const std::vector<Head>& heads, std::size_t total, double safeguard) {
  using Entry = std::tuple<bool, double, lethe::Position, std::size_t>;
  std::vector<Entry> list;
  std::size_t open = total;
  for (std::size_t h = 0; h < heads.size(); ++h) {
    const Head& head = heads[h];
    open -= head.protected_tokens;
    std::vector<Entry> own;
    for (std::size_t i = 0; i < head.scores.size(); ++i) {
      own.emplace_back(true, -static_cast<double>(head.scores[i]), head.positions[i], h);
    }
    std::sort(own.begin(), own.end());
    const double mean = std::floor(static_cast<double>(total) / static_cast<double>(heads.size()));
    const double even = std::max(0.0, mean - static_cast<double>(head.protected_tokens));
    const double safe =
        std::min(std::floor(safeguard * even + 1e-5), static_cast<double>(room_of(head)));
    for (std::size_t i = 0; static_cast<double>(i) < safe; ++i) {
      std::get<0>(own[i]) = false;
      std::get<1>(own[i]) = 0;
    }
    list.insert(list.end(), own.begin(), own.end());
  }
  std::sort(list.begin(), list.end());
  Counts won(heads.size(), 0);
  for (const auto& [unsafe, score, position, h] : list) {
    if (open == 0) break;
    if (won[h] == room_of(heads[h])) continue;
    ++won[h];
    --open;
  }
  return won;
}

/// LAVa's counts: won and even parts in proportion, whole tokens by largest remainder.
Counts naive_blend(const std::vector<Head>& heads, std::size_t total, const Counts& won,
                   double even_share) {
  std::size_t open = total;
  for (const Head& head : heads) open -= head.protected_tokens;
  const double even = static_cast<double>(open) / static_cast<double>(heads.size());
  std::vector<double> claims;
  Counts counts;
  for (std::size_t h = 0; h < heads.size(); ++h) {
    claims.push_back(even_share * even + (1 - even_share) * static_cast<double>(won[h]));
    counts.push_back(std::min(static_cast<std::size_t>(claims[h] + 1e-9), room_of(heads[h])));
  }
  while (std::accumulate(counts.begin(), counts.end(), std::size_t{0}) < open) {
    std::size_t best = heads.size();
    for (std::size_t h = 0; h < heads.size(); ++h) {
      if (counts[h] == room_of(heads[h])) continue;
      const auto left = [&](std::size_t at) {
        return claims[at] - static_cast<double>(counts[at]);
      };
      if (best == heads.size() || left(h) > left(best) + 1e-9) best = h;
    }
    if (best == heads.size()) break;
    ++counts[best];
  }
  return counts;
}

/// Heads of different lengths and scales; coarse scores, so that many are equal.
std::vector<Head> draw(Samples& samples) {
  std::vector<Head> heads(1 + samples.below(6));
  for (Head& head : heads) {
    const std::size_t tokens = samples.below(60);
    const float scale = samples.between(0.5f, 12.0f);
    lethe::Position position = 0;
    for (std::size_t i = 0; i < tokens; ++i) {
      head.scores.push_back(std::floor(samples.between(0.0f, scale)));
      position += static_cast<lethe::Position>(1 + samples.below(3));
      head.positions.push_back(position);
    }
    head.protected_tokens = samples.below(6);
    head.ceiling = 6 + samples.below(80);
  }
  return heads;
}

}  // namespace

TEST_CASE("heads win as many tokens as they have among the best, each a safeguard") {
  Samples samples(31);
  for (int trace = 0; trace < 3000; ++trace) {
    const std::vector<Head> heads = draw(samples);
    std::size_t protected_tokens = 0;
    std::size_t most = 0;
    for (const Head& head : heads) {
      protected_tokens += head.protected_tokens;
      most += head.protected_tokens + room_of(head);
    }
    const std::size_t total = protected_tokens + samples.below(160);
    const float safeguard = 0.1f * static_cast<float>(samples.below(11));
    const Counts won = naive_winners(heads, total, static_cast<double>(safeguard));
    const Counts found = shared(heads, total, safeguard, 0.0f);
    const Counts blended = shared(heads, total, safeguard, 0.5f);
    const Counts expected = naive_blend(heads, total, won, 0.5);
    std::size_t sum = 0;
    std::size_t blended_sum = 0;
    for (std::size_t h = 0; h < heads.size(); ++h) {
      CAPTURE(trace, h);
      REQUIRE(found[h] == heads[h].protected_tokens + won[h]);
      REQUIRE(blended[h] == heads[h].protected_tokens + expected[h]);
      sum += found[h];
      blended_sum += blended[h];
    }
    REQUIRE(sum == std::min(total, most));
    REQUIRE(blended_sum == std::min(total, most));
  }
}

TEST_CASE("a head whose tokens are all poor keeps its safeguard, and with none nothing") {
  Head rich{.scores = std::vector<float>(100, 9.0f), .positions = {}, .ceiling = 1000};
  rich.positions.resize(100);
  std::iota(rich.positions.begin(), rich.positions.end(), 0u);
  Head poor = rich;
  poor.scores.assign(100, 1.0f);
  CHECK(shared({rich, poor}, 100, 0.2f, 0.0f) == Counts{90, 10});
  CHECK(shared({rich, poor}, 100, 0.0f, 0.0f) == Counts{100, 0});
  CHECK(shared({rich, poor}, 100, 1.0f, 0.0f) == Counts{50, 50});
  CHECK(shared({rich, poor}, 100, 0.0f, 0.5f) == Counts{75, 25});
  poor.protected_tokens = 8;
  CHECK(shared({rich, poor}, 100, 0.2f, 0.0f) == Counts{84, 16});
  rich.ceiling = 60;
  CHECK(shared({rich, poor}, 100, 0.2f, 0.0f) == Counts{60, 40});
}

TEST_CASE("of equal scores the older token's head gets it, then the lower head") {
  const Head young{.scores = {1, 1, 1}, .positions = {5, 6, 9}, .ceiling = 9};
  const Head old{.scores = {1, 1, 1}, .positions = {4, 5, 6}, .ceiling = 9};
  CHECK(shared({young, old}, 1, 0.0f, 0.0f) == Counts{0, 1});
  CHECK(shared({young, old}, 2, 0.0f, 0.0f) == Counts{1, 1});
  CHECK(shared({young, old}, 3, 0.0f, 0.0f) == Counts{1, 2});
  CHECK(shared({young, old}, 4, 0.0f, 0.0f) == Counts{2, 2});
}

TEST_CASE("the mean of the heads is the inner budget's, and wrong shares are refused by name") {
  CHECK(Allocator({.budget = {.budget = 40}}).budget({.limit = 90}).tokens == 40);
  CHECK_THROWS_WITH(Allocator({.safeguard = 1.5f}), Catch::Contains("safeguard = 1.5"));
  CHECK_THROWS_WITH(Allocator({.safeguard = -1.0f}), Catch::Contains("safeguard = -1"));
  CHECK_THROWS_WITH(Allocator({.even_share = 2.0f}), Catch::Contains("even_share = 2"));
  CHECK_THROWS_AS(Allocator({.even_share = 2.0f}), std::invalid_argument);
}
