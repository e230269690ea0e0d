// How queries reach a score that reads them: every element type and stride, with and without
// deferred scoring, and nothing of those that are rejected.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "lethe/budget.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/per_age.hpp"
#include "lethe/score/promoted.hpp"
#include "lethe/score/rasr.hpp"
#include "lethe/score/rules/value_size.hpp"
#include "lethe/score/weighted.hpp"
#include "samples.hpp"

namespace {

using lethe::Position;
using Row = std::vector<float>;
using Accepted = std::vector<std::uint32_t>;

constexpr std::size_t layer_count = 2, heads = 3, channels = 4, width = heads * channels;

/// A query that was shown, and where it lay.
struct Shown {
  std::size_t layer = 0;
  Position position = 0;
  Row query{};
  const float* at = nullptr;

  bool operator==(const Shown& other) const {
    return layer == other.layer && position == other.position && query == other.query;
  }
};

/// Remembers what it is shown.
template <bool Mass>
class Witness : public lethe::NoScore {
 public:
  struct Config {
    lethe::QueryShape shape{.heads = heads, .head_dimension = channels};
    std::vector<Shown>* seen = nullptr;
    std::size_t* masses = nullptr;

    bool operator==(const Config&) const = default;
  };
  static constexpr bool reads_mass = Mass;
  static constexpr bool reads_queries = true;

  Witness(const Config& config, const lethe::ScoreShape& shape)
      : NoScore({}, shape), config_(config) {}

  void record(std::size_t, std::size_t, std::int64_t, std::size_t, std::span<const float> mass) {
    *config_.masses += mass.size();
  }
  void record_query(std::size_t layer, Position position, std::span<const float> query) {
    config_.seen->push_back({layer, position, Row(query.begin(), query.end()), query.data()});
  }
  [[nodiscard]] lethe::QueryShape query_shape() const { return config_.shape; }

 private:
  Config config_;
};
using QueriesAlone = Witness<false>;
using QueriesAndMass = Witness<true>;

static_assert(lethe::TokenScorer<QueriesAlone> && lethe::QueryReadingScorer<QueriesAlone>);
static_assert(lethe::QueryReadingScorer<lethe::PerAge<QueriesAlone>>);
static_assert(lethe::QueryReadingScorer<lethe::Weighted<QueriesAlone, lethe::ValueNorm>>);
static_assert(lethe::QueryReadingScorer<lethe::Promoted<QueriesAlone, lethe::NoScore>>);
static_assert(lethe::QueryReadingScorer<lethe::Promoted<lethe::NoScore, QueriesAlone>>);
static_assert(!lethe::QueryReadingScorer<lethe::Rasr>);
static_assert(!lethe::QueryReadingScorer<lethe::PerAge<lethe::Rasr>>);
static_assert(!lethe::detail::ReadsQueries<lethe::Promoted<lethe::NoScore, lethe::NoScore>>);

/// Counts alone; the first layer may be one that is never pruned.
struct CountingCache {
  std::size_t tokens = 0;
  lethe::LayerState first = lethe::LayerState::prunable;

  [[nodiscard]] std::size_t layers() const { return layer_count; }
  [[nodiscard]] std::size_t size(std::size_t) const { return tokens; }
  [[nodiscard]] lethe::LayerState state(std::size_t layer) const {
    return layer == 0 ? first : lethe::LayerState::prunable;
  }
  void apply(std::span<const lethe::EvictionPlan> plans) { tokens = plans[0].kept.size(); }
  void read_keys(std::size_t, std::size_t, std::size_t, std::span<float> out) const {
    std::fill(out.begin(), out.end(), 1.0f);
  }
};

/// A pruner whose score remembers, and what it remembers.
template <class Scorer>
struct Bench {
  using Pruner = lethe::Pruner<Scorer, lethe::UniformBudget>;

  explicit Bench(const lethe::PrunerConfig& settings, std::size_t per_token = 1)
      : pruner(settings, {.retention = {.first_tokens = 0}}, config_of(per_token), {}) {}

  typename Scorer::Config config_of(std::size_t per_token) {
    const lethe::QueryShape shape{heads, channels, per_token};
    if constexpr (requires(typename Scorer::Config config) { config.seen; }) {
      return {.shape = shape, .seen = &seen, .masses = &masses};
    } else {
      return {.first = {.shape = shape, .seen = &seen, .masses = &masses},
              .rest = {.shape = shape, .seen = &seen, .masses = &masses}};
    }
  }

  void begin(std::size_t tokens) { pruner.make_room(cache, tokens); }
  void commit(const Accepted& accepted) {
    pruner.commit(accepted);
    cache.tokens += accepted.size();
  }

  std::vector<Shown> seen;
  std::size_t masses = 0;
  Pruner pruner;
  CountingCache cache;
};

constexpr lethe::PrunerConfig plain{.layers = layer_count, .capacity = 64};

lethe::PrunerConfig drafting(std::size_t tokens) {
  lethe::PrunerConfig config = plain;
  config.draft_tokens = tokens;
  return config;
}

/// Queries of one step, heads apart as an engine may lay them out.
template <class Element>
struct Step {
  Step(Samples& samples, std::size_t count, std::size_t head_stride, std::size_t query_stride)
      : queries(count) {
    data.assign(heads * head_stride + count * query_stride, Element{});
    for (std::size_t q = 0; q < count; ++q) {
      for (std::size_t head = 0; head < heads; ++head) {
        for (std::size_t c = 0; c < channels; ++c) {
          // Of few digits, so that every type holds it.
          const float value = static_cast<float>(samples.below(64)) / 8.0f - 4.0f;
          queries[q].push_back(value);
          data[head * head_stride + q * query_stride + c] = narrow(value);
        }
      }
    }
    seen = {.data = data.data(),
            .heads = heads,
            .queries = count,
            .head_dimension = channels,
            .head_stride = head_stride,
            .query_stride = query_stride};
  }

  static Element narrow(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if constexpr (std::is_same_v<Element, lethe::BFloat16>) {
      return {static_cast<std::uint16_t>(bits >> 16)};
    } else if constexpr (std::is_same_v<Element, lethe::Half>) {
      const std::uint32_t exponent = (bits >> 23 & 0xFFu) - 112u;
      const std::uint32_t magnitude = value == 0 ? 0 : exponent << 10 | (bits >> 13 & 0x3FFu);
      return {static_cast<std::uint16_t>((bits >> 16 & 0x8000u) | magnitude)};
    } else {
      return value;
    }
  }

  std::vector<Row> queries;
  std::vector<Element> data;
  lethe::Queries<Element> seen{};
};

/// Queries whose heads lie side by side, packed.
Step<float> packed_step(Samples& samples, std::size_t count) {
  return Step<float>(samples, count, channels, width);
}

/// Steps of several queries in some layout: what is shown must be what was laid out.
template <class Element>
void check_layout(std::size_t head_stride, std::size_t query_stride) {
  Samples samples(311);
  Bench<QueriesAlone> bench(plain);
  std::vector<Shown> expected;
  Position position = 0;
  for (const std::size_t count : {3u, 1u, 2u}) {
    bench.begin(count);
    Accepted all;
    for (std::size_t layer = 0; layer < layer_count; ++layer) {
      const Step<Element> step(samples, count, head_stride, query_stride);
      bench.pruner.observe(layer, step.seen);
      for (std::size_t q = 0; q < count; ++q) {
        expected.push_back({layer, static_cast<Position>(position + q), step.queries[q]});
      }
    }
    for (std::uint32_t i = 0; i < count; ++i) all.push_back(i);
    bench.commit(all);
    position += static_cast<Position>(count);
  }
  CHECK(bench.seen == expected);
}

}  // namespace

TEST_CASE("every query is shown with its heads side by side, whatever type and layout") {
  check_layout<float>(channels, width);
  check_layout<float>(5 * channels, channels);
  check_layout<float>(7, 30);
  check_layout<lethe::Half>(channels, width);
  check_layout<lethe::Half>(9, 31);
  check_layout<lethe::BFloat16>(channels, width);
  check_layout<lethe::BFloat16>(5 * channels, channels);
}

TEST_CASE("strides of zero mean head after head, densely packed") {
  Samples samples(312);
  Step<float> step(samples, 3, 3 * channels, channels);
  step.seen.head_stride = step.seen.query_stride = 0;
  Bench<QueriesAlone> bench(plain);
  bench.begin(3);
  bench.pruner.observe(1, step.seen);
  REQUIRE(bench.seen.size() == 3);
  for (std::size_t q = 0; q < 3; ++q) CHECK(bench.seen[q].query == step.queries[q]);
}

TEST_CASE("floats whose heads lie side by side are not copied") {
  Samples samples(313);
  const Step<float> step(samples, 2, channels, 20);
  Bench<QueriesAlone> bench(plain);
  bench.begin(2);
  bench.pruner.observe(0, step.seen);
  REQUIRE(bench.seen.size() == 2);
  CHECK(bench.seen[0].at == step.data.data());
  CHECK(bench.seen[1].at == step.data.data() + 20);
}

TEST_CASE("a step's queries may come in pieces, and several times where layers share a cache") {
  Samples samples(314);
  Bench<QueriesAlone> bench(plain);
  bench.begin(4);
  Step<float> head = packed_step(samples, 2);
  Step<float> tail = packed_step(samples, 2);
  tail.seen.first_query = 2;
  const Step<float> other = packed_step(samples, 4);
  bench.pruner.observe(0, head.seen);
  bench.pruner.observe(0, tail.seen);
  bench.pruner.observe(0, other.seen);
  bench.commit({0, 1, 2, 3});
  REQUIRE(bench.seen.size() == 8);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(bench.seen[i].position == i);
    CHECK(bench.seen[i].query == (i < 2 ? head.queries[i] : tail.queries[i - 2]));
    CHECK(bench.seen[4 + i] == Shown{0, static_cast<Position>(i), other.queries[i]});
  }
}

TEST_CASE("with deferred scoring on, queries are shown and scored for mass") {
  Samples samples(315);
  lethe::PrunerConfig config = plain;
  config.deferred = {.queries = 4, .heads = heads, .kv_heads = 1, .head_dimension = channels};
  Bench<QueriesAndMass> bench(config);
  Step<float> step = packed_step(samples, 2);
  const Row lse(heads * 2, 3.0f);
  step.seen.lse = lse.data();
  bench.begin(2);
  bench.pruner.observe(0, step.seen);
  bench.commit({0, 1});
  CHECK(bench.seen.size() == 2);
  CHECK(bench.masses == 0);
  bench.pruner.flush(bench.cache);
  CHECK(bench.masses == 1 + 2);
}

TEST_CASE("without deferred scoring queries are shown alone, and mass comes otherwise") {
  Samples samples(316);
  Bench<QueriesAndMass> bench(plain);
  const Step<float> step = packed_step(samples, 1);
  const Row probabilities{1.0f};
  bench.begin(1);
  bench.pruner.observe(0, step.seen);
  CHECK(bench.masses == 0);
  bench.pruner.observe(0, {.data = probabilities.data(), .columns = 1});
  bench.commit({0});
  CHECK(bench.seen.size() == 1);
  CHECK(bench.masses == 1);
}

TEST_CASE("a score that reads no queries is told of none") {
  Samples samples(317);
  const Step<float> step = packed_step(samples, 1);
  lethe::Pruner<lethe::Rasr, lethe::UniformBudget> pruner(plain, {}, {}, {});
  CountingCache cache;
  pruner.make_room(cache, 1);
  CHECK_THROWS_WITH(pruner.observe(0, step.seen), Catch::Contains("deferred.queries = 0"));
  lethe::Pruner<lethe::NoScore, lethe::UniformBudget> blind(plain, {}, {}, {});
  blind.make_room(cache, 1);
  blind.observe(0, step.seen);
  blind.commit();
}

TEST_CASE("rejected queries leave no trace, accepted ones take the positions of their ranks") {
  Samples samples(318);
  Bench<QueriesAlone> bench(drafting(4));
  std::vector<Shown> expected;
  Position position = 0;
  for (const Accepted& accepted :
       {Accepted{0, 1, 2, 3}, Accepted{1, 3}, Accepted{}, Accepted{0}, Accepted{2}}) {
    bench.begin(4);
    std::vector<Step<float>> steps;
    for (std::size_t layer = 0; layer < layer_count; ++layer) {
      steps.push_back(packed_step(samples, 4));
      bench.pruner.observe(layer, steps[layer].seen);
    }
    CHECK(bench.seen == expected);
    bench.commit(accepted);
    for (std::size_t layer = 0; layer < layer_count; ++layer) {
      for (std::size_t rank = 0; rank < accepted.size(); ++rank) {
        expected.push_back(
            {layer, static_cast<Position>(position + rank), steps[layer].queries[accepted[rank]]});
      }
    }
    position += static_cast<Position>(accepted.size());
    CHECK(bench.seen == expected);
  }
}

TEST_CASE("a draft that is dropped for another leaves no trace") {
  Samples samples(319);
  Bench<QueriesAlone> bench(drafting(2));
  bench.begin(2);
  bench.pruner.observe(0, packed_step(samples, 2).seen);
  bench.begin(2);
  const Step<float> second = packed_step(samples, 2);
  bench.pruner.observe(0, second.seen);
  bench.commit({0});
  CHECK(bench.seen == std::vector<Shown>{{0, 0, second.queries[0]}});
  // A step of more tokens than drafts is not held.
  bench.begin(3);
  const Step<float> prompt = packed_step(samples, 3);
  bench.pruner.observe(0, prompt.seen);
  CHECK(bench.seen.size() == 4);
  CHECK_THROWS_WITH(bench.pruner.commit(Accepted{0, 1}), Catch::Contains("draft_tokens = 2"));
}

TEST_CASE("drafts of layers that share a cache are held where there is room for them") {
  Samples samples(320);
  Bench<QueriesAlone> bench(drafting(2), 2);
  bench.begin(2);
  const Step<float> first = packed_step(samples, 2);
  const Step<float> second = packed_step(samples, 2);
  bench.pruner.observe(1, first.seen);
  bench.pruner.observe(1, second.seen);
  CHECK_THROWS_WITH(bench.pruner.observe(1, first.seen),
                    Catch::Contains("QueryShape::per_token = 2"));
  bench.commit({1});
  const std::vector<Shown> expected{{1, 0, first.queries[1]}, {1, 0, second.queries[1]}};
  CHECK(bench.seen == expected);
}

TEST_CASE("queries that are not as announced are refused by name") {
  Samples samples(321);
  Bench<QueriesAlone> bench(plain);
  Step<float> step = packed_step(samples, 2);
  CHECK_THROWS_WITH(bench.pruner.observe(0, step.seen), Catch::Contains("no step is open"));
  bench.begin(1);
  CHECK_THROWS_WITH(bench.pruner.observe(0, step.seen), Catch::Contains("observe queries = 2"));
  step.seen.queries = 1;
  CHECK_THROWS_WITH(bench.pruner.observe(layer_count, step.seen),
                    Catch::Contains("observe layer = 2"));
  step.seen.heads = heads - 1;
  CHECK_THROWS_WITH(bench.pruner.observe(0, step.seen), Catch::Contains("Queries::heads = 2"));
  step.seen.heads = heads;
  step.seen.head_dimension = channels + 1;
  CHECK_THROWS_WITH(bench.pruner.observe(0, step.seen),
                    Catch::Contains("Queries::head_dimension = 5"));
  CHECK(bench.seen.empty());
}

TEST_CASE("shapes that cannot be are refused by name") {
  using Pruner = lethe::Pruner<QueriesAlone, lethe::UniformBudget>;
  const auto make = [](lethe::QueryShape shape, std::size_t drafts = 0) {
    return Pruner(drafting(drafts), {.retention = {.first_tokens = 0}}, {.shape = shape}, {});
  };
  CHECK_THROWS_WITH(make({0, channels}), Catch::Contains("query heads = 0"));
  CHECK_THROWS_WITH(make({heads, 0}), Catch::Contains("head_dimension = 0"));
  CHECK_THROWS_WITH(make({heads, channels, 0}), Catch::Contains("per_token = 0"));
  CHECK_THROWS_WITH(make({1, std::size_t{1} << 40, std::size_t{1} << 10}, 8),
                    Catch::Contains("draft_tokens = 8"));
}

TEST_CASE("a layer without a cache of its own shows nothing") {
  Samples samples(322);
  Bench<QueriesAlone> bench(plain);
  bench.cache.first = lethe::LayerState::fixed;
  bench.begin(1);
  const Step<float> step = packed_step(samples, 1);
  bench.pruner.observe(0, step.seen);
  bench.pruner.observe(1, step.seen);
  CHECK(bench.seen == std::vector<Shown>{{1, 0, step.queries[0]}});
}

TEST_CASE("scores of scores pass queries on") {
  Samples samples(323);
  const Step<float> step = packed_step(samples, 1);
  Bench<lethe::PerAge<QueriesAlone>> aged(plain);
  aged.begin(1);
  aged.pruner.observe(1, step.seen);
  CHECK(aged.seen == std::vector<Shown>{{1, 0, step.queries[0]}});
  // Both of its scores read queries.
  Bench<lethe::Promoted<QueriesAlone, QueriesAlone>> both(plain);
  both.begin(1);
  both.pruner.observe(1, step.seen);
  CHECK(both.seen.size() == 2);
  using Pruner = lethe::Pruner<lethe::Promoted<QueriesAlone, QueriesAlone>, lethe::UniformBudget>;
  CHECK_THROWS_WITH(Pruner(plain, {.retention = {.first_tokens = 0}},
                           {.first = {}, .rest = {.shape = {heads + 1, channels}}}, {}),
                    Catch::Contains("query heads = 4"));
}
