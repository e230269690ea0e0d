// What bounds a round where heads hold unequal counts: slots shared with others, blocks, a head's
// own capacity, and scores that are no numbers.
#include <cstddef>
#include <span>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "lethe/budget/flat_heads.hpp"
#include "lethe/policies/heads.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/window.hpp"
#include "row_cache.hpp"
#include "samples.hpp"

namespace {

using lethe::Position;
using Pruner = lethe::Pruner<lethe::WindowMass, lethe::FlatHeads<lethe::UniformBudget>>;

constexpr std::size_t heads = 3, capacity = 24;

/// Some of its slots are others' too.
struct SharedCache : UnequalRowCache {
  using UnequalRowCache::UnequalRowCache;
  [[nodiscard]] std::size_t shared_prefix(std::size_t) const { return shared; }
  std::size_t shared = 0;
};
static_assert(lethe::SharedPrefixCache<SharedCache>);

struct BlockedCache : UnequalRowCache {
  using UnequalRowCache::UnequalRowCache;
  [[nodiscard]] std::size_t block_tokens(std::size_t) const { return 8; }
};
static_assert(lethe::BlockCache<BlockedCache>);

struct SizedCache : RowCache {
  using RowCache::RowCache;
  [[nodiscard]] std::size_t token_bytes(std::size_t) const { return 1; }
};
static_assert(lethe::ByteSizedCache<SizedCache>);

lethe::PrunerConfig config_of(std::size_t layers, std::size_t head_capacity = 0) {
  return {.layers = layers,
          .capacity = capacity,
          .head_capacity = head_capacity,
          .groups = heads,
          .scope = lethe::Scope::head,
          .round_interval = 1};
}

/// Scores are what the last query paid; nothing is protected.
Pruner make_pruner(const lethe::PrunerConfig& config, std::size_t budget,
                   std::size_t first_threshold = 0) {
  return Pruner(
      config,
      {.retention = {.first_tokens = 0, .recent_tokens = 0}, .first_threshold = first_threshold},
      {.window = 1, .pool = 1}, {.budget = {.budget = budget}, .safeguard = 0.0f});
}

/// Older tokens are paid more, and those of head 0 nothing.
float pay_old(std::size_t, std::size_t head, Position position) {
  return head == 0 ? 0.0f : 1.0f / (1.0f + static_cast<float>(position));
}

/// Puts the token at `position` into every head; pay(layer, head, position) is its query's mass.
template <class Deciding, class Cache, class Pay>
void append_step(Deciding& pruner, Cache& cache, Position position, Pay pay) {
  for (std::size_t layer = 0; layer < cache.layers(); ++layer) {
    const std::size_t columns = cache.size(layer) + 1;
    std::vector<float> mass(heads * columns, not_a_number);
    for (std::size_t head = 0; head < heads; ++head) {
      cache.append(layer, head, {.position = position});
      const std::vector<Position> own = cache.positions(layer, head);
      for (std::size_t i = 0; i < own.size(); ++i)
        mass[head * columns + i] = pay(layer, head, own[i]);
    }
    pruner.observe(layer,
                   lethe::Mass<float>{.data = mass.data(), .groups = heads, .columns = columns});
  }
  pruner.commit();
}

std::size_t all_of(const UnequalRowCache& cache, std::size_t layer) {
  std::size_t sum = 0;
  for (std::size_t head = 0; head < heads; ++head) sum += cache.size(layer, head);
  return sum;
}

}  // namespace

TEST_CASE("shared slots stay in every head, and those of an emptied head hold nothing back") {
  Pruner pruner = make_pruner(config_of(1), 16);
  SharedCache cache(1, heads);
  for (Position position = 0; position < 32; ++position) {
    pruner.make_room(cache, 1);
    append_step(pruner, cache, position, pay_old);
  }
  pruner.make_room(cache, 1);
  REQUIRE(cache.size(0, 0) == 0);
  REQUIRE(cache.size(0, 1) == 24);
  cache.shared = 2;
  // Room for 20 more leaves 4 tokens a head.
  pruner.make_room(cache, 20);
  CHECK(cache.positions(0, 1) == std::vector<Position>{0, 1, 2, 3, 4, 5});
  CHECK(cache.positions(0, 2) == cache.positions(0, 1));
  // Newer tokens are paid more from here on.
  const auto pay_new = [](std::size_t, std::size_t head, Position position) {
    return static_cast<float>(position) / static_cast<float>(head + 1);
  };
  cache.shared = 3;
  for (Position position = 32; position < 80; ++position) {
    pruner.make_room(cache, 1);
    append_step(pruner, cache, position, pay_new);
  }
  CHECK(cache.size(0, 0) > cache.size(0, 1));
  for (std::size_t slot = 0; slot < 3; ++slot) {
    CHECK(cache.positions(0, 0)[slot] == 32 + slot);
    CHECK(cache.positions(0, 1)[slot] == slot);
    CHECK(cache.positions(0, 2)[slot] == slot);
  }
}

TEST_CASE("counts of unequal heads are not rounded to blocks") {
  Pruner pruner = make_pruner(config_of(1), 13);
  BlockedCache cache(1, heads);
  std::size_t rounds = 0;
  for (Position position = 0; position < 100; ++position) {
    if (pruner.make_room(cache, 1) != 0) {
      REQUIRE(all_of(cache, 0) == 13 * heads);
      ++rounds;
    }
    append_step(pruner, cache, position, pay_old);
  }
  CHECK(rounds > 5);
  CHECK(cache.size(0, 0) < cache.size(0, 1));
}

TEST_CASE("a head at its capacity that cannot be pruned is refused by its own count") {
  Pruner pruner = make_pruner(config_of(1, capacity), 16);
  UnequalRowCache cache(1, heads);
  for (Position position = 0; position < 27; ++position) {
    pruner.make_room(cache, 1);
    append_step(pruner, cache, position, [&](std::size_t, std::size_t head, Position token) {
      return position == 26 && head == 0 ? not_a_number : pay_old(0, head, token);
    });
  }
  REQUIRE(cache.size(0) == capacity);
  REQUIRE(all_of(cache, 0) < (capacity - 1) * heads);
  CHECK_THROWS_WITH(pruner.make_room(cache, 1), Catch::Contains("24 tokens in its longest head") &&
                                                    Catch::Contains("head_capacity is 24") &&
                                                    Catch::Contains("non-finite scores") &&
                                                    Catch::Contains("raise head_capacity"));
  CHECK_THROWS_AS(pruner.make_room(cache, 1), std::length_error);
}

TEST_CASE("a score of one head that is no number leaves its whole layer alone") {
  Pruner pruner = make_pruner(config_of(2), 8, 12);
  UnequalRowCache cache(2, heads);
  std::vector<std::size_t> left_alone(2, 0);
  for (Position position = 0; position < 16; ++position) {
    pruner.make_room(cache, 1, [&](const lethe::RoundStatistics& row) {
      if (row.outcome == lethe::Outcome::non_finite) ++left_alone[row.layer];
    });
    append_step(pruner, cache, position, [](std::size_t layer, std::size_t head, Position token) {
      return layer == 0 && head == 1 ? not_a_number : pay_old(layer, head, token);
    });
  }
  CHECK(left_alone == std::vector<std::size_t>{4, 0});
  for (std::size_t head = 0; head < heads; ++head) CHECK(cache.size(0, head) == 16);
  CHECK(all_of(cache, 1) == 12 * heads);
  CHECK(cache.size(1, 0) < cache.size(1, 1));
}

TEST_CASE("pinned tokens that one head has dropped stay in the others under two totals") {
  lethe::PrunerConfig config = config_of(2);
  config.total_capacity = 29;
  config.total_bytes = 24;
  lethe::Pruner<lethe::WindowMass, lethe::TableBudget> pruner(
      config, {.retention = {.first_tokens = 0, .recent_tokens = 4}}, {.window = 1, .pool = 1},
      {.budgets = {8, 24}});
  SizedCache cache(2, heads);
  for (Position position = 0; position < 14; ++position) {
    pruner.make_room(cache, 1);
    append_step(pruner, cache, position, [](std::size_t, std::size_t head, Position token) {
      return head == 0 ? static_cast<float>(token) : pay_old(0, head, token);
    });
  }
  REQUIRE(cache.size(0) == 10);
  REQUIRE(cache.positions(0, 0)[0] == 4);
  pruner.pin(4);
  // The totals leave layer 0 five tokens, then as few as are pinned.
  pruner.make_room(cache, 6);
  CHECK(cache.positions(0, 1) == std::vector<Position>{0, 1, 2, 3});
  CHECK(cache.positions(0, 2) == std::vector<Position>{0, 1, 2, 3});
  CHECK(cache.size(1) == 5);
}
