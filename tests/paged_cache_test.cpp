#include "lethe/cache/paged.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"

namespace {

using lethe::PagedLayer;
using lethe::Strides;

constexpr std::size_t block = 4;
constexpr std::size_t blocks = 10;
constexpr std::size_t heads = 2;
constexpr std::size_t dimension = 3;
constexpr std::size_t block_elements = block * heads * dimension;

using Freed = std::vector<std::pair<std::size_t, std::uint32_t>>;

struct Record {
  Freed* freed;
  void operator()(std::size_t layer, std::uint32_t index) const {
    freed->emplace_back(layer, index);
  }
};
using Cache = lethe::PagedCache<float, Record>;

float key(std::size_t layer, std::size_t head, std::size_t token, std::size_t channel) {
  return static_cast<float>(((layer * 8 + head) * 64 + token) * 8 + channel);
}

/// Two layers over one pool each; values transposed within their blocks.
struct Pool {
  explicit Pool(bool with_values = true) : cache(layers(with_values), block, blocks, {&freed}) {}

  std::vector<PagedLayer<float>> layers(bool with_values) {
    std::vector<PagedLayer<float>> list;
    for (std::size_t layer = 0; layer < 2; ++layer) {
      keys[layer].assign(blocks * block_elements, -1.0f);
      values[layer].assign(blocks * block_elements, -1.0f);
      list.push_back({.keys = keys[layer].data(),
                      .values = with_values ? values[layer].data() : nullptr,
                      .heads = heads,
                      .dimension = dimension,
                      .key_strides = {.token = heads * dimension, .head = dimension},
                      .value_strides = {.token = 1, .head = block * dimension, .channel = block},
                      .key_block_stride = block_elements,
                      .value_block_stride = block_elements});
    }
    return list;
  }

  /// Appends tokens numbered from the layer's size on, in the blocks given.
  void fill(std::size_t layer, std::size_t tokens, std::vector<std::uint32_t> table) {
    for (const std::uint32_t index : table) cache.add_block(layer, index);
    cache.append(layer, tokens);
    const std::size_t value_stride = keys_only ? 0 : block;
    for (std::size_t token = 0; token < tokens; ++token) {
      for (std::size_t head = 0; head < heads; ++head) {
        for (std::size_t c = 0; c < dimension; ++c) {
          cache.key_row(layer, head, token)[c] = key(layer, head, token, c);
          if (keys_only) continue;
          cache.value_row(layer, head, token)[c * value_stride] = -key(layer, head, token, c);
        }
      }
    }
  }

  void require_holds(std::size_t layer, std::size_t head, const std::vector<lethe::Slot>& tokens) {
    std::vector<float> found(tokens.size() * dimension);
    cache.read_keys(layer, head, 0, found);
    for (std::size_t i = 0; i < found.size(); ++i) {
      REQUIRE(found[i] == key(layer, head, tokens[i / dimension], i % dimension));
    }
    if (keys_only) return;
    cache.read_values(layer, head, 0, found);
    for (std::size_t i = 0; i < found.size(); ++i) {
      REQUIRE(found[i] == -key(layer, head, tokens[i / dimension], i % dimension));
    }
  }

  std::vector<float> keys[2];
  std::vector<float> values[2];
  Freed freed;
  bool keys_only = false;
  Cache cache;
};

lethe::EvictionPlan plan_of(std::uint32_t layer, const std::vector<lethe::Slot>& kept,
                            std::uint32_t tokens, std::uint32_t head = lethe::all_heads) {
  return {.layer = layer,
          .head = head,
          .tokens = tokens,
          .first_move = lethe::first_move_of(kept),
          .kept = kept};
}

std::vector<std::uint32_t> table_of(const Cache& cache, std::size_t layer) {
  return {cache.table(layer).begin(), cache.table(layer).end()};
}

}  // namespace

TEST_CASE("layers of unequal length give back their own blocks, last first") {
  Pool pool;
  pool.fill(0, 17, {7, 2, 9, 0, 4});
  pool.fill(1, 9, {3, 1, 8});
  const std::vector<lethe::Slot> first{0, 5, 6, 13, 16};
  const std::vector<lethe::Slot> second{2, 8};
  const lethe::EvictionPlan plans[] = {plan_of(0, first, 17), plan_of(1, second, 9)};
  pool.cache.apply(plans);
  CHECK(pool.cache.size(0) == 5);
  CHECK(pool.cache.size(1) == 2);
  CHECK(table_of(pool.cache, 0) == std::vector<std::uint32_t>{7, 2});
  CHECK(table_of(pool.cache, 1) == std::vector<std::uint32_t>{3});
  CHECK(pool.freed == Freed{{0, 4}, {0, 0}, {0, 9}, {1, 8}, {1, 1}});
  for (std::size_t head = 0; head < heads; ++head) {
    pool.require_holds(0, head, first);
    pool.require_holds(1, head, second);
  }
}

TEST_CASE("random plans leave the survivors, and exactly the blocks they need") {
  Samples samples(91);
  for (int trace = 0; trace < 200; ++trace) {
    Pool pool;
    pool.fill(0, 38, {9, 0, 8, 1, 7, 2, 6, 3, 5, 4});
    const auto kept = samples.slots(38, samples.below(39));
    const lethe::EvictionPlan plan = plan_of(0, kept, 38);
    pool.cache.apply({&plan, 1});
    CHECK(pool.cache.table(0).size() == (kept.size() + block - 1) / block);
    CHECK(pool.freed.size() + pool.cache.table(0).size() == blocks);
    for (std::size_t head = 0; head < heads; ++head) pool.require_holds(0, head, kept);
  }
}

TEST_CASE("a block that empties exactly is given back, one token keeps it") {
  Pool pool;
  pool.fill(0, 8, {5, 6});
  const std::vector<lethe::Slot> five{0, 1, 2, 3, 7};
  const lethe::EvictionPlan to_five = plan_of(0, five, 8);
  pool.cache.apply({&to_five, 1});
  CHECK(pool.freed.empty());
  const std::vector<lethe::Slot> four{0, 1, 2, 4};
  const lethe::EvictionPlan to_four = plan_of(0, four, 5);
  pool.cache.apply({&to_four, 1});
  CHECK(pool.freed == Freed{{0, 6}});
}

TEST_CASE("a shared prefix is announced, and its blocks are neither written nor given back") {
  Pool pool;
  pool.fill(0, 16, {1, 2, 3, 4});
  pool.cache.share_prefix(0, 8);
  CHECK(pool.cache.shared_prefix(0) == 8);
  CHECK(pool.cache.shared_prefix(1) == 0);
  const std::vector<float> before = pool.keys[0];
  std::vector<lethe::Slot> kept = ascending_positions(8);
  kept.push_back(15);
  const lethe::EvictionPlan plan = plan_of(0, kept, 16);
  pool.cache.apply({&plan, 1});
  CHECK(std::equal(before.begin() + block_elements, before.begin() + 3 * block_elements,
                   pool.keys[0].begin() + block_elements));
  CHECK(pool.freed == Freed{{0, 4}});
  for (std::size_t head = 0; head < heads; ++head) pool.require_holds(0, head, kept);
}

TEST_CASE("each head may keep tokens of its own, whatever the order of the plans") {
  for (const bool reversed : {false, true}) {
    Pool pool;
    pool.fill(0, 12, {3, 5, 7});
    const std::vector<lethe::Slot> kept[] = {{0, 9, 11}, {4, 5, 6}};
    std::vector<lethe::EvictionPlan> plans{plan_of(0, kept[0], 12, 0), plan_of(0, kept[1], 12, 1)};
    if (reversed) std::swap(plans[0], plans[1]);
    pool.cache.apply(plans);
    CHECK(pool.cache.size(0) == 3);
    CHECK(pool.freed == Freed{{0, 7}, {0, 5}});
    for (std::size_t head = 0; head < heads; ++head) pool.require_holds(0, head, kept[head]);
  }
}

TEST_CASE("a latent cache has keys alone") {
  Pool pool(false);
  pool.keys_only = true;
  pool.fill(0, 10, {0, 1, 2});
  CHECK(pool.cache.token_bytes(0) == heads * dimension * sizeof(float));
  CHECK(Pool().cache.token_bytes(0) == 2 * heads * dimension * sizeof(float));
  const std::vector<float> values = pool.values[0];
  const std::vector<lethe::Slot> kept{3, 9};
  const lethe::EvictionPlan plan = plan_of(0, kept, 10);
  pool.cache.apply({&plan, 1});
  CHECK(pool.values[0] == values);
  for (std::size_t head = 0; head < heads; ++head) pool.require_holds(0, head, kept);
}

TEST_CASE("rejected tokens are cut off and their blocks given back") {
  Pool pool;
  pool.fill(0, 11, {4, 5, 6});
  pool.cache.truncate(0, 5);
  CHECK(pool.cache.size(0) == 5);
  CHECK(pool.freed == Freed{{0, 6}});
}

TEST_CASE("pools that cannot be are refused by name") {
  float memory[64] = {};
  const PagedLayer<float> good{.keys = memory,
                               .values = memory,
                               .heads = 2,
                               .dimension = 4,
                               .key_strides = {.token = 8, .head = 4},
                               .value_strides = {.token = 8, .head = 4},
                               .key_block_stride = 32,
                               .value_block_stride = 32};
  Freed freed;
  const auto make = [&](const PagedLayer<float>& layer, std::size_t tokens, std::size_t count) {
    return Cache({layer}, tokens, count, Record{&freed});
  };
  const auto refuses = [&](auto change, const char* field) {
    PagedLayer<float> layer = good;
    change(layer);
    CHECK_THROWS_AS(make(layer, 4, 2), std::invalid_argument);
    CHECK_THROWS_WITH(make(layer, 4, 2), Catch::Contains(field));
  };
  CHECK_NOTHROW(make(good, 4, 2));
  CHECK_THROWS_WITH(make(good, 0, 2), Catch::Contains("block_tokens = 0"));
  CHECK_THROWS_WITH(make(good, 4, 0), Catch::Contains("blocks = 0"));
  refuses([](auto& l) { l.keys = nullptr; }, "keys = 0");
  refuses([](auto& l) { l.heads = 0; }, "heads = 0");
  refuses([](auto& l) { l.dimension = 0; }, "dimension = 0");
  refuses([](auto& l) { l.key_strides.token = 0; }, "strides.token = 0");
  refuses([](auto& l) { l.value_strides.head = 0; }, "strides.head = 0");
  refuses([](auto& l) { l.key_block_stride = 0; }, "key_block_stride = 0");
  refuses([](auto& l) { l.value_block_stride = 0; }, "value_block_stride = 0");
}
