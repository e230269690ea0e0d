#include "lethe/cache/contiguous.hpp"

#include <bit>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"

namespace {

using lethe::ContiguousLayer;
using lethe::Strides;

constexpr std::size_t capacity = 12;
constexpr std::size_t heads = 3;
constexpr std::size_t dimension = 5;
constexpr std::size_t room = capacity * heads * dimension * 2;

/// A number that tells layer, head, channel, and which token it was first written for.
float key(std::size_t layer, std::size_t head, std::size_t token, std::size_t channel) {
  return static_cast<float>(((layer * 8 + head) * 64 + token) * 8 + channel);
}

const Strides layouts[] = {
    {.token = heads * dimension, .head = dimension, .channel = 1},
    {.token = dimension, .head = capacity * dimension, .channel = 1},
    {.token = dimension + 2, .head = capacity * (dimension + 2), .channel = 1},
    // Transposed: the tokens of a channel lie side by side.
    {.token = 1, .head = capacity * dimension, .channel = capacity},
};

/// Two layers in memory of their own, written with `key`; values are the keys negated.
struct Memory {
  explicit Memory(const Strides& key_layout, const Strides& value_layout)
      : key_strides(key_layout), value_strides(value_layout) {
    for (std::size_t layer = 0; layer < 2; ++layer) {
      keys[layer].assign(room, -1.0f);
      values[layer].assign(room, 1.0f);
      for (std::size_t token = 0; token < capacity; ++token) write(layer, token);
    }
  }

  void write(std::size_t layer, std::size_t token) {
    for (std::size_t head = 0; head < heads; ++head) {
      for (std::size_t c = 0; c < dimension; ++c) {
        keys[layer][place(key_strides, head, token, c)] = key(layer, head, token, c);
        values[layer][place(value_strides, head, token, c)] = -key(layer, head, token, c);
      }
    }
  }

  static std::size_t place(const Strides& s, std::size_t head, std::size_t token, std::size_t c) {
    return head * s.head + token * s.token + c * s.channel;
  }

  lethe::ContiguousCache<float> view(bool with_values = true) {
    std::vector<ContiguousLayer<float>> layers;
    for (std::size_t layer = 0; layer < 2; ++layer) {
      layers.push_back({.keys = keys[layer].data(),
                        .values = with_values ? values[layer].data() : nullptr,
                        .heads = heads,
                        .dimension = dimension,
                        .key_strides = key_strides,
                        .value_strides = value_strides,
                        .capacity = capacity});
    }
    return lethe::ContiguousCache<float>(layers);
  }

  Strides key_strides;
  Strides value_strides;
  std::vector<float> keys[2];
  std::vector<float> values[2];
};

void require_holds(const lethe::ContiguousCache<float>& cache, std::size_t layer, std::size_t head,
                   const std::vector<lethe::Slot>& tokens, bool with_values = true) {
  std::vector<float> found_keys(tokens.size() * dimension);
  std::vector<float> found_values(tokens.size() * dimension);
  cache.read_keys(layer, head, 0, found_keys);
  if (with_values) cache.read_values(layer, head, 0, found_values);
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    for (std::size_t c = 0; c < dimension; ++c) {
      const float expected = key(layer, head, tokens[t], c);
      REQUIRE(found_keys[t * dimension + c] == expected);
      if (with_values) REQUIRE(found_values[t * dimension + c] == -expected);
    }
  }
}

lethe::EvictionPlan plan_of(std::uint32_t layer, const std::vector<lethe::Slot>& kept,
                            std::uint32_t tokens, std::uint32_t head = lethe::all_heads) {
  return {.layer = layer,
          .head = head,
          .tokens = tokens,
          .first_move = lethe::first_move_of(kept),
          .kept = kept};
}

}  // namespace

TEST_CASE("layers are pruned unequally in every layout, transposed values included") {
  for (const Strides& key_layout : layouts) {
    for (const Strides& value_layout : layouts) {
      Memory memory(key_layout, value_layout);
      auto cache = memory.view();
      cache.append(0, 10);
      cache.append(1, 12);
      const std::vector<lethe::Slot> first{0, 2, 3, 9};
      const std::vector<lethe::Slot> second{0, 1, 4, 5, 6, 10, 11};
      const lethe::EvictionPlan plans[] = {plan_of(0, first, 10), plan_of(1, second, 12)};
      cache.apply(plans);
      CHECK(cache.size(0) == 4);
      CHECK(cache.size(1) == 7);
      for (std::size_t head = 0; head < heads; ++head) {
        require_holds(cache, 0, head, first);
        require_holds(cache, 1, head, second);
      }
    }
  }
}

TEST_CASE("random plans in a row leave what a list of tokens says") {
  Samples samples(81);
  for (const Strides& layout : layouts) {
    for (int trace = 0; trace < 30; ++trace) {
      Memory memory(layout, layouts[3]);
      auto cache = memory.view();
      cache.append(0, capacity);
      std::vector<lethe::Slot> tokens = ascending_positions(capacity);
      while (tokens.size() > 1) {
        const auto kept = samples.slots(tokens.size(), 1 + samples.below(tokens.size()));
        const lethe::EvictionPlan plan =
            plan_of(0, kept, static_cast<std::uint32_t>(tokens.size()));
        cache.apply({&plan, 1});
        std::vector<lethe::Slot> after;
        for (const lethe::Slot slot : kept) after.push_back(tokens[slot]);
        if (after.size() == tokens.size()) after.pop_back(), cache.truncate(0, after.size());
        tokens = after;
        for (std::size_t head = 0; head < heads; ++head) require_holds(cache, 0, head, tokens);
      }
    }
  }
}

TEST_CASE("each head may keep tokens of its own") {
  Memory memory(layouts[0], layouts[3]);
  auto cache = memory.view();
  cache.append(0, 6);
  const std::vector<lethe::Slot> kept[] = {{0, 1, 2}, {0, 3, 5}, {1, 2, 4}};
  std::vector<lethe::EvictionPlan> plans;
  for (std::uint32_t head = 0; head < heads; ++head) {
    plans.push_back(plan_of(0, kept[head], 6, head));
  }
  cache.apply(plans);
  CHECK(cache.size(0) == 3);
  for (std::size_t head = 0; head < heads; ++head) require_holds(cache, 0, head, kept[head]);
}

TEST_CASE("a layer without values is pruned and counted without them") {
  Memory memory(layouts[0], layouts[0]);
  auto cache = memory.view(false);
  const std::vector<float> values = memory.values[0];
  CHECK(cache.token_bytes(0) == heads * dimension * sizeof(float));
  cache.append(0, 5);
  const std::vector<lethe::Slot> kept{1, 4};
  const lethe::EvictionPlan plan = plan_of(0, kept, 5);
  cache.apply({&plan, 1});
  for (std::size_t head = 0; head < heads; ++head) require_holds(cache, 0, head, kept, false);
  CHECK(memory.values[0] == values);
}

TEST_CASE("rows below first_move are not written") {
  Memory memory(layouts[0], layouts[0]);
  auto cache = memory.view();
  cache.append(0, 6);
  memory.keys[0][0] = not_a_number;
  const auto bits = std::bit_cast<std::uint32_t>(memory.keys[0][0]);
  const std::vector<lethe::Slot> kept{0, 1, 5};
  const lethe::EvictionPlan plan = plan_of(0, kept, 6);
  cache.apply({&plan, 1});
  CHECK(std::bit_cast<std::uint32_t>(memory.keys[0][0]) == bits);
}

TEST_CASE("rows are read from any slot, and 16-bit ones widened") {
  Memory memory(layouts[1], layouts[1]);
  auto cache = memory.view();
  cache.append(1, 9);
  std::vector<float> out(2 * dimension);
  cache.read_keys(1, 2, 7, out);
  CHECK(out[0] == key(1, 2, 7, 0));
  CHECK(out[dimension + 4] == key(1, 2, 8, 4));

  std::vector<lethe::Half> halves{{0x3C00}, {0xC000}, {0x0001}, {0x3800}};
  lethe::ContiguousCache<lethe::Half> narrow(
      {{.keys = halves.data(), .dimension = 2, .key_strides = {.token = 2}, .capacity = 2}});
  narrow.append(0, 2);
  std::vector<float> wide(4);
  narrow.read_keys(0, 0, 0, wide);
  CHECK(wide == std::vector<float>{1.0f, -2.0f, 0x1p-24f, 0.5f});
  CHECK(narrow.token_bytes(0) == 4);
}

TEST_CASE("layers that cannot be are refused by name") {
  float memory[64] = {};
  const ContiguousLayer<float> good{.keys = memory,
                                    .values = memory,
                                    .heads = 2,
                                    .dimension = 4,
                                    .key_strides = {.token = 8, .head = 4},
                                    .value_strides = {.token = 8, .head = 4},
                                    .capacity = 8};
  const auto refuses = [&](auto change, const char* field) {
    ContiguousLayer<float> layer = good;
    change(layer);
    CHECK_THROWS_AS(lethe::ContiguousCache<float>({layer}), std::invalid_argument);
    CHECK_THROWS_WITH(lethe::ContiguousCache<float>({layer}), Catch::Contains(field));
  };
  CHECK_NOTHROW(lethe::ContiguousCache<float>({good}));
  refuses([](auto& l) { l.keys = nullptr; }, "keys = 0");
  refuses([](auto& l) { l.heads = 0; }, "heads = 0");
  refuses([](auto& l) { l.dimension = 0; }, "dimension = 0");
  refuses([](auto& l) { l.capacity = 0; }, "capacity = 0");
  refuses([](auto& l) { l.key_strides.token = 0; }, "strides.token = 0");
  refuses([](auto& l) { l.key_strides.channel = 0; }, "strides.channel = 0");
  refuses([](auto& l) { l.value_strides.head = 0; }, "strides.head = 0");
  refuses([](auto& l) { l.key_strides.token = 3; }, "strides.token = 3");
}

TEST_CASE("keys and values may differ in width") {
  // Two heads of 3 key and 2 value channels, token by token.
  std::vector<float> keys(8 * 6);
  std::vector<float> values(8 * 4);
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<float>(i / 6);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i / 4);
  lethe::ContiguousCache<float> cache({{.keys = keys.data(),
                                        .values = values.data(),
                                        .heads = 2,
                                        .dimension = 3,
                                        .value_dimension = 2,
                                        .key_strides = {.token = 6, .head = 3},
                                        .value_strides = {.token = 4, .head = 2},
                                        .capacity = 8}});
  CHECK(cache.token_bytes(0) == 2 * (3 + 2) * sizeof(float));
  cache.append(0, 8);
  const std::vector<lethe::Slot> kept{0, 3, 7};
  const lethe::EvictionPlan plan{.tokens = 8, .first_move = 1, .kept = kept};
  cache.apply(std::span(&plan, 1));
  std::vector<float> key_rows(9);
  std::vector<float> value_rows(6);
  cache.read_keys(0, 1, 0, key_rows);
  cache.read_values(0, 1, 0, value_rows);
  CHECK(key_rows == std::vector<float>{0, 0, 0, 3, 3, 3, 7, 7, 7});
  CHECK(value_rows == std::vector<float>{0, 0, 3, 3, 7, 7});
}
