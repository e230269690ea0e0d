#include "lethe/score/projected.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "lethe/policies/values.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/random.hpp"
#include "naive/given.hpp"
#include "row_cache.hpp"

namespace {

using lethe::Position;
using Row = std::vector<double>;
using Scorer = lethe::Projected<naive::Given>;

constexpr std::size_t layers = 2;
constexpr std::size_t heads = 2;
constexpr std::size_t query_heads = 6;
constexpr std::size_t channels = 5;
constexpr std::size_t width = 7;
constexpr std::size_t capacity = 48;
constexpr lethe::HeadShape head_shape{
    .kv_heads = heads, .key_dimension = 3, .value_dimension = channels};

static_assert(lethe::CacheReadingScorer<lethe::Projected<lethe::NoScore>, RowCache>);
static_assert(!lethe::CacheReadingScorer<lethe::Projected<naive::Shown>, RowCache>);
static_assert(!lethe::Projected<lethe::NoScore>::reads_mass);
struct KeysAlone {
  void read_keys(std::size_t, std::size_t, std::size_t, std::span<float>) const {}
};
static_assert(!lethe::CacheReadingScorer<lethe::Projected<lethe::NoScore>, KeysAlone>);

/// A matrix a layer, width x (query_heads x channels).
struct Weights {
  Weights() {
    Samples samples(5);
    for (auto& matrix : matrices) matrix = samples.row(width * query_heads * channels, -1.0f, 1.0f);
  }

  [[nodiscard]] lethe::OutputProjection view() const {
    return {.query_heads = query_heads, .width = width, .layers = {matrices[0], matrices[1]}};
  }

  std::vector<float> matrices[layers];
};
const Weights weights;

/// Mean over the query heads of a KV head of |W v|_1, W being that head's columns.
double projected_norm(std::size_t layer, std::size_t head, const std::vector<double>& value) {
  double norm = 0;
  constexpr std::size_t shared = query_heads / heads;
  for (std::size_t query_head = head * shared; query_head < (head + 1) * shared; ++query_head) {
    for (std::size_t row = 0; row < width; ++row) {
      double output = 0;
      for (std::size_t c = 0; c < channels; ++c) {
        const std::size_t column = query_head * channels + c;
        output += double(weights.matrices[layer][row * query_heads * channels + column]) * value[c];
      }
      norm += std::abs(output);
    }
  }
  return norm / double(shared);
}

Row naive_norms(const NaiveHead& rows) {
  Row norms;
  for (const auto& value : rows.values) {
    norms.push_back(projected_norm(rows.layer, rows.head, value));
  }
  return norms;
}

/// A score for each position up to 200.
std::vector<float> base_scores() {
  Samples samples(17);
  return samples.row(200);
}

struct Setting {
  std::size_t groups = 1;
  lethe::Scope scope = lethe::Scope::layer;
};

/// (s + 0.5) |W v|_1 of one kept set, slot by slot; groups are multiplied out before they are
/// summed.
Row naive_scores(const RowCache& cache, std::size_t layer, std::size_t set,
                 const Setting& setting) {
  const bool apart = setting.scope == lethe::Scope::head;
  Row scores = apart ? naive_sum(cache, layer, set, set + 1, naive_norms)
                     : naive_sum(cache, layer, 0, heads, naive_norms);
  const std::vector<float> base = base_scores();
  const std::vector<Position> positions = cache.positions(layer, set);
  for (std::size_t i = 0; i < scores.size(); ++i) scores[i] *= double(base[positions[i]]) + 0.5;
  return scores;
}

template <class Pruner>
void require_scores(Pruner& pruner, const RowCache& cache, const Setting& setting) {
  for (std::size_t layer = 0; layer < layers; ++layer) {
    for (std::size_t set = 0; set < (setting.scope == lethe::Scope::head ? heads : 1); ++set) {
      const Row wanted = naive_scores(cache, layer, set, setting);
      const std::span<const float> found = pruner.scores(layer, set);
      REQUIRE(found.size() == wanted.size());
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        REQUIRE_THAT(double(found[i]), WithinRel(wanted[i], 1e-6));
      }
    }
  }
}

/// Decodes 150 tokens: each round's scores and kept sets must be the formula's. Returns the rounds.
template <class Cache>
std::size_t check_rounds(const Setting& setting) {
  lethe::Pruner<Scorer, lethe::UniformBudget> pruner(
      {.layers = layers, .capacity = capacity, .groups = setting.groups, .scope = setting.scope},
      {.retention = {.first_tokens = 2, .recent_tokens = 4}},
      {.score = {base_scores()}, .output = weights.view(), .heads = head_shape, .epsilon = 0.5f},
      {});
  Cache cache(layers, heads);
  Samples samples(81);
  std::size_t rounds = 0;
  for (Position position = 0; position < 150; ++position) {
    const Cache before = cache;
    if (pruner.make_room(cache, 1) != 0) {
      ++rounds;
      for (std::size_t set = 0; set < (setting.scope == lethe::Scope::head ? heads : 1); ++set) {
        if constexpr (std::is_same_v<Cache, RowCache>) {
          REQUIRE(keeps_best(naive_scores(before, 1, set, setting), before.positions(1, set),
                             cache.positions(1, set), 2, 4, 1e-5));
        }
      }
      if constexpr (std::is_same_v<Cache, RowCache>) require_scores(pruner, cache, setting);
    }
    append_token(cache, samples, position, head_shape.key_dimension, channels);
    pruner.commit();
  }
  return rounds;
}

/// One layer of four tokens, each value the token's position + 1 in channel 0 of every head.
RowCache make_cache(std::size_t tokens = 4) {
  RowCache cache(1, heads);
  for (Position p = 0; p < tokens; ++p) {
    std::vector<float> value(channels, 0.0f);
    value[0] = static_cast<float>(p + 1);
    for (std::size_t head = 0; head < heads; ++head) cache.append(0, head, {p, {}, value});
  }
  return cache;
}

/// A matrix of ones in one row: |W v|_1 is the sum of the channels.
const std::vector<float> ones(query_heads* channels, 1.0f);

Scorer make_scorer(std::size_t groups = 1, std::vector<float> base = std::vector<float>(8, 1.0f)) {
  return Scorer({.score = {std::move(base)},
                 .output = {.query_heads = query_heads, .width = 1, .layers = {ones}},
                 .heads = head_shape,
                 .epsilon = 1.0f},
                {.layers = 1, .groups = groups, .slots = 8});
}

std::vector<float> read(Scorer& scorer, const RowCache& cache, std::size_t group = 0) {
  scorer.read(cache, 0, group, cache.positions(0));
  return naive::scores_of(scorer, cache.positions(0), 0, group);
}

}  // namespace

TEST_CASE("scores are (s + epsilon) |W v|_1, over rounds and kept sets") {
  for (const Setting& setting :
       {Setting{1, lethe::Scope::layer}, Setting{heads, lethe::Scope::layer},
        Setting{heads, lethe::Scope::head}}) {
    CHECK(check_rounds<RowCache>(setting) > 10);
  }
}

TEST_CASE("norms follow tokens into slots that are overwritten") {
  Scorer scorer(
      {.score = {base_scores()}, .output = weights.view(), .heads = head_shape, .epsilon = 0.5f},
      {.layers = layers, .slots = capacity});
  RowCache cache(layers, heads);
  Samples samples(82);
  for (Position p = 0; p < 20; ++p) append_token(cache, samples, p, 3, channels);
  for (Position p = 20; p < 60; ++p) {
    scorer.read(cache, 1, 0, cache.positions(1));
    const Row wanted = naive_scores(cache, 1, 0, {});
    const std::vector<float> found = naive::scores_of(scorer, cache.positions(1), 1);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      REQUIRE_THAT(double(found[i]), WithinRel(wanted[i], 1e-6));
    }
    const auto slot = static_cast<lethe::Slot>(samples.below(20));
    scorer.forget(1, 0, slot);
    for (std::size_t head = 0; head < heads; ++head) {
      cache.rows[1][head][slot] = {p, {0, 0, 0}, draw_row(samples, channels)};
    }
  }
}

TEST_CASE("each value is read once while its token stays") {
  RowCache cache = make_cache();
  Scorer scorer = make_scorer();
  CHECK(read(scorer, cache) == std::vector<float>{4, 8, 12, 16});
  CHECK(cache.value_reads == heads);
  CHECK(cache.key_reads == 0);
  read(scorer, cache);
  CHECK(cache.value_reads == heads);
  const std::vector<lethe::Slot> kept{1, 3};
  const lethe::EvictionPlan plan{.tokens = 4, .first_move = 0, .kept = kept};
  scorer.keep(plan, 0);
  cache.apply(std::vector{plan});
  CHECK(read(scorer, cache) == std::vector<float>{8, 16});
  CHECK(cache.value_reads == heads);
  for (std::size_t head = 0; head < heads; ++head) {
    cache.append(0, head, {7, {}, {0.5f, 0, 0, 0, 0}});
    cache.append(0, head, {6, {}, {0, 0, -3.0f, 0, 0}});
  }
  CHECK(read(scorer, cache) == std::vector<float>{8, 16, 2, 12});
  CHECK(cache.value_reads == 2 * heads);
  scorer.forget(0, 0, 0);
  read(scorer, cache);
  CHECK(cache.value_reads == 3 * heads);
  scorer.reset();
  read(scorer, cache);
  CHECK(cache.value_reads == 4 * heads);
}

TEST_CASE("groups have norms of their own, and a saved scorer need not read again") {
  RowCache cache = make_cache();
  cache.rows[0][1][2].value[1] = 5.0f;
  Scorer scorer = make_scorer(heads);
  CHECK(read(scorer, cache, 1) == std::vector<float>{2, 4, 16, 8});
  CHECK(naive::scores_of(scorer, cache.positions(0), 0, 0) == std::vector<float>{0, 0, 0, 0});
  CHECK(read(scorer, cache, 0) == std::vector<float>{2, 4, 6, 8});
  lethe::detail::StateWriter writer;
  Scorer::archive(writer, scorer);
  Scorer restored = make_scorer(heads);
  lethe::detail::StateReader reader(writer.bytes());
  Scorer::archive(reader, restored);
  REQUIRE(reader.at_end());
  CHECK(restored.valid());
  const std::size_t reads = cache.value_reads;
  CHECK(read(restored, cache, 1) == std::vector<float>{2, 4, 16, 8});
  CHECK(cache.value_reads == reads);
}

TEST_CASE("neither scores nor values that are not finite are lost") {
  for (const float odd : {not_a_number, infinity, -infinity}) {
    RowCache cache = make_cache();
    cache.rows[0][0][2].value[4] = odd;
    Scorer scorer = make_scorer(1, {odd, 1, 1, 1, 1, 1, 1, 1});
    const std::vector<float> found = read(scorer, cache);
    CHECK_FALSE(lethe::is_finite(found[0]));
    CHECK(found[1] == 8.0f);
    CHECK_FALSE(lethe::is_finite(found[2]));
    CHECK(found[3] == 16.0f);
    scorer.forget(0, 0, 2);
    cache.rows[0][0][2].value[4] = 0.0f;
    CHECK(read(scorer, cache)[2] == 12.0f);
  }
}

TEST_CASE("settings are equal where all is, of the same matrices") {
  const lethe::CriticalKVConfig config{.heads = head_shape, .output = weights.view()};
  CHECK(config == lethe::CriticalKVConfig{.heads = head_shape, .output = weights.view()});
  lethe::CriticalKVConfig other = config;
  other.epsilon = 1e-3f;
  CHECK(config != other);
  const Weights copies = weights;
  for (const lethe::OutputProjection& output :
       {copies.view(), lethe::OutputProjection{query_heads, width, {weights.matrices[0]}},
        lethe::OutputProjection{query_heads + 1, width, weights.view().layers}}) {
    other = config;
    other.output = output;
    CHECK(config != other);
  }
  using Settings = lethe::ProjectedConfig<lethe::WindowMass>;
  CHECK(Settings{.output = weights.view()} == Settings{.output = weights.view()});
  CHECK(Settings{.output = weights.view()} != Settings{.output = copies.view()});
}

TEST_CASE("projections and settings that do not fit are refused by name") {
  const lethe::ScoreShape shape{.layers = layers, .slots = 8};
  using Bare = lethe::Projected<lethe::NoScore>;
  Bare::Config config{.output = weights.view(), .heads = head_shape};
  CHECK_NOTHROW(Bare(config, shape));
  CHECK_THROWS_WITH(Bare(config, {.layers = layers, .groups = 3, .slots = 8}),
                    Catch::Contains("groups = 3"));
  CHECK_THROWS_WITH(Bare(config, {.layers = 1, .slots = 8}), Catch::Contains("output.layers = 2"));
  config.epsilon = -1.0f;
  CHECK_THROWS_WITH(Bare(config, shape), Catch::Contains("epsilon = -1"));
  config = {.output = weights.view(), .heads = head_shape};
  config.output.query_heads = 5;
  CHECK_THROWS_WITH(Bare(config, shape), Catch::Contains("output.query_heads = 5"));
  config.output = weights.view();
  config.output.width = 8;
  CHECK_THROWS_WITH(Bare(config, shape), Catch::Contains("floats of a matrix = 210"));
  config.output.width = 0;
  CHECK_THROWS_WITH(Bare(config, shape), Catch::Contains("output.width = 0"));
  CHECK_THROWS_WITH(Bare({.output = weights.view()}, shape), Catch::Contains("heads.kv_heads = 0"));
  CHECK_THROWS_WITH(Bare({.output = weights.view(), .heads = {.kv_heads = heads}}, shape),
                    Catch::Contains("heads.value_dimension = 0"));
  CHECK_THROWS_AS(Bare({.heads = head_shape}, shape), std::invalid_argument);
}

namespace {

constexpr std::size_t window = 6;

/// Attention of each query to each position, one row a KV head: the sum over its query heads.
struct Past {
  std::vector<std::map<Position, double>> queries[heads];

  /// The mean over the window's queries and the query heads.
  [[nodiscard]] double mean(std::size_t head, Position position) const {
    double sum = 0;
    for (std::size_t back = 1; back <= std::min(window, queries[head].size()); ++back) {
      const auto& query = queries[head][queries[head].size() - back];
      const auto found = query.find(position);
      sum += found == query.end() ? 0.0 : found->second;
    }
    return sum / double(window * (query_heads / heads));
  }
};

/// CriticalKV for one head: half of what is left beside the recents by s alone, then by
/// (s + 1e-4) |W v|_1; s is the best mean among 3 neighbours. Positions that stay, ascending.
std::vector<Position> naive_critical(const Past& past, const RowCache& cache, std::size_t head,
                                     std::size_t budget) {
  const std::vector<CachedRow>& rows = cache.rows[0][head];
  const std::size_t open = rows.size() - window;
  Row base, product;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    base.push_back(0.0);
    for (std::size_t j = i - std::min<std::size_t>(i, 1); j < std::min(rows.size(), i + 2); ++j) {
      base[i] = std::max(base[i], past.mean(head, rows[j].position));
    }
    const std::vector<double> value(rows[i].value.begin(), rows[i].value.end());
    product.push_back((base[i] + 1e-4) * projected_norm(0, head, value));
  }
  std::vector<std::size_t> order(open);
  for (std::size_t i = 0; i < open; ++i) order[i] = i;
  const auto by = [](const Row& scores) {
    return [&scores](std::size_t a, std::size_t b) {
      return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
    };
  };
  std::sort(order.begin(), order.end(), by(base));
  const std::size_t left = budget - window;
  std::sort(order.begin() + static_cast<std::ptrdiff_t>(left / 2), order.end(), by(product));
  std::vector<Position> kept;
  for (std::size_t i = 0; i < left; ++i) kept.push_back(rows[order[i]].position);
  for (std::size_t i = open; i < rows.size(); ++i) kept.push_back(rows[i].position);
  std::sort(kept.begin(), kept.end());
  return kept;
}

}  // namespace

TEST_CASE("CriticalKV keeps half by attention, the rest by what their values add to the output") {
  const lethe::OutputProjection output{
      .query_heads = query_heads, .width = width, .layers = {weights.matrices[0]}};
  lethe::policies::CriticalKV pruner(
      {.layers = 1, .capacity = capacity, .groups = heads, .scope = lethe::Scope::head},
      {.heads = head_shape, .output = output, .budget = 31, .window = window, .pool = 3});
  RowCache cache(1, heads);
  Samples samples(83);
  Past past;
  std::size_t rounds = 0, by_value = 0;
  for (Position position = 0; position < 300; ++position) {
    const RowCache before = cache;
    if (pruner.make_room(cache, 1) != 0) {
      ++rounds;
      for (std::size_t head = 0; head < heads; ++head) {
        REQUIRE(cache.positions(0, head) == naive_critical(past, before, head, 31));
      }
      by_value += cache.positions(0, 0) != cache.positions(0, 1) ? 1 : 0;
    }
    append_token(cache, samples, position, head_shape.key_dimension, channels);
    std::vector<float> mass;
    for (std::size_t head = 0; head < heads; ++head) {
      past.queries[head].emplace_back();
      for (const CachedRow& row : cache.rows[0][head]) {
        // Sums of these are exact; many are near epsilon.
        const float u = samples.uniform();
        mass.push_back(std::floor(u * u * u * u * 4096.0f) / 4096.0f);
        past.queries[head].back()[row.position] = double(mass.back());
      }
    }
    pruner.observe(
        0, lethe::Mass<float>{.data = mass.data(), .groups = heads, .columns = cache.size(0)});
    pruner.commit();
  }
  CHECK(rounds > 10);
  CHECK(by_value > 10);
}
