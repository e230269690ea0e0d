#include "kv_cache.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "expect_error.hpp"

namespace {

using namespace decoder;

ModelConfig small_model() {
  ModelConfig config;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 40;
  return config;
}

float mark(std::size_t layer, std::size_t head, std::size_t token) {
  return static_cast<float>(layer * 4000 + head * 2000 + token);
}

void fill(KVCache& cache, std::size_t tokens) {
  for (std::size_t layer = 0; layer < cache.layers(); ++layer) {
    const std::size_t first = cache.extend(layer, tokens);
    for (std::size_t token = first; token < first + tokens; ++token) {
      for (std::size_t head = 0; head < cache.heads(); ++head) {
        const std::vector<float> key(cache.channels(), mark(layer, head, token));
        const std::vector<float> value(cache.channels(), -mark(layer, head, token));
        cache.store(layer, head, token, key.data(), value.data());
      }
    }
  }
}

// The token that a slot holds, by its key and its value.
std::pair<float, float> read(const KVCache& cache, std::size_t layer, std::size_t head,
                             std::size_t slot) {
  float key = 0, value = 0;
  std::memcpy(&key, cache.keys(layer, head) + slot * cache.row_bytes(), sizeof key);
  std::memcpy(&value, cache.values(layer, head) + slot * cache.row_bytes(), sizeof value);
  return {key, value};
}

void check_held(const KVCache& cache, std::size_t layer, std::size_t head,
                const std::vector<lethe::Slot>& tokens) {
  REQUIRE(cache.size(layer, head) == tokens.size());
  for (std::size_t slot = 0; slot < tokens.size(); ++slot) {
    const float expected = mark(layer, head, tokens[slot]);
    CHECK(read(cache, layer, head, slot) == std::pair(expected, -expected));
  }
}

std::vector<lethe::Slot> every(std::size_t step, std::size_t begin, std::size_t end) {
  std::vector<lethe::Slot> slots;
  for (std::size_t i = begin; i < end; i += step) slots.push_back(static_cast<lethe::Slot>(i));
  return slots;
}

lethe::EvictionPlan plan_of(std::uint32_t layer, std::uint32_t head, std::uint32_t tokens,
                            const std::vector<lethe::Slot>& kept) {
  std::uint32_t first_move = 0;
  while (first_move < kept.size() && kept[first_move] == first_move) ++first_move;
  return {.layer = layer, .head = head, .tokens = tokens, .first_move = first_move, .kept = kept};
}

// Pages of the cache's address space that hold memory, as the system counts them.
std::size_t system_resident_bytes(const KVCache& cache, std::size_t strips, std::size_t strip) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> pages(strips * strip / page);
  auto* memory = const_cast<std::byte*>(cache.keys(0, 0));
  REQUIRE(mincore(memory, strips * strip, pages.data()) == 0);
  return page * static_cast<std::size_t>(
                    std::count_if(pages.begin(), pages.end(), [](auto p) { return p & 1; }));
}

TEST_CASE("a plan packs each layer's survivors to the left") {
  KVCache cache(small_model(), CacheType::f32, 1000);
  fill(cache, 1000);
  std::vector<lethe::Slot> kept = every(1, 0, 7);
  for (const lethe::Slot slot : every(3, 10, 1000)) kept.push_back(slot);
  const lethe::EvictionPlan plan = plan_of(1, lethe::all_heads, 1000, kept);
  cache.apply({&plan, 1});
  check_held(cache, 0, 1, every(1, 0, 1000));
  check_held(cache, 1, 0, kept);
  check_held(cache, 1, 1, kept);
}

TEST_CASE("each head may keep its own tokens") {
  KVCache cache(small_model(), CacheType::f32, 100);
  fill(cache, 100);
  const std::vector<lethe::Slot> even = every(2, 0, 100), odd = every(2, 1, 100);
  const lethe::EvictionPlan plans[] = {plan_of(0, 0, 100, even), plan_of(0, 1, 100, odd)};
  cache.apply(plans);
  check_held(cache, 0, 0, even);
  check_held(cache, 0, 1, odd);
}

TEST_CASE("heads may keep unequal counts, and each takes new tokens behind its own") {
  const ModelConfig config = small_model();
  KVCache cache(config, CacheType::f32, 101);
  fill(cache, 100);
  const std::vector<lethe::Slot> few = every(20, 0, 100), most = every(1, 10, 100);
  const lethe::EvictionPlan plans[] = {plan_of(0, 0, 100, few), plan_of(0, 1, 100, most)};
  cache.apply(plans);
  CHECK(cache.size(0) == 90);
  CHECK(cache.mean_size(0) == 48);
  CHECK(cache.mean_size(1) == 100);
  const std::size_t row = config.kv_heads * config.head_dim;
  const std::vector<float> keys(row, 7.0f), values(row, 8.0f);
  cache.append(0, 1, keys.data(), values.data());
  CHECK(cache.size(0, 0) == 6);
  CHECK(cache.size(0, 1) == 91);
  CHECK(read(cache, 0, 0, 5) == std::pair(7.0f, 8.0f));
  CHECK(read(cache, 0, 1, 90) == std::pair(7.0f, 8.0f));
  const KVCache other = cache.copy();
  CHECK(other.size(0, 0) == 6);
  CHECK(read(other, 0, 1, 90) == std::pair(7.0f, 8.0f));
  CHECK(read(other, 0, 1, 0) == read(cache, 0, 1, 0));
  CHECK_THROWS_AS(cache.extend(0, 11), Error);
  CHECK(cache.extend(0, 10) == 6);
}

TEST_CASE("memory is taken as tokens come and returned as they go") {
  const ModelConfig config = small_model();
  KVCache cache(config, CacheType::f32, 1000);
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t strip = (1000 * cache.row_bytes() + page - 1) / page * page;
  const auto resident = [&] { return system_resident_bytes(cache, 8, strip); };
  CHECK(resident() == 0);
  fill(cache, 1000);
  CHECK(2 * 1000 * cache.token_bytes(0) == 2 * 2 * 2 * 1000 * 64 * 4);
  CHECK(resident() == cache.resident_bytes());
  const std::vector<lethe::Slot> kept = every(10, 0, 1000);
  const lethe::EvictionPlan plan = plan_of(0, lethe::all_heads, 1000, kept);
  const std::size_t before = cache.resident_bytes();
  cache.apply({&plan, 1});
  CHECK(cache.resident_bytes() < before);
  CHECK(resident() == cache.resident_bytes());
  cache.clear();
  CHECK(cache.resident_bytes() == 0);
  CHECK(resident() == 0);
}

TEST_CASE("a cache type's rows have the size it says") {
  const ModelConfig config = small_model();
  CHECK(KVCache(config, CacheType::f32, 1).token_bytes() == 2 * 2 * 64 * 4);
  CHECK(KVCache(config, CacheType::f16, 1).token_bytes() == 2 * 2 * 64 * 2);
  CHECK(KVCache(config, CacheType::q8_0, 1).token_bytes() == 2 * 2 * (64 + 2 * 2));
  CHECK(parse_cache_type("q8_0") == CacheType::q8_0);
  CHECK(name(CacheType::f16) == "f16");
  CHECK_THROWS_AS(parse_cache_type("q3"), Error);
}

TEST_CASE("a cache that cannot be had, or is full, says so") {
  const ModelConfig config = small_model();
  CHECK_THROWS_AS(KVCache(config, CacheType::f32, 0), Error);
  CHECK_THROWS_AS(KVCache(config, CacheType::f32, std::numeric_limits<std::size_t>::max()), Error);
  CHECK_THROWS_AS(KVCache(config, CacheType::f32, std::size_t{1} << 45), Error);
  KVCache cache(config, CacheType::f16, 10);
  CHECK(cache.extend(0, 10) == 0);
  CHECK_THROWS_AS(cache.extend(0, 1), Error);
  CHECK(cache.size(0) == 10);
}

TEST_CASE("a copied cache has tokens of its own, and room for as many more") {
  KVCache cache(small_model(), CacheType::f32, 40);
  fill(cache, 20);
  KVCache other = cache.copy();
  CHECK(other.resident_bytes() == cache.resident_bytes());
  fill(other, 20);
  cache.clear();
  fill(cache, 3);
  check_held(other, 0, 1, every(1, 0, 40));
  check_held(other, 1, 0, every(1, 0, 40));
  check_held(cache, 1, 1, every(1, 0, 3));
}

TEST_CASE("a moved cache keeps its tokens") {
  KVCache cache(small_model(), CacheType::f32, 20);
  fill(cache, 20);
  KVCache other = std::move(cache);
  cache = KVCache(small_model(), CacheType::f32, 5);
  check_held(other, 1, 1, every(1, 0, 20));
  cache = std::move(other);
  check_held(cache, 1, 1, every(1, 0, 20));
}

}  // namespace

TEST_CASE("keys and values can be read back in every storage type") {
  for (const CacheType type : {CacheType::f32, CacheType::f16, CacheType::q8_0}) {
    KVCache cache(small_model(), type, 64);
    cache.extend(1, 3);
    const std::size_t channels = cache.channels();
    for (std::size_t slot = 0; slot < 3; ++slot) {
      std::vector<float> key(channels, 0.0f);
      std::vector<float> value(channels, 0.0f);
      for (std::size_t c = 0; c < 40; ++c) {
        key[c] = static_cast<float>(c + 40 * slot) * 0.01f;
        value[c] = -2.0f * key[c];
      }
      cache.store(1, 1, slot, key.data(), value.data());
    }
    std::vector<float> keys(80);
    std::vector<float> values(80);
    cache.read_keys(1, 1, 1, keys);
    cache.read_values(1, 1, 1, values);
    for (std::size_t i = 0; i < 80; ++i) {
      const float expected = static_cast<float>(i + 40) * 0.01f;
      CHECK(std::abs(keys[i] - expected) < 0.005f);
      CHECK(std::abs(values[i] + 2 * expected) < 0.01f);
    }
  }
}

TEST_CASE("appended keys and values are read back as they came, token by token and head by head") {
  KVCache cache(small_model(), CacheType::f32, 8);
  std::vector<float> keys(5 * 2 * 40), values(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    keys[i] = static_cast<float>(i + 1);
    values[i] = -keys[i];
  }
  cache.append(1, 2, keys.data(), values.data());
  cache.append(1, 3, &keys[2 * 2 * 40], &values[2 * 2 * 40]);
  REQUIRE(cache.size(0) == 0);
  REQUIRE(cache.size(1) == 5);
  std::vector<float> key(40), value(40);
  for (std::size_t row = 0; row < 5 * 2; ++row) {
    cache.read_keys(1, row % 2, row / 2, key);
    cache.read_values(1, row % 2, row / 2, value);
    CHECK(std::equal(key.begin(), key.end(), &keys[row * 40]));
    CHECK(std::equal(value.begin(), value.end(), &values[row * 40]));
    const auto* stored = reinterpret_cast<const float*>(cache.keys(1, row % 2)) + row / 2 * 64;
    CHECK(std::all_of(stored + 40, stored + 64, [](float padding) { return padding == 0; }));
  }
  CHECK_THROWS_AS(cache.append(1, 4, keys.data(), values.data()), Error);
}
