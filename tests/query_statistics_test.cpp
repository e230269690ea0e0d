#include "lethe/query_statistics.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "lethe/policies/queries.hpp"
#include "lethe/score/rules/key_norm.hpp"
#include "row_cache.hpp"
#include "samples.hpp"

namespace {

using lethe::Position;
using lethe::QueryStatistics;
using Row = std::vector<float>;

constexpr std::size_t layers = 2, heads = 2, channels = 6;
constexpr std::size_t entries = QueryStatistics::triangle(channels);
const lethe::QueryHeads shape{.heads = heads, .frequencies = {0.7f, 0.01f}};
constexpr lethe::QueryMoments every{.covariance = true, .pair_lengths = true};

QueryStatistics make(const lethe::QueryMoments& moments = every) {
  return {shape, channels, layers, moments};
}

/// All that is known of a layer, as bits.
std::vector<std::uint32_t> known(const QueryStatistics& statistics, std::size_t layer) {
  Row all;
  for (std::size_t head = 0; head < heads; ++head) {
    Row mean(channels), covariance(entries), lengths(2);
    statistics.mean(layer, head, mean);
    statistics.covariance(layer, head, covariance);
    statistics.pair_lengths(layer, head, lengths);
    for (const Row* part : {&mean, &covariance, &lengths}) {
      all.insert(all.end(), part->begin(), part->end());
    }
  }
  std::vector<std::uint32_t> bits;
  for (const float value : all) bits.push_back(std::bit_cast<std::uint32_t>(value));
  return bits;
}

Row draw(Samples& samples) { return samples.row(heads * channels, -1.0f, 1.0f); }

/// Saves one and reads it into another; whether that holds together.
bool restore(const QueryStatistics& from, QueryStatistics& to) {
  lethe::detail::StateWriter writer;
  QueryStatistics::archive(writer, from);
  const std::vector<std::byte> bytes = writer.take();
  lethe::detail::StateReader reader(bytes);
  QueryStatistics::archive(reader, to);
  return reader.at_end() && to.valid();
}

}  // namespace

TEST_CASE("before the first query every statistic is 0") {
  const QueryStatistics statistics = make();
  CHECK(statistics.count(1) == 0);
  for (const std::uint32_t bits : known(statistics, 1)) CHECK(bits == 0);
}

TEST_CASE("one query is its own mean, without spread") {
  QueryStatistics statistics = make();
  const Row query{3, 4, 0, 0, 1, 2, 0, 0, 6, 8, 3, -1};
  statistics.record(1, 0, query);
  CHECK(statistics.count(0) == 0);
  CHECK(statistics.count(1) == 1);
  Row mean(channels), covariance(entries), lengths(2);
  statistics.mean(1, 0, mean);
  CHECK(mean == Row{3, 4, 0, 0, 1, 2});
  statistics.pair_lengths(1, 0, lengths);
  CHECK(lengths == Row{5, 0});
  statistics.pair_lengths(1, 1, lengths);
  CHECK(lengths == Row{0, 10});
  statistics.covariance(1, 1, covariance);
  CHECK(covariance == Row(entries, 0.0f));
}

TEST_CASE("the covariance is that of all queries, as a lower triangle") {
  QueryStatistics statistics({.heads = 1}, 2, 1, every);
  for (const Row& query : {Row{1, 2}, Row{3, 2}, Row{1, 8}, Row{3, 4}}) {
    statistics.record(0, 0, query);
  }
  Row covariance(3);
  statistics.covariance(0, 0, covariance);
  CHECK(covariance == Row{1, -1, 6});
}

TEST_CASE("queries fade by the decay in the mean, and in every other moment") {
  QueryStatistics statistics({.heads = 1}, 2, 2, {.covariance = true, .decay = 0.5});
  statistics.record(1, 0, Row{9, 9});
  for (const Row& query : {Row{8, 0}, Row{0, 2}, Row{2, 6}}) statistics.record(0, 0, query);
  // Weights 1/4, 1/2 and 1.
  Row mean(2), covariance(3);
  statistics.mean(0, 0, mean);
  CHECK_THAT(mean[0], WithinAbs(4 / 1.75, 1e-6));
  CHECK_THAT(mean[1], WithinAbs(7 / 1.75, 1e-6));
  statistics.covariance(0, 0, covariance);
  CHECK_THAT(covariance[0], WithinAbs(20 / 1.75 - 16 / 3.0625, 1e-5));
  CHECK_THAT(covariance[1], WithinAbs(12 / 1.75 - 28 / 3.0625, 1e-5));
  statistics.mean(1, 0, mean);
  CHECK(mean == Row{9, 9});
  QueryStatistics other({.heads = 1}, 2, 2, {.covariance = true, .decay = 0.25});
  CHECK_FALSE(restore(statistics, other));
}

TEST_CASE("queries turned by their positions are known as they were before") {
  Samples samples(331);
  QueryStatistics still = make();
  QueryStatistics turning = make();
  for (Position position = 0; position < 40; ++position) {
    const Row query = draw(samples);
    Row turned = query;
    lethe::Rotation rotation(shape.frequencies, shape.pairs);
    rotation.set_position(position);
    for (std::size_t head = 0; head < heads; ++head) {
      rotation.turn(std::span(turned).subspan(head * channels, channels));
    }
    still.record(0, 0, query);
    turning.record(0, position, turned);
  }
  const auto expected = known(still, 0);
  const auto found = known(turning, 0);
  for (std::size_t i = 0; i < found.size(); ++i) {
    CHECK_THAT(std::bit_cast<float>(found[i]), WithinAbs(std::bit_cast<float>(expected[i]), 1e-6));
  }
}

TEST_CASE("queries of sinks, and those that are not finite, do not count") {
  Samples samples(332);
  QueryStatistics statistics =
      make({.covariance = true, .pair_lengths = true, .first_position = 4});
  QueryStatistics expected = make();
  for (Position position = 0; position < 9; ++position) {
    Row query = draw(samples);
    if (position >= 4 && position != 6 && position != 8) expected.record(1, position, query);
    if (position == 6) query[heads * channels - 1] = not_a_number;
    if (position == 8) query[0] = -infinity;
    statistics.record(1, position, query);
  }
  CHECK(statistics.count(1) == 3);
  CHECK(known(statistics, 1) == known(expected, 1));
}

TEST_CASE("statistics are saved, restored and reset whole") {
  Samples samples(333);
  QueryStatistics first = make();
  QueryStatistics second = make();
  for (Position position = 0; position < 5; ++position) first.record(0, position, draw(samples));
  REQUIRE(restore(first, second));
  CHECK(known(first, 0) == known(second, 0));
  const Row query = draw(samples);
  first.record(0, 5, query);
  second.record(0, 5, query);
  CHECK(known(first, 0) == known(second, 0));
  first.reset();
  CHECK(known(first, 0) == known(make(), 0));
}

TEST_CASE("sums that are not finite are no state") {
  for (const double sum : {1.0, -double(infinity), double(not_a_number)}) {
    QueryStatistics statistics({.heads = 1}, 1, 1, {});
    statistics.record(0, 0, Row{1.0f});
    lethe::detail::StateWriter writer;
    QueryStatistics::archive(writer, statistics);
    std::vector<std::byte> bytes = writer.take();
    const auto one = std::bit_cast<std::array<std::byte, 8>>(1.0);
    const auto other = std::bit_cast<std::array<std::byte, 8>>(sum);
    const auto place = std::search(bytes.begin(), bytes.end(), one.begin(), one.end());
    REQUIRE(place != bytes.end());
    std::copy(other.begin(), other.end(), place);
    lethe::detail::StateReader reader(bytes);
    QueryStatistics::archive(reader, statistics);
    REQUIRE(reader.at_end());
    CHECK(statistics.valid() == (sum == 1.0));
  }
}

TEST_CASE("sums of queries turned back otherwise are refused") {
  const lethe::QueryHeads queries{.heads = 1, .frequencies = {0.5f}};
  const QueryStatistics first(queries, 4, 1, {});
  const auto taken = [&](const lethe::QueryHeads& other, Position first_position) {
    QueryStatistics second(other, 4, 1, {.first_position = first_position});
    return restore(first, second);
  };
  CHECK(taken(queries, 0));
  CHECK_FALSE(taken(queries, 4));
  CHECK_FALSE(taken({.heads = 1, .frequencies = {0.25f}}, 0));
  CHECK_FALSE(taken({.heads = 1, .frequencies = {0.5f}, .pairs = lethe::RotaryPairs::halves}, 0));
  CHECK_FALSE(taken({.heads = 1, .frequencies = {0.5f}, .per_token = 2}, 0));
}

TEST_CASE("shapes that cannot be are refused by name") {
  using lethe::QueryHeads;
  const auto refused = [](const QueryHeads& queries, std::size_t dimension, std::size_t count) {
    return QueryStatistics(queries, dimension, count, {});
  };
  CHECK_THROWS_WITH(refused({}, 4, 1), Catch::Contains("queries.heads = 0"));
  CHECK_THROWS_WITH(refused({.heads = 1}, 0, 1), Catch::Contains("head_dimension = 0"));
  CHECK_THROWS_WITH(refused({.heads = 1, .frequencies = {1, 1}}, 3, 1),
                    Catch::Contains("queries.frequencies = 2"));
  CHECK_THROWS_WITH(refused({.heads = 1, .frequencies = {not_a_number}}, 4, 1),
                    Catch::Contains("queries.frequencies = 1"));
  CHECK_THROWS_WITH(refused({.heads = 1, .scale = -1}, 4, 1), Catch::Contains("queries.scale"));
  CHECK_THROWS_WITH(refused({.heads = 1 << 20}, 1 << 14, 1 << 10),
                    Catch::Contains("queries.heads = 1048576"));
}

namespace {

namespace policies = lethe::policies;

constexpr lethe::HeadShape rows{.kv_heads = heads, .key_dimension = channels};

template <class Rule>
using Scorer = lethe::CacheScore<Rule>;

static_assert(lethe::TokenScorer<Scorer<lethe::ExpectedMass>>);
static_assert(lethe::QueryReadingScorer<Scorer<lethe::ExpectedMass>>);
static_assert(!lethe::detail::ReadsQueries<Scorer<lethe::KeyNorm>>);
static_assert(policies::CapKV::reads_queries);

/// Scores of one layer's tokens.
template <class Rule>
Row read(Scorer<Rule>& scorer, const RowCache& cache) {
  const std::vector<Position> positions = cache.positions(0);
  scorer.read(cache, 0, 0, positions);
  const auto scores = scorer.score(0, 0, positions, {});
  return {scores.begin(), scores.end()};
}

template <class Rule>
Scorer<Rule> make_scorer() {
  return Scorer<Rule>({.rule = {.queries = {.heads = heads}}, .heads = rows},
                      {.layers = 1, .groups = 1, .slots = 16});
}

RowCache make_cache(std::uint64_t seed) {
  RowCache cache(1, heads);
  Samples samples(seed);
  for (Position position = 0; position < 12; ++position) {
    append_token(cache, samples, position, channels, channels);
  }
  return cache;
}

}  // namespace

TEMPLATE_TEST_CASE("scores follow queries, and their state is whole", "", lethe::ExpectedMass,
                   lethe::Trigonometric, lethe::Capacity, lethe::TwoPaceMass) {
  Samples samples(334);
  const RowCache cache = make_cache(335);
  Scorer<TestType> scorer = make_scorer<TestType>();
  const Row at_first = read(scorer, cache);
  for (Position position = 0; position < 9; ++position) {
    scorer.record_query(0, position, draw(samples));
  }
  const Row learnt = read(scorer, cache);
  CHECK(learnt != at_first);
  lethe::detail::StateWriter writer;
  Scorer<TestType>::archive(writer, scorer);
  const std::vector<std::byte> bytes = writer.take();
  Scorer<TestType> other = make_scorer<TestType>();
  lethe::detail::StateReader reader(bytes);
  Scorer<TestType>::archive(reader, other);
  REQUIRE(reader.at_end());
  CHECK(other.valid());
  CHECK(read(other, cache) == learnt);
  other.reset();
  CHECK(read(other, cache) == at_first);
  CHECK(read(scorer, cache) == learnt);
}

TEMPLATE_TEST_CASE("a token that is not finite shows, a query that is not does not", "",
                   lethe::ExpectedMass, lethe::Trigonometric, lethe::Capacity, lethe::TwoPaceMass) {
  Samples samples(336);
  RowCache cache = make_cache(337);
  Scorer<TestType> scorer = make_scorer<TestType>();
  for (Position position = 0; position < 9; ++position) {
    scorer.record_query(0, position, draw(samples));
  }
  const Row before = read(scorer, cache);
  scorer.record_query(0, 9, Row(heads * channels, not_a_number));
  CHECK(read(scorer, cache) == before);
  for (const float score : before) CHECK(lethe::is_finite(score));
  cache.rows[0][1][7].key[2] = not_a_number;
  CHECK_FALSE(lethe::is_finite(read(scorer, cache)[7]));
}

TEMPLATE_TEST_CASE("keys, values and queries of zeros are worth something finite", "",
                   lethe::ExpectedMass, lethe::Trigonometric, lethe::Capacity) {
  RowCache cache(1, heads);
  for (Position position = 0; position < 9; ++position) {
    for (std::size_t head = 0; head < heads; ++head) {
      cache.append(0, head, {position, Row(channels, 0.0f), Row(channels, 0.0f)});
    }
  }
  Scorer<TestType> scorer = make_scorer<TestType>();
  scorer.record_query(0, 5, Row(heads * channels, 0.0f));
  for (const float score : read(scorer, cache)) CHECK(score == 0.0f);
}

TEST_CASE("settings of policies that learn from queries are refused by name") {
  const lethe::PrunerConfig config{.layers = layers, .capacity = 64};
  const lethe::QueryHeads three{.heads = 3};
  CHECK_THROWS_WITH(policies::ExpectedAttention(config, {.queries = shape}),
                    Catch::Contains("heads.kv_heads = 0"));
  CHECK_THROWS_WITH(policies::TriAttention(config, {.heads = rows}),
                    Catch::Contains("queries.heads = 0"));
  CHECK_THROWS_WITH(policies::CapKV(config, {.heads = rows, .queries = three}),
                    Catch::Contains("queries.heads = 3"));
  CHECK_THROWS_WITH(
      policies::ExpectedAttention(config, {.heads = rows, .queries = shape, .horizon = 0}),
      Catch::Contains("horizon = 0"));
  CHECK_THROWS_WITH(
      policies::ExpectedAttention(config, {.heads = rows, .queries = shape, .epsilon = -1.0f}),
      Catch::Contains("epsilon = -1"));
  CHECK_THROWS_WITH(
      policies::TriAttention(config, {.heads = rows, .queries = shape, .offsets = 32}),
      Catch::Contains("offsets = 32"));
  const auto growing = [&](float short_decay, float long_decay, float coverage) {
    return policies::GrowPage(config, {.heads = rows,
                                       .queries = shape,
                                       .short_decay = short_decay,
                                       .long_decay = long_decay,
                                       .coverage = coverage});
  };
  CHECK_THROWS_WITH(growing(0.9f, 1.5f, 0.99f), Catch::Contains("long_decay = 1.5"));
  CHECK_THROWS_WITH(growing(0.9f, 0.5f, 0.99f), Catch::Contains("short_decay = 0.9"));
  CHECK_THROWS_WITH(growing(0.9f, 0.99f, 1.0f), Catch::Contains("coverage = 1"));
  CHECK_THROWS_WITH(policies::GrowPage(config, {.heads = rows, .queries = shape, .block = 0}),
                    Catch::Contains("block = 0"));
  CHECK_THROWS_WITH(policies::CapKV(config, {.heads = rows, .queries = shape, .sharpness = 81.0f}),
                    Catch::Contains("sharpness = 81"));
}
