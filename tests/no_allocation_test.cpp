// Once constructed, or copied, a pruner allocates nothing: neither between rounds nor in them.
#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "allocation_count.hpp"
#include "catch.hpp"
#include "lethe/lethe.hpp"
#include "lethe/policies/attention.hpp"
#include "lethe/policies/heads.hpp"
#include "lethe/policies/queries.hpp"
#include "lethe/policies/values.hpp"
#include "naive/random.hpp"

namespace {

constexpr std::size_t layers = 3;
constexpr std::size_t heads = 4;
constexpr std::size_t capacity = 96;
constexpr std::size_t dimension = 8;

/// Counts alone; nothing here allocates.
struct CountingCache {
  std::array<std::size_t, ::layers> sizes{};
  std::size_t rounds = 0;

  [[nodiscard]] std::size_t layers() const { return ::layers; }
  [[nodiscard]] std::size_t size(std::size_t layer) const { return sizes[layer]; }
  [[nodiscard]] std::size_t token_bytes(std::size_t) const { return 64; }
  [[nodiscard]] std::size_t heads(std::size_t) const { return ::heads; }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    ++rounds;
    for (const auto& plan : plans) sizes[plan.layer] = plan.kept.size();
  }
  void read_keys(std::size_t layer, std::size_t head, std::size_t first,
                 std::span<float> out) const {
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = static_cast<float>((layer + head + first * 7 + i) % 11) * 0.1f;
    }
  }
};

/// One whose values are read as its keys are.
struct ValuedCache : CountingCache {
  void read_values(std::size_t layer, std::size_t head, std::size_t first,
                   std::span<float> out) const {
    read_keys(layer, head, first, out);
  }
};

/// Counts of each head.
struct UnequalCache {
  std::array<std::array<std::size_t, ::heads>, ::layers> sizes{};
  std::size_t rounds = 0;

  [[nodiscard]] std::size_t layers() const { return ::layers; }
  [[nodiscard]] std::size_t heads(std::size_t) const { return ::heads; }
  [[nodiscard]] std::size_t size(std::size_t layer, std::size_t head) const {
    return sizes[layer][head];
  }
  [[nodiscard]] std::size_t size(std::size_t layer) const {
    return *std::max_element(sizes[layer].begin(), sizes[layer].end());
  }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    ++rounds;
    for (const auto& plan : plans) sizes[plan.layer][plan.head] = plan.kept.size();
  }
  void read_values(std::size_t layer, std::size_t head, std::size_t first,
                   std::span<float> out) const {
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = static_cast<float>((layer + head + first * 7 + i) % 11) * 0.1f;
  }
};

/// One full layer hands its worst slot on.
struct OverwritingCache : CountingCache {
  void overwrite(std::size_t layer, lethe::Slot) {
    ++rounds;
    --sizes[layer];
    pending[layer] = true;
  }
  [[nodiscard]] std::size_t size(std::size_t layer) const {
    return sizes[layer] + (pending[layer] ? 1u : 0u);
  }
  std::array<bool, ::layers> pending{};
};

enum class Kind { probabilities, logits, logits_alone, mass, half, queries };

std::vector<float> values(std::size_t count) {
  naive::Random random(count);
  std::vector<float> result(count);
  for (float& value : result) value = random.unit();
  return result;
}

const std::vector<float>& rows() {
  static const std::vector<float> result = values(heads * 4 * capacity);
  return result;
}

const std::vector<float>& lses() {
  static const std::vector<float> result(heads * 4, 5.0f);
  return result;
}

const std::vector<lethe::Half>& half_rows() {
  static const std::vector<lethe::Half> result(heads * 4 * capacity, lethe::Half{0x2E66});
  return result;
}

template <class Pruner>
void observe(Pruner& pruner, Kind kind, std::size_t layer, std::size_t queries, std::size_t n) {
  const float* data = rows().data();
  switch (kind) {
    case Kind::probabilities:
      return pruner.observe(layer,
                            {.data = data, .heads = heads, .queries = queries, .columns = n});
    case Kind::logits:
      return pruner.observe(layer, lethe::Logits<float>{.data = data,
                                                        .lse = lses().data(),
                                                        .heads = heads,
                                                        .queries = queries,
                                                        .columns = n,
                                                        .softcap = 30.0f});
    case Kind::logits_alone:
      return pruner.observe(
          layer,
          lethe::Logits<float>{.data = data, .heads = heads, .queries = queries, .columns = n});
    case Kind::mass:
      return pruner.observe(
          layer,
          lethe::Mass<float>{
              .data = data, .groups = pruner.config().groups, .queries = queries, .columns = n});
    case Kind::half:
      return pruner.observe(
          layer, lethe::Probabilities<lethe::Half>{
                     .data = half_rows().data(), .heads = heads, .queries = queries, .columns = n});
    case Kind::queries:
      return pruner.observe(layer, lethe::Queries<float>{.data = data,
                                                         .lse = lses().data(),
                                                         .heads = heads,
                                                         .queries = queries,
                                                         .head_dimension = dimension});
  }
}

/// Steps of one to four tokens, some of them partly rejected; returns the rounds.
template <class Pruner, class Cache>
std::size_t decode(Pruner& pruner, Cache& cache, Kind kind, std::size_t steps) {
  const std::array<std::uint32_t, 2> accepted{0, 2};
  const auto trace = [](const lethe::RoundStatistics&) {};
  const std::size_t before = cache.rounds;
  for (std::size_t step = 0; step < steps; ++step) {
    const std::size_t tokens = step % 3 == 0 ? 4 : 1;
    pruner.make_room(cache, tokens, trace);
    for (std::size_t l = 0; l < layers; ++l) {
      observe(pruner, kind, l, tokens, pruner.size(l) + tokens);
    }
    const bool part = tokens == 4 && step % 2 == 0;
    if (part) pruner.commit(accepted);
    if (!part) pruner.commit();
    for (std::size_t l = 0; l < layers; ++l) cache.sizes[l] += part ? accepted.size() : tokens;
    if constexpr (requires { cache.pending; }) cache.pending.fill(false);
  }
  return cache.rounds - before;
}

lethe::PrunerConfig config_for(Kind kind, lethe::Scope scope) {
  lethe::PrunerConfig config{.layers = layers,
                             .capacity = capacity,
                             .groups = heads,
                             .scope = scope,
                             .round_interval = 8,
                             .max_lost_mass = 0.2f,
                             .draft_tokens = 4};
  if (kind == Kind::queries) {
    config.deferred = {
        .queries = 16, .heads = heads, .kv_heads = heads, .head_dimension = dimension};
  }
  return config;
}

/// Construction and copies may allocate; nothing that follows them may.
template <class Policy, class Cache = CountingCache, class... Settings>
void expect_none(const lethe::PrunerConfig& config, Kind kind, const Settings&... settings) {
  Policy pruner{config, settings...};
  Cache cache;
  rows();
  half_rows();
  lses();
  Policy fork = pruner;
  Cache fork_cache = cache;
  const std::size_t before = allocations;
  const std::size_t rounds = decode(pruner, cache, kind, 150);
  const std::size_t fork_rounds = decode(fork, fork_cache, kind, 150);
  pruner.reset();
  const std::size_t after = allocations;
  CAPTURE(static_cast<int>(kind), static_cast<int>(config.scope));
  CHECK(after == before);
  CHECK(rounds > 0);
  CHECK(fork_rounds == rounds);
}

/// Steps of one token, each head's count its own.
template <class Pruner>
void expect_none_unequal(Pruner pruner) {
  UnequalCache cache;
  const std::vector<float> mass = values(heads * heads * capacity);
  const std::size_t before = allocations;
  for (std::size_t step = 0; step < 300; ++step) {
    pruner.make_room(cache, 1);
    for (std::size_t layer = 0; layer < layers; ++layer) {
      pruner.observe(layer,
                     lethe::Mass<float>{
                         .data = mass.data(), .groups = heads, .columns = cache.size(layer) + 1});
      for (std::size_t& size : cache.sizes[layer]) ++size;
    }
    pruner.commit();
  }
  const std::size_t after = allocations;
  CHECK(after == before);
  CHECK(cache.rounds > 10);
}

}  // namespace

TEST_CASE("The counter counts") {
  const std::size_t before = allocations;
  std::vector<int> some(10);
  const std::size_t after = allocations;
  CHECK(after == before + 1);
  CHECK(some.size() == 10);
}

TEMPLATE_TEST_CASE("No policy allocates, whatever it is told of attention", "",
                   lethe::policies::Lethe, lethe::policies::H2O, lethe::policies::TOVA,
                   lethe::policies::SnapKV, lethe::policies::StreamingLLM,
                   lethe::policies::RandomAttention, lethe::policies::GKV,
                   lethe::policies::MassPerAge) {
  for (const Kind kind : {Kind::probabilities, Kind::logits, Kind::logits_alone, Kind::mass,
                          Kind::half, Kind::queries}) {
    expect_none<TestType>(config_for(kind, lethe::Scope::layer), kind);
  }
}

TEMPLATE_TEST_CASE("No scope and no cap makes a policy allocate", "", lethe::policies::Lethe,
                   lethe::policies::SnapKV, lethe::policies::RandomAttention) {
  expect_none<TestType>(config_for(Kind::mass, lethe::Scope::head), Kind::mass);
  expect_none<TestType>(config_for(Kind::mass, lethe::Scope::sequence), Kind::mass);
  lethe::PrunerConfig capped = config_for(Kind::mass, lethe::Scope::layer);
  capped.total_capacity = layers * capacity / 2;
  capped.total_bytes = layers * capacity * 40;
  expect_none<TestType>(capped, Kind::mass);
  lethe::PrunerConfig spread = config_for(Kind::mass, lethe::Scope::layer);
  spread.max_move_bytes = 4000;
  expect_none<TestType>(spread, Kind::mass);
}

TEST_CASE("Scores of whole queries, budgets by score and shared totals allocate nothing") {
  for (const Kind kind : {Kind::mass, Kind::queries}) {
    const lethe::PrunerConfig config = config_for(kind, lethe::Scope::layer);
    expect_none<lethe::policies::Scissorhands>(config, kind);
    expect_none<lethe::policies::Keyformer>(config, kind);
    expect_none<lethe::policies::DMS>(config, kind, lethe::DMSConfig{.window = 20});
    expect_none<lethe::policies::CAKE>(
        config, kind, lethe::CAKEConfig{.heads = heads, .total = layers * capacity / 2});
  }
}

TEST_CASE("Weighing values by the output allocates nothing") {
  const std::vector<float> matrix = values(dimension * heads * dimension);
  const lethe::OutputProjection output{
      .query_heads = heads, .width = dimension, .layers = {matrix, matrix, matrix}};
  expect_none<lethe::policies::CriticalKV, ValuedCache>(
      config_for(Kind::mass, lethe::Scope::head), Kind::mass,
      lethe::CriticalKVConfig{.heads = {.kv_heads = heads, .key_dimension = dimension},
                              .output = output});
}

TEST_CASE("Learning from queries allocates nothing, drafts included") {
  const lethe::PrunerConfig config = config_for(Kind::mass, lethe::Scope::head);
  const lethe::HeadShape shape{.kv_heads = heads, .key_dimension = dimension};
  const lethe::QueryHeads queries{.heads = heads, .frequencies = {1.0f, 0.01f}};
  namespace policies = lethe::policies;
  expect_none<policies::ExpectedAttention, ValuedCache>(
      config, Kind::queries, lethe::ExpectedAttentionConfig{.heads = shape, .queries = queries});
  expect_none<policies::TriAttention, ValuedCache>(
      config, Kind::queries, lethe::TriAttentionConfig{.heads = shape, .queries = queries});
  expect_none<policies::CapKV, ValuedCache>(config, Kind::queries,
                                            lethe::CapKVConfig{.heads = shape, .queries = queries});
  expect_none<policies::GrowPage, ValuedCache>(
      config, Kind::queries, lethe::GrowPageConfig{.heads = shape, .queries = queries});
}

TEST_CASE("Heads of unequal counts allocate nothing") {
  lethe::PrunerConfig config = config_for(Kind::mass, lethe::Scope::head);
  config.max_lost_mass = 1.0f;
  config.draft_tokens = 0;
  expect_none_unequal(lethe::policies::AdaKV(config, {.window = 8}));
  const lethe::HeadShape shape{.kv_heads = heads, .key_dimension = dimension};
  expect_none_unequal(lethe::policies::LAVaByHead(
      config, {.heads = shape, .total = layers * capacity / 2, .window = 8}));
}

TEST_CASE("Overwriting a slot allocates nothing") {
  expect_none<lethe::policies::H2O, OverwritingCache>(config_for(Kind::mass, lethe::Scope::layer),
                                                      Kind::mass);
}
