#include "lethe/score/weighted.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "catch.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/rasr.hpp"
#include "lethe/score/rules/key_norm.hpp"
#include "lethe/score/rules/value_size.hpp"
#include "lethe/score/window.hpp"
#include "row_cache.hpp"

namespace {

using LongFlow = lethe::Weighted<lethe::WindowMass, lethe::ValueNorm>;
using LAVa = lethe::Weighted<lethe::WindowMass, lethe::LargestValueNorm>;
using Row = std::vector<double>;

static_assert(lethe::TokenScorer<LongFlow> && lethe::TokenScorer<LAVa>);
static_assert(LongFlow::reads_mass && LongFlow::reads_cache);
static_assert(!lethe::Weighted<lethe::NoScore, lethe::ValueNorm>::reads_mass);
static_assert(lethe::CacheReadingScorer<LongFlow, RowCache>);
struct ValuesAlone {
  void read_values(std::size_t, std::size_t, std::size_t, std::span<float>) const {}
};
static_assert(lethe::CacheReadingScorer<LongFlow, ValuesAlone>);
static_assert(!lethe::CacheReadingScorer<
              lethe::Weighted<lethe::CacheScore<lethe::KeyNorm>, lethe::ValueNorm>, ValuesAlone>);

constexpr std::size_t heads = 2;
constexpr std::size_t capacity = 40;
constexpr lethe::HeadShape head_shape{.kv_heads = heads, .key_dimension = 4, .value_dimension = 6};

double value_norm(const CachedRow& row) {
  double sum = 0;
  for (const float channel : row.value) sum += std::abs(static_cast<double>(channel));
  return sum;
}

/// Attention that each query paid each position, head by head.
struct History {
  std::vector<std::vector<std::vector<float>>> paid{};  // [query][head][position]

  [[nodiscard]] double mass(std::size_t head, lethe::Position token, std::size_t window) const {
    double sum = 0;
    const std::size_t first = paid.size() - std::min(paid.size(), window);
    for (std::size_t q = first; q < paid.size(); ++q) {
      if (token < paid[q][head].size()) sum += static_cast<double>(paid[q][head][token]);
    }
    return sum;
  }
};

/// What the last query paid a token times |v|_1, for one head. LongFlow.
Row naive_long_flow(const History& past, const RowCache& cache, std::size_t head) {
  Row scores;
  for (const CachedRow& row : cache.rows[0][head]) {
    scores.push_back(past.mass(head, row.position, 1) * value_norm(row));
  }
  return scores;
}

/// The window's mass, the most among a token and its neighbours, times the head's largest |v|_1.
/// LAVa.
Row naive_lava(const History& past, const RowCache& cache, std::size_t head) {
  const std::vector<CachedRow>& rows = cache.rows[0][head];
  double largest = 0;
  for (const CachedRow& row : rows) largest = std::max(largest, value_norm(row));
  Row scores;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    double most = 0;
    for (std::size_t j = i - std::min<std::size_t>(i, 3); j < std::min(rows.size(), i + 4); ++j) {
      most = std::max(most, past.mass(head, rows[j].position, 5));
    }
    scores.push_back(most * largest);
  }
  return scores;
}

using NaiveScore = Row (*)(const History&, const RowCache&, std::size_t);

void require_close(std::span<const float> found, const Row& expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    REQUIRE_THAT(static_cast<double>(found[i]), WithinAbs(expected[i], 1e-5));
  }
}

/// One query's attention in every head, over what is cached.
void attend(History& past, const RowCache& cache, Samples& samples, std::vector<float>& mass) {
  past.paid.emplace_back(heads);
  mass.clear();
  for (std::size_t head = 0; head < heads; ++head) {
    std::vector<float>& paid = past.paid.back()[head];
    const std::vector<CachedRow>& rows = cache.rows[0][head];
    std::vector<float> row(rows.size());
    for (float& entry : row) entry = std::pow(samples.uniform(), 4.0f);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      paid.resize(std::max<std::size_t>(paid.size(), rows[i].position + 1), 0.0f);
      paid[rows[i].position] = row[i];
    }
    mass.insert(mass.end(), row.begin(), row.end());
  }
}

/// Naive scores of one kept set: a head's own, or the sum over heads.
Row scores_of_set(const History& past, const RowCache& cache, std::size_t set, bool apart,
                  NaiveScore naive) {
  Row scores = naive(past, cache, set);
  if (apart) return scores;
  const Row other = naive(past, cache, 1);
  for (std::size_t i = 0; i < scores.size(); ++i) scores[i] += other[i];
  return scores;
}

/// A round must have kept what the formula ranks first; those tokens keep their scores.
template <class Pruner>
void require_naive(Pruner& pruner, const History& past, const RowCache& before,
                   const RowCache& after, NaiveScore naive) {
  const bool apart = pruner.config().scope == lethe::Scope::head;
  for (std::size_t set = 0; set < (apart ? heads : 1); ++set) {
    const Row scores = scores_of_set(past, before, set, apart, naive);
    const auto positions = before.positions(0, set);
    const auto kept = after.positions(0, set);
    REQUIRE(keeps_best(scores, positions, kept, 2, 4, 1e-5));
    Row left;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      if (std::binary_search(kept.begin(), kept.end(), positions[i])) left.push_back(scores[i]);
    }
    // Pooled scores change with the neighbours that went.
    if (naive == naive_long_flow) require_close(pruner.scores(0, set), left);
  }
}

/// Decodes 120 tokens, and checks every round.
template <class Scorer>
void check_rounds(const typename Scorer::Config& config, lethe::Scope scope, NaiveScore naive) {
  lethe::Pruner<Scorer, lethe::UniformBudget> pruner(
      {.layers = 1, .capacity = capacity, .groups = heads, .scope = scope},
      {.retention = {.first_tokens = 2, .recent_tokens = 4}}, config, {});
  RowCache cache(1, heads);
  Samples samples(81);
  History past;
  std::vector<float> mass;
  std::size_t rounds = 0;
  for (lethe::Position position = 0; position < 120; ++position) {
    const RowCache before = cache;
    if (pruner.make_room(cache, 1) != 0) {
      ++rounds;
      require_naive(pruner, past, before, cache, naive);
    }
    append_token(cache, samples, position, head_shape.key_dimension, head_shape.value_channels());
    attend(past, cache, samples, mass);
    pruner.observe(
        0, lethe::Mass<float>{.data = mass.data(), .groups = heads, .columns = cache.size(0)});
    pruner.commit();
  }
  CHECK(rounds > 10);
}

LongFlow make_long_flow(std::size_t groups = 1) {
  return LongFlow({.score = {.window = 1, .pool = 1}, .heads = head_shape},
                  {.layers = 1, .groups = groups, .slots = 8});
}

/// Four tokens whose |v|_1 are 1, 2, 3, 4 in each head.
RowCache make_cache() {
  RowCache cache(1, heads);
  for (lethe::Position p = 0; p < 4; ++p) {
    const std::vector<float> value{static_cast<float>(p), 0, -1, 0, 0, 0};
    for (std::size_t head = 0; head < heads; ++head) {
      cache.append(0, head, {p, {1, 1, 1, 1}, value});
    }
  }
  return cache;
}

template <class Scorer>
std::vector<float> scores_of(Scorer& scorer, std::size_t tokens, std::size_t group = 0) {
  std::vector<float> scratch(tokens);
  const auto row = scorer.score(0, group, ascending_positions(tokens), scratch);
  return {row.begin(), row.end()};
}

}  // namespace

TEST_CASE("LongFlow: the last query's mass times the length of the value") {
  const LongFlow::Config config{.score = {.window = 1, .pool = 1}, .heads = head_shape};
  check_rounds<LongFlow>(config, lethe::Scope::layer, naive_long_flow);
  check_rounds<LongFlow>(config, lethe::Scope::head, naive_long_flow);
}

TEST_CASE("LAVa: the window's pooled mass times the head's longest value") {
  const LAVa::Config config{.score = {.window = 5, .pool = 7}, .heads = head_shape};
  check_rounds<LAVa>(config, lethe::Scope::layer, naive_lava);
  check_rounds<LAVa>(config, lethe::Scope::head, naive_lava);
}

TEST_CASE("one group multiplies sums over heads") {
  LongFlow scorer = make_long_flow();
  scorer.record(0, 0, 0, 0, std::vector<float>{1.0f, 0.5f, 2.0f, 0.0f});
  scorer.advance(1);
  const RowCache cache = make_cache();
  scorer.read(cache, 0, 0, ascending_positions(4));
  CHECK(scores_of(scorer, 4) == std::vector<float>{2, 2, 12, 0});
}

TEST_CASE("mass and weight follow their slots, forks and saved state included") {
  LongFlow scorer = make_long_flow(heads);
  const RowCache cache = make_cache();
  for (std::size_t group = 0; group < heads; ++group) {
    scorer.record(0, group, 0, 0, std::vector<float>{1, 1, 2, 2});
    scorer.read(cache, 0, group, ascending_positions(4));
  }
  scorer.advance(1);
  const std::vector<lethe::Slot> kept{1, 3};
  scorer.keep({.tokens = 4, .first_move = 0, .kept = kept}, 1);
  CHECK(scores_of(scorer, 4, 0) == std::vector<float>{1, 2, 6, 8});
  CHECK(scores_of(scorer, 4, 1) == std::vector<float>{2, 8, 0, 0});
  LongFlow fork = scorer;
  scorer.forget(0, 1, 0);
  CHECK(scores_of(scorer, 2, 1) == std::vector<float>{0, 8});
  CHECK(scores_of(fork, 2, 1) == std::vector<float>{2, 8});

  lethe::detail::StateWriter writer;
  LongFlow::archive(writer, fork);
  LongFlow restored = make_long_flow(heads);
  lethe::detail::StateReader reader(writer.bytes());
  LongFlow::archive(reader, restored);
  REQUIRE(reader.at_end());
  CHECK(restored.valid());
  CHECK(scores_of(restored, 2, 1) == std::vector<float>{2, 8});
}

TEST_CASE("a forgotten slot loses its mass, and its weight until the next round") {
  LongFlow scorer = make_long_flow();
  const RowCache cache = make_cache();
  const auto look = [&](LongFlow& own) {
    own.record(0, 0, 0, 0, std::vector<float>{1, 1, 1, 1});
    own.advance(1);
  };
  look(scorer);
  scorer.read(cache, 0, 0, ascending_positions(4));
  CHECK(scores_of(scorer, 4) == std::vector<float>{2, 4, 6, 8});
  scorer.forget(0, 0, 2);
  LongFlow seen_again = scorer;
  look(seen_again);
  CHECK(scores_of(seen_again, 4) == std::vector<float>{2, 4, 0, 8});
  scorer.read(cache, 0, 0, ascending_positions(4));
  CHECK(scores_of(scorer, 4) == std::vector<float>{2, 4, 0, 8});
  LongFlow anew = scorer;
  anew.reset();
  look(anew);
  CHECK(scores_of(anew, 4) == std::vector<float>(4, 0.0f));
  scorer.reset();
  scorer.read(cache, 0, 0, ascending_positions(4));
  CHECK(scores_of(scorer, 4) == std::vector<float>(4, 0.0f));
}

TEST_CASE("a scorer that reads the cache itself can be weighted") {
  using Inner = lethe::CacheScore<lethe::ValueNorm>;
  lethe::Weighted<Inner, lethe::ValueRange> scorer(
      {.score = {.heads = head_shape}, .heads = head_shape}, {.layers = 1, .slots = 8});
  scorer.read(make_cache(), 0, 0, ascending_positions(4));
  // Each the sum of two heads: |v|_1 is p + 1, and so is the range.
  CHECK(scores_of(scorer, 4) == std::vector<float>{4, 16, 36, 64});
}

TEST_CASE("neither mass nor values that are not finite are lost") {
  for (const float odd : {not_a_number, infinity}) {
    LongFlow scorer = make_long_flow();
    RowCache cache = make_cache();
    scorer.record(0, 0, 0, 0, std::vector<float>{1, odd, 0, 1});
    scorer.advance(1);
    cache.rows[0][1][2].value[3] = odd;
    scorer.read(cache, 0, 0, ascending_positions(4));
    const std::vector<float> found = scores_of(scorer, 4);
    CHECK(lethe::is_finite(found[0]));
    CHECK_FALSE(lethe::is_finite(found[1]));
    CHECK_FALSE(lethe::is_finite(found[2]));  // although nobody looked at it
    CHECK(lethe::is_finite(found[3]));
  }
}

TEST_CASE("the settings of both are checked") {
  const lethe::ScoreShape shape{.layers = 1, .groups = 3, .slots = 8};
  CHECK_THROWS_WITH(LongFlow({.score = {.window = 1}, .heads = head_shape}, shape),
                    Catch::Contains("groups = 3"));
  CHECK_THROWS_WITH(LongFlow({.score = {.window = 0}, .heads = head_shape}, shape),
                    Catch::Contains("window = 0"));
  CHECK_THROWS_WITH(LongFlow({.score = {.window = 1}}, {.layers = 1, .slots = 8}),
                    Catch::Contains("heads.kv_heads = 0"));
}
