// Misuse in hot paths meets LETHE_ASSERT, which a user may take over before the first include.
struct Misuse {};
#define LETHE_ASSERT(condition)       \
  do {                                \
    if (!(condition)) throw Misuse(); \
  } while (false)

#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "lethe/lethe.hpp"

namespace {

struct Cache {
  std::size_t layers() const { return 1; }
  std::size_t size(std::size_t) const { return 0; }
  void apply(std::span<const lethe::EvictionPlan>) {}
};

const std::vector<float> row(64, 0.1f);

}  // namespace

TEST_CASE("an observation of a layer, heads or groups that are not there is refused") {
  lethe::policies::H2O pruner({.layers = 1, .capacity = 8, .groups = 2});
  Cache cache;
  pruner.make_room(cache, 1);
  const lethe::Probabilities<float> good{.data = row.data(), .heads = 4, .columns = 1};
  CHECK_NOTHROW(pruner.observe(0, good));
  CHECK_THROWS_AS(pruner.observe(1, good), std::invalid_argument);
  const auto refused = [&](const lethe::Probabilities<float>& bad, const char* field) {
    CHECK_THROWS_WITH(pruner.observe(0, bad), Catch::Contains(field));
  };
  lethe::Probabilities<float> bad = good;
  bad.heads = 3;
  refused(bad, "observe heads = 3");
  bad.heads = 0;
  refused(bad, "observe heads = 0");
  bad = good;
  bad.first_group = 1;
  bad.group_count = 2;
  refused(bad, "observe group_count = 2");
  bad.first_group = 2;
  refused(bad, "observe first_group = 2");
  const lethe::Mass<float> one_group{.data = row.data(), .groups = 1, .columns = 1};
  CHECK_THROWS_WITH(pruner.observe(0, one_group), Catch::Contains("observe groups = 1"));
  CHECK_THROWS_WITH(pruner.save(), Catch::Contains("commit the step first"));
}

TEST_CASE("appending beyond a cache's room is misuse") {
  float keys[8] = {};
  lethe::ContiguousCache<float> cache(
      {{.keys = keys, .dimension = 2, .key_strides = {.token = 2}, .capacity = 4}});
  CHECK_NOTHROW(cache.append(0, 4));
  CHECK_THROWS_AS(cache.append(0, 1), Misuse);
  CHECK_THROWS_AS(cache.truncate(0, 5), Misuse);
}

TEST_CASE("a plan that would write a shared prefix is misuse") {
  float keys[32] = {};
  lethe::PagedCache<float, lethe::detail::IgnoreBlock> cache(
      {{.keys = keys, .dimension = 2, .key_strides = {.token = 2}, .key_block_stride = 8}}, 4, 4,
      {});
  cache.add_block(0, 0);
  cache.add_block(0, 1);
  cache.append(0, 8);
  cache.share_prefix(0, 4);
  const std::vector<lethe::Slot> kept{0, 2, 3, 4};
  const lethe::EvictionPlan plan{.tokens = 8, .first_move = 1, .kept = kept};
  CHECK_THROWS_AS(cache.apply({&plan, 1}), Misuse);
  CHECK_THROWS_AS(cache.append(0, 1), Misuse);
}
