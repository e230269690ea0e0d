// The code shown in README.md and docs/: each region between "// [name]" lines stands there word
// for word (scripts/check_snippets.py), and runs here.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <vector>

#include "catch.hpp"

// [include]
#include <lethe/lethe.hpp>
// [include]

namespace {

// [view]
struct MyCache {
  std::vector<std::vector<float>> keys, values;  // one row of `width` floats a token
  std::size_t width = 64;

  std::size_t layers() const { return keys.size(); }
  std::size_t size(std::size_t layer) const { return keys[layer].size() / width; }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    for (const lethe::EvictionPlan& plan : plans) {
      for (auto* rows : {&keys[plan.layer], &values[plan.layer]}) {
        const std::size_t bytes = width * sizeof(float);
        lethe::compact_bytes(reinterpret_cast<std::byte*>(rows->data()), bytes, bytes, plan);
        rows->resize(plan.kept.size() * width);
      }
    }
  }
};
static_assert(lethe::KVCacheView<MyCache>);
// [view]

// [read_keys]
struct MyReadableCache : MyCache {
  // out.size() / width keys from `slot` on, as attention sees them: rotated, dequantised.
  void read_keys(std::size_t layer, std::size_t head, std::size_t slot,
                 std::span<float> out) const {
    static_cast<void>(head);  // this cache has one KV head
    std::copy_n(keys[layer].data() + slot * width, out.size(), out.data());
  }
};
// [read_keys]

// [rerotation]
struct SlotPositionedCache : MyReadableCache {
  lethe::Rerotation rerotation;

  void write_keys(std::size_t layer, std::size_t head, std::size_t slot,
                  std::span<const float> rows) {
    static_cast<void>(head);
    std::copy(rows.begin(), rows.end(),
              keys[layer].begin() + static_cast<std::ptrdiff_t>(slot * width));
  }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    MyReadableCache::apply(plans);
    rerotation.apply(*this, plans);
  }
};
// [rerotation]

// [merging]
struct MergingCache : MyReadableCache {
  lethe::KeyMerge key_merge;

  void read_values(std::size_t layer, std::size_t head, std::size_t slot,
                   std::span<float> out) const {
    static_cast<void>(head);
    std::copy_n(values[layer].data() + slot * width, out.size(), out.data());
  }
  void write_values(std::size_t layer, std::size_t head, std::size_t slot,
                    std::span<const float> rows) {
    static_cast<void>(head);
    std::copy(rows.begin(), rows.end(),
              values[layer].begin() + static_cast<std::ptrdiff_t>(slot * width));
  }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    for (const lethe::EvictionPlan& plan : plans) key_merge.merge(*this, plan);
    MyReadableCache::apply(plans);
  }
};
// [merging]

struct Decoder {
  MyCache cache{std::vector<std::vector<float>>(2), std::vector<std::vector<float>>(2)};
  std::vector<float> probability;

  void append(std::size_t layer, std::size_t tokens = 1) {
    cache.keys[layer].resize(cache.keys[layer].size() + tokens * cache.width, 1.0f);
    cache.values[layer].resize(cache.values[layer].size() + tokens * cache.width, 1.0f);
  }
  const float* attend(std::size_t layer, std::size_t heads, std::size_t queries = 1) {
    const std::size_t n = cache.size(layer);
    probability.assign(heads * queries * n, 1.0f / static_cast<float>(n));
    return probability.data();
  }
};

}  // namespace

TEST_CASE("the loop in the README") {
  Decoder decoder;
  MyCache& cache = decoder.cache;
  const std::size_t layers = 2, heads = 9, tokens = 1000;
  // [loop]
  lethe::policies::Lethe pruner{{.layers = layers, .capacity = 512}};

  for (std::size_t token = 0; token < tokens; ++token) {
    pruner.make_room(cache, 1);  // may prune; then one more token fits in every layer
    for (std::size_t layer = 0; layer < layers; ++layer) {
      decoder.append(layer);                          // your code: keys and values
      const float* p = decoder.attend(layer, heads);  // your code: softmax(q k), [heads][n]
      pruner.observe(layer, {.data = p, .heads = heads, .columns = cache.size(layer)});
    }
    pruner.commit();  // the step counts: scores decay once
  }
  // [loop]
  CHECK(cache.size(0) <= pruner.bound(0));
  CHECK(cache.size(0) < tokens);
  CHECK(pruner.tokens_seen() == tokens);
}

TEST_CASE("pinning, tracing, saving") {
  Decoder decoder;
  MyCache& cache = decoder.cache;
  const std::size_t prompt = 40;
  lethe::policies::H2O pruner{{.layers = 2, .capacity = 128}, {.budget = 96}};
  // [pin]
  pruner.pin(prompt);  // positions 0 to prompt - 1 stay, whatever their score
  // [pin]
  std::size_t rounds = 0;
  for (std::size_t token = 0; token < 300; ++token) {
    // [trace]
    pruner.make_room(cache, 1, [&](const lethe::RoundStatistics& round) {
      std::printf("layer %zu: %zu -> %zu tokens, %.1f%% of its attention lost\n", round.layer,
                  round.tokens_before, round.tokens_after, 100 * round.lost_mass);
      ++rounds;
    });
    // [trace]
    for (std::size_t layer = 0; layer < 2; ++layer) {
      decoder.append(layer);
      pruner.observe(layer,
                     {.data = decoder.attend(layer, 4), .heads = 4, .columns = cache.size(layer)});
    }
    pruner.commit();
  }
  CHECK(rounds > 0);
  CHECK(pruner.positions(1)[prompt - 1] == prompt - 1);
  // [save]
  const std::vector<std::byte> state = pruner.save();
  lethe::policies::H2O resumed{{.layers = 2, .capacity = 128}, {.budget = 96}};
  resumed.restore(state);              // refused by name when it is damaged or another score's
  lethe::policies::H2O fork = pruner;  // a copy is a fork: parallel sampling
  // [save]
  CHECK(resumed.tokens_seen() == 300);
  CHECK(fork.size(1) == cache.size(1));
}

TEST_CASE("speculation") {
  Decoder decoder;
  MyCache& cache = decoder.cache;
  const std::size_t layers = 2, heads = 4;
  // [speculation]
  lethe::policies::Lethe pruner{{.layers = layers, .capacity = 512, .draft_tokens = 8}};
  const std::size_t base = cache.size(0);
  pruner.make_room(cache, 8);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    decoder.append(layer, 8);
    const float* p = decoder.attend(layer, heads, 8);  // [heads][8][n]
    pruner.observe(layer, {.data = p, .heads = heads, .queries = 8, .columns = cache.size(layer)});
  }
  const std::uint32_t accepted[] = {0, 1, 2};
  for (std::size_t layer = 0; layer < layers; ++layer) {
    cache.keys[layer].resize((base + 3) * cache.width);  // your code: drop what was rejected
    cache.values[layer].resize((base + 3) * cache.width);
  }
  pruner.commit(accepted);  // the rest leave no trace
  // [speculation]
  CHECK(pruner.size(0) == 3);
  pruner.make_room(cache, 1);
}

TEST_CASE("logits, ready mass and half floats") {
  Decoder decoder;
  MyCache& cache = decoder.cache;
  const std::size_t layer = 0, heads = 4;
  lethe::policies::H2O pruner{{.layers = 2, .capacity = 512}};
  pruner.make_room(cache, 1);
  for (std::size_t any = 0; any < 2; ++any) decoder.append(any);
  const std::vector<float> logits(heads, 2.0f), lse(heads, 0.25f), mass{4.0f};
  const std::vector<lethe::BFloat16> p(heads, {.bits = 0x3F80});  // one
  const std::size_t n = cache.size(layer);
  // [observations]
  // Logits: exp(logit x scale - lse); without lse it is recomputed from the row.
  pruner.observe(
      layer,
      lethe::Logits<float>{
          .data = logits.data(), .lse = lse.data(), .heads = heads, .columns = n, .scale = 0.125f});
  // Mass: your kernel has summed over the heads.
  pruner.observe(layer, lethe::Mass<float>{.data = mass.data(), .columns = n});
  // Half floats: lethe::Half or lethe::BFloat16 over the same two bytes.
  pruner.observe(
      layer, lethe::Probabilities<lethe::BFloat16>{.data = p.data(), .heads = heads, .columns = n});
  // [observations]
  pruner.commit();
  CHECK_THAT(pruner.scores(layer)[0], WithinRel(4.0f + 4.0f + 4.0f, 1e-5f));
}

TEST_CASE("deferred queries") {
  MyReadableCache cache;
  cache.keys.resize(1);
  cache.values.resize(1);
  const std::vector<float> q(4 * 64, 0.0f), lse(4, 0.0f);
  // [deferred]
  lethe::policies::H2O pruner{
      {.layers = 1,
       .capacity = 512,
       .deferred = {.queries = 16, .heads = 4, .kv_heads = 1, .head_dimension = 64}}};

  pruner.make_room(cache, 1);  // scores what waits when 16 queries do, or a round is due
  cache.keys[0].resize(cache.keys[0].size() + cache.width);
  cache.values[0].resize(cache.values[0].size() + cache.width);
  pruner.observe(0, lethe::Queries<float>{
                        .data = q.data(), .lse = lse.data(), .heads = 4, .head_dimension = 64});
  pruner.commit();
  // [deferred]
  pruner.flush(cache);
  CHECK_THAT(pruner.scores(0)[0], WithinRel(4.0f, 1e-5f));  // four heads, one token each
}

TEST_CASE("keys follow their slots in an engine that takes positions from them") {
  SlotPositionedCache cache{
      {}, lethe::Rerotation({.kv_heads = 1, .head_dimension = 64, .frequencies = {0.5f}})};
  cache.keys.resize(1);
  cache.values.resize(1);
  lethe::policies::StreamingLLM pruner({.layers = 1, .capacity = 32});
  std::size_t dropped = 0;
  for (std::size_t token = 0; token < 64; ++token) {
    dropped += pruner.make_room(cache, 1);
    const float angle = 0.5f * static_cast<float>(cache.size(0));
    cache.values[0].resize(cache.values[0].size() + cache.width);
    cache.keys[0].resize(cache.keys[0].size() + cache.width);
    float* key = cache.keys[0].data() + cache.keys[0].size() - cache.width;
    key[0] = std::cos(angle);
    key[1] = std::sin(angle);
    pruner.commit();
  }
  CHECK(dropped > 0);
  for (std::size_t slot = 0; slot < cache.size(0); ++slot) {
    CHECK_THAT(cache.keys[0][slot * cache.width],
               WithinAbs(std::cos(0.5 * static_cast<double>(slot)), 1e-5));
  }
}

TEST_CASE("values of tokens that go are merged before the cache packs its rows") {
  MergingCache cache{
      {}, lethe::KeyMerge({.keys = {.kv_heads = 1, .head_dimension = 64, .frequencies = {}}}, 32)};
  cache.keys.resize(1);
  cache.values.resize(1);
  lethe::policies::StreamingLLM pruner({.layers = 1, .capacity = 32});
  for (std::size_t token = 0; token < 33; ++token) {
    pruner.make_room(cache, 1);
    cache.keys[0].resize(cache.keys[0].size() + cache.width, token < 10 ? 1.0f : -1.0f);
    cache.values[0].resize(cache.values[0].size() + cache.width, token < 4 ? 0.0f : 1.0f);
    pruner.commit();
  }
  // The first token's key is that of those that went: it has their values too.
  REQUIRE(cache.size(0) == 29);
  CHECK_THAT(cache.values[0][0], WithinRel(0.8f, 1e-5f));
  CHECK(cache.values[0][cache.width] == 0.0f);
}

TEST_CASE("a policy that reads keys is told how they lie") {
  constexpr std::size_t layers = 2;
  constexpr std::size_t kv_heads = 1;
  constexpr std::size_t head_dimension = 64;
  const std::vector<float> frequencies(head_dimension / 2, 0.1f);
  MyReadableCache cache;
  cache.keys.resize(layers);
  cache.values.resize(layers);
  // [supersession]
  lethe::policies::Supersession pruner(
      {.layers = layers, .capacity = 512},
      {.keys = {
           .kv_heads = kv_heads, .head_dimension = head_dimension, .frequencies = frequencies}});
  // [supersession]
  std::size_t dropped = 0;
  for (std::size_t token = 0; token < 600; ++token) {
    dropped += pruner.make_room(cache, 1);
    for (std::size_t layer = 0; layer < layers; ++layer) {
      cache.keys[layer].resize(cache.keys[layer].size() + cache.width, 1.0f);
      cache.values[layer].resize(cache.values[layer].size() + cache.width, 1.0f);
      const std::vector<float> mass(cache.size(layer), 0.5f);
      pruner.observe(layer, lethe::Mass<float>{.data = mass.data(), .columns = mass.size()});
    }
    pruner.commit();
  }
  CHECK(dropped > 0);
  CHECK(cache.size(0) <= 512);
}
