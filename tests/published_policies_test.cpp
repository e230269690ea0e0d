// The policies of lethe/policies/: what each protects and keeps, that its score decides the rest,
// and that its state is whole. The scores have tests of their own.
#include <algorithm>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "lethe/policies/attention.hpp"
#include "lethe/policies/heads.hpp"
#include "lethe/policies/keys.hpp"
#include "lethe/policies/queries.hpp"
#include "lethe/policies/values.hpp"
#include "row_cache.hpp"

namespace {

namespace policies = lethe::policies;
using lethe::Position;
using Positions = std::vector<Position>;

constexpr std::size_t layers = 2, heads = 2, channels = 8, capacity = 96;
const lethe::HeadShape shape{.kv_heads = heads, .key_dimension = channels};
const lethe::KeyShape keys{.kv_heads = heads, .head_dimension = channels, .frequencies = {}};
constexpr std::size_t query_heads = 2 * heads;
const lethe::QueryHeads queries{.heads = query_heads, .frequencies = {1.0f, 0.1f, 0.01f, 0.001f}};

/// What a round at the bound must leave.
struct Rule {
  std::size_t first_tokens = 0;
  std::size_t recent_tokens = 0;
  /// Tokens of a layer after a round: at least and at most.
  std::size_t least = 84;
  std::size_t most = 84;
};

lethe::PrunerConfig config_of(lethe::Scope scope) {
  return {.layers = layers, .capacity = capacity, .groups = heads, .scope = scope};
}

/// A pruner and its cache, fed with the same rows and mass for the same seed.
template <class Policy>
struct Run {
  explicit Run(const Policy& policy) : pruner(policy) {}

  std::size_t make_room() { return pruner.make_room(cache, 1); }

  void append() {
    append_token(cache, samples, static_cast<Position>(pruner.tokens_seen()), channels, channels);
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const std::size_t tokens = cache.size(layer);
      const std::vector<float> mass = samples.mass(heads * tokens);
      pruner.observe(layer,
                     lethe::Mass<float>{.data = mass.data(), .groups = heads, .columns = tokens});
      if constexpr (Policy::reads_queries) observe_queries(layer);
    }
    pruner.commit();
  }

  void observe_queries(std::size_t layer) {
    const std::vector<float> query = samples.row(query_heads * channels, -1.0f, 2.0f);
    pruner.observe(layer,
                   lethe::Queries<float>{
                       .data = query.data(), .heads = query_heads, .head_dimension = channels});
  }

  Policy pruner;
  UnequalRowCache cache{layers, heads};
  Samples samples{71};
};

bool holds(const Positions& kept, Position position) {
  return std::find(kept.begin(), kept.end(), position) != kept.end();
}

/// Whether tokens stayed by their score, and not by age alone.
bool is_choosy(const Positions& before, const Positions& kept, const Rule& rule) {
  const std::size_t dropped = before.size() - kept.size();
  return std::equal(kept.begin() + static_cast<std::ptrdiff_t>(rule.first_tokens), kept.end(),
                    before.begin() + static_cast<std::ptrdiff_t>(rule.first_tokens + dropped)) ==
         false;
}

void check_kept(const Positions& before, const Positions& kept, const Rule& rule) {
  REQUIRE(std::is_sorted(kept.begin(), kept.end()));
  REQUIRE(kept.size() >= rule.least);
  REQUIRE(kept.size() <= rule.most);
  for (std::size_t i = 0; i < before.size(); ++i) {
    const bool is_protected = i < rule.first_tokens || i + rule.recent_tokens >= before.size();
    if (is_protected) REQUIRE(holds(kept, before[i]));
  }
}

template <class Policy>
void check_rounds(const Policy& policy, const Rule& rule) {
  Run<Policy> run(policy);
  std::size_t rounds = 0, choosy = 0;
  for (std::size_t step = 0; step < 260; ++step) {
    const Positions before = run.cache.positions(0);
    const bool pruned = run.make_room() != 0;
    const Positions kept = run.cache.positions(0);
    REQUIRE(std::ranges::equal(run.pruner.positions(0), kept));
    if (pruned) {
      ++rounds;
      check_kept(before, kept, rule);
      choosy += is_choosy(before, kept, rule) ? 1 : 0;
    }
    run.append();
    REQUIRE(run.cache.size(1) <= capacity);
  }
  REQUIRE(rounds > 3);
  REQUIRE(choosy > 3);
}

template <class Policy>
void check_state(const Policy& policy) {
  Run<Policy> run(policy);
  for (std::size_t step = 0; step < 150; ++step) run.make_room(), run.append();
  Run<Policy> restored(policy);
  restored.pruner.restore(run.pruner.save());
  restored.cache = run.cache;
  restored.samples = run.samples;
  for (std::size_t step = 0; step < 100; ++step) {
    REQUIRE(run.make_room() == restored.make_room());
    for (std::size_t head = 0; head < heads; ++head) {
      REQUIRE(run.cache.positions(1, head) == restored.cache.positions(1, head));
    }
    run.append(), restored.append();
  }
}

template <class Policy, class Config>
void check(const Config& config, const Rule& rule) {
  for (const lethe::Scope scope : {lethe::Scope::layer, lethe::Scope::head}) {
    const Policy policy(config_of(scope), config);
    check_rounds(policy, rule);
    check_state(policy);
  }
}

}  // namespace

namespace {

/// Heads of unequal counts: what is protected stays in each, and a layer keeps `most` at most.
template <class Policy>
void check_by_head(const Policy& policy, std::size_t recent_tokens, std::size_t most) {
  Run<Policy> run(policy);
  std::size_t rounds = 0, apart = 0;
  for (std::size_t step = 0; step < 260; ++step) {
    const UnequalRowCache before = run.cache;
    if (run.make_room() != 0) {
      ++rounds;
      REQUIRE(run.cache.size(0, 0) + run.cache.size(0, 1) <= heads * most);
      apart += run.cache.size(0, 0) != run.cache.size(0, 1) ? 1 : 0;
    }
    for (std::size_t head = 0; head < heads; ++head) {
      const Positions held = before.positions(0, head), kept = run.cache.positions(0, head);
      check_kept(held, kept, {.recent_tokens = recent_tokens, .least = 0, .most = 2 * capacity});
      REQUIRE(std::ranges::equal(run.pruner.positions(0, head), kept));
    }
    run.append();
    REQUIRE(run.pruner.size(0) <= capacity);
  }
  CHECK(rounds > 3);
  CHECK(apart > 3);
  check_state(policy);
}

}  // namespace

TEST_CASE("policies whose heads keep counts of their own") {
  const lethe::PrunerConfig config = config_of(lethe::Scope::head);
  check_by_head(policies::AdaKV(config, {.window = 8}), 8, 84);
  check_by_head(policies::AdaKV(config, {.budget = 50, .window = 8}), 8, 50);
  check_by_head(policies::LAVaByHead(config, {.heads = shape, .total = 150, .window = 8}), 8, 95);
}

TEST_CASE("policies that look at keys") {
  const lethe::KeyRankConfig rank{.heads = shape, .recent_tokens = 20};
  check<policies::Knorm>(rank, {.recent_tokens = 20});
  check<policies::KeyDiff>(rank, {.recent_tokens = 20});
  const Rule sinks{.first_tokens = 4, .recent_tokens = 20};
  check<policies::CUR>(lethe::CURConfig{.heads = shape, .recent_tokens = 20}, sinks);
  check<policies::CUR>(lethe::CURConfig{.heads = shape, .recent_tokens = 20, .sketch = 20}, sinks);
  check<policies::LagKV>(lethe::LagKVConfig{.heads = shape, .partition = 20}, sinks);
  check<policies::RKV>(lethe::RKVConfig{.keys = keys}, {.recent_tokens = 8});
  // Whole pages of 16 go: of 96 tokens one, so that the next fits, and more where it must be.
  check<policies::PagedEviction>(lethe::PagedEvictionConfig{.heads = shape},
                                 {.recent_tokens = 16, .least = 68, .most = 84});
}

TEST_CASE("policies that weigh attention by values") {
  check<policies::LongFlow>(lethe::LongFlowConfig{.heads = shape}, {});
  check<policies::LAVa>(lethe::LAVaConfig{.heads = shape, .total = 160, .window = 16},
                        {.recent_tokens = 16, .least = 40, .most = 95});
  check<policies::VaSE>(lethe::VaSEConfig{.heads = shape, .window = 24},
                        {.first_tokens = 4, .recent_tokens = 24});
  const std::vector<float> matrix = Samples(3).row(6 * 4 * channels, -1.0f, 1.0f);
  const lethe::OutputProjection output{.query_heads = 4, .width = 6, .layers = {matrix, matrix}};
  check<policies::CriticalKV>(
      lethe::CriticalKVConfig{.heads = shape, .output = output, .window = 16},
      {.recent_tokens = 16});
}

TEST_CASE("policies that look at attention in other ways") {
  check<policies::LazyEviction>(lethe::LazyEvictionConfig{.threshold = 0.01f, .recent_tokens = 20},
                                {.recent_tokens = 20});
  check<policies::RaaS>(lethe::RaaSConfig{.budget = 60}, {.least = 60, .most = 60});
  check<policies::Scissorhands>(lethe::ScissorhandsConfig{.window = 2}, {.recent_tokens = 10});
  check<policies::Keyformer>(lethe::KeyformerConfig{.budget = 60},
                             {.recent_tokens = 18, .least = 60, .most = 60});
  check<policies::DMS>(lethe::DMSConfig{.window = 20},
                       {.first_tokens = 4, .recent_tokens = 20, .least = 24, .most = 95});
  check<policies::MorphKV>(lethe::MorphKVConfig{.window = 12}, {.recent_tokens = 12});
  check<policies::RPC>(lethe::RPCConfig{.window = 12}, {.recent_tokens = 12});
  check<policies::CAKE>(lethe::CAKEConfig{.heads = heads, .total = 160, .window = 16},
                        {.recent_tokens = 16, .least = 40, .most = 95});
  check<policies::ChunkKV>(lethe::ChunkKVConfig{.chunk = 10, .window = 12},
                           {.recent_tokens = 12, .least = 74, .most = 84});
  const lethe::BlockH2OConfig blocks{.block = 8, .first_tokens = 8, .recent_tokens = 16};
  const Rule whole{.first_tokens = 8, .recent_tokens = 16, .least = 76, .most = 84};
  check<policies::BlockH2O>(blocks, whole);
  check<policies::BlockH2OSum>(blocks, whole);
}

TEST_CASE("a layer's share of LAVa's total follows its entropy") {
  Run<policies::LAVa> run(
      policies::LAVa(config_of(lethe::Scope::layer), {.heads = shape, .total = 100, .window = 8}));
  for (std::size_t step = 0; step < 200; ++step) run.make_room(), run.append();
  CHECK(run.cache.size(0) + run.cache.size(1) <= 100 + 100 / 8 + 2);
}

TEST_CASE("policies that learn from queries") {
  const Rule recents{.recent_tokens = 20};
  check<policies::ExpectedAttention>(
      lethe::ExpectedAttentionConfig{.heads = shape, .queries = queries, .recent_tokens = 20},
      {.first_tokens = 4, .recent_tokens = 20});
  check<policies::TriAttention>(
      lethe::TriAttentionConfig{.heads = shape, .queries = queries, .recent_tokens = 20}, recents);
  check<policies::CapKV>(
      lethe::CapKVConfig{.heads = shape, .queries = queries, .recent_tokens = 20}, recents);
  check<policies::GrowPage>(
      lethe::GrowPageConfig{.heads = shape, .queries = queries, .recent_tokens = 20},
      {.recent_tokens = 20, .least = 42, .most = 84});
}

TEST_CASE("GrowPage's layers grow by blocks from its first budget, and stay within the bound") {
  lethe::PrunerConfig config = config_of(lethe::Scope::layer);
  config.capacity = 90;
  config.round_interval = 8;
  Run<policies::GrowPage> run(policies::GrowPage(
      config, {.heads = shape, .queries = queries, .budget = 40, .recent_tokens = 8, .block = 4}));
  std::vector<std::size_t> kept;
  for (std::size_t step = 0; step < 700; ++step) {
    if (run.make_room() != 0) kept.push_back(run.cache.size(0));
    REQUIRE(run.cache.size(0) <= 89);
    run.append();
  }
  REQUIRE(kept.size() > 20);
  CHECK(kept.front() == 40);
  CHECK(kept.back() >= 48);
  for (std::size_t i = 1; i < kept.size(); ++i) {
    const std::size_t grown = kept[i] - kept[i - 1];
    CHECK((grown == 0 || grown == 4 || kept[i] == 79));
  }
}

TEST_CASE("the rule of DMS prunes a layer long before it is full") {
  lethe::PrunerConfig config = config_of(lethe::Scope::layer);
  config.round_interval = 8;
  Run<policies::DMS> run(policies::DMS(config, {.window = 20, .threshold = 1.0f}));
  for (std::size_t step = 0; step < 300; ++step) {
    run.make_room(), run.append();
    REQUIRE(run.cache.size(0) < 64);
  }
}

TEST_CASE("settings that cannot be are refused by name") {
  const lethe::PrunerConfig config = config_of(lethe::Scope::layer);
  CHECK_THROWS_WITH(policies::Knorm(config, {}), Catch::Contains("heads.kv_heads = 0"));
  CHECK_THROWS_WITH(policies::RKV(config, {}), Catch::Contains("kv_heads"));
  CHECK_THROWS_WITH(policies::VaSE(config, {.heads = shape, .wide_share = 1.5f}),
                    Catch::Contains("wide_share = 1.5"));
  CHECK_THROWS_WITH(policies::LAVa(config, {.heads = shape}), Catch::Contains("total = 0"));
  CHECK_THROWS_WITH(policies::CriticalKV(config, {.heads = shape}),
                    Catch::Contains("output.query_heads = 0"));
  CHECK_THROWS_WITH(policies::CriticalKV(config, {.heads = shape, .first_share = -1.0f}),
                    Catch::Contains("first_share = -1"));
  CHECK_THROWS_WITH(policies::ChunkKV(config, {.chunk = 0}), Catch::Contains("block = 0"));
  CHECK_THROWS_WITH(policies::LazyEviction(config, {.threshold = -1.0f}),
                    Catch::Contains("threshold"));
  CHECK_THROWS_WITH(policies::Scissorhands(config, {.window = 0}), Catch::Contains("window = 0"));
  CHECK_THROWS_WITH(policies::Keyformer(config, {.rise = 0}), Catch::Contains("rise = 0"));
  CHECK_THROWS_WITH(policies::DMS(config, {.threshold = 0.0f}), Catch::Contains("share = 0"));
  CHECK_THROWS_WITH(policies::RaaS(config, {.share = 0.0f}), Catch::Contains("share = 0"));
}
