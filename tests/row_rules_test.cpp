// Every rule that scores tokens by their rows, against its formula in double precision, over rounds
// that drop tokens.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "catch.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/cache_score.hpp"
#include "lethe/score/rules/key_difference.hpp"
#include "lethe/score/rules/key_norm.hpp"
#include "lethe/score/rules/lag.hpp"
#include "lethe/score/rules/leverage.hpp"
#include "lethe/score/rules/value_size.hpp"
#include "row_cache.hpp"

namespace {

using lethe::CacheScore;
using Row = std::vector<double>;
using Rows = std::vector<Row>;

constexpr std::size_t layers = 2;
constexpr std::size_t heads = 3;
constexpr std::size_t capacity = 56;
constexpr lethe::HeadShape head_shape{.kv_heads = heads, .key_dimension = 10, .value_dimension = 7};

double absolute_norm(const Row& row) {
  double sum = 0;
  for (const double x : row) sum += std::abs(x);
  return sum;
}

double norm(const Row& row) {
  return std::sqrt(std::inner_product(row.begin(), row.end(), row.begin(), 0.0));
}

double largest(const Row& row) { return *std::max_element(row.begin(), row.end()); }
double smallest(const Row& row) { return *std::min_element(row.begin(), row.end()); }

template <class Term>
Row each(std::size_t count, Term&& term) {
  Row result;
  for (std::size_t i = 0; i < count; ++i) result.push_back(term(i));
  return result;
}

/// Minus the norm, raised until the least is 0.
Row naive_key_norm(const NaiveHead& head) {
  const Row norms = each(head.keys.size(), [&](std::size_t i) { return norm(head.keys[i]); });
  return each(norms.size(), [&](std::size_t i) { return largest(norms) - norms[i]; });
}

Row naive_key_difference(const NaiveHead& head) {
  const std::size_t channels = head.keys[0].size();
  Row mean(channels, 0.0);
  for (const Row& key : head.keys) {
    for (std::size_t c = 0; c < channels; ++c) {
      mean[c] += key[c] / norm(key) / static_cast<double>(head.keys.size());
    }
  }
  return each(head.keys.size(), [&](std::size_t i) {
    const Row& key = head.keys[i];
    const double dot = std::inner_product(key.begin(), key.end(), mean.begin(), 0.0);
    return 1.0 - dot / (norm(key) * norm(mean));
  });
}

/// Shares of the sum in blocks; the last may be short.
Row block_shares(const Rows& rows, std::size_t block) {
  return each(rows.size(), [&](std::size_t i) {
    const std::size_t begin = i / block * block;
    double total = 0;
    for (std::size_t j = begin; j < std::min(rows.size(), begin + block); ++j) {
      total += norm(rows[j]) * norm(rows[j]);
    }
    return norm(rows[i]) * norm(rows[i]) / total;
  });
}

Row naive_leverage(const Rows& keys, const Rows& values, std::size_t block) {
  const Row key_shares = block_shares(keys, block);
  const Row value_shares = block_shares(values, block);
  Row scores = each(keys.size(), [&](std::size_t i) { return key_shares[i] * value_shares[i]; });
  const double total = std::accumulate(scores.begin(), scores.end(), 0.0);
  for (double& score : scores) score /= total;
  return scores;
}

/// The matrix that a sketch draws: sums of twelve 16-bit numbers, less their mean.
Rows naive_matrix(std::uint64_t seed, const NaiveHead& head, std::size_t channels,
                  std::size_t columns) {
  std::uint64_t stream = lethe::detail::mix(seed);
  stream = lethe::detail::mix(stream ^ head.layer);
  stream = lethe::detail::mix(stream ^ head.head);
  stream = lethe::detail::mix(stream ^ head.positions.back());
  Rows matrix(channels, Row(columns, 0.0));
  std::uint64_t word = 0;
  for (Row& row : matrix) {
    for (double& entry : row) {
      for (int i = 0; i < 3; ++i) {
        const std::uint64_t bits = lethe::detail::mix(stream ^ word++);
        for (int part = 0; part < 4; ++part) {
          entry += (static_cast<double>(bits >> (16 * part) & 0xFFFFu) - 32767.5) / 65536.0;
        }
      }
    }
  }
  return matrix;
}

Rows times(const Rows& rows, const Rows& matrix) {
  Rows result;
  for (const Row& row : rows) {
    result.push_back(each(matrix[0].size(), [&](std::size_t j) {
      double sum = 0;
      for (std::size_t c = 0; c < row.size(); ++c) sum += row[c] * matrix[c][j];
      return sum;
    }));
  }
  return result;
}

Row naive_sketched_leverage(const NaiveHead& head, std::size_t columns, std::uint64_t seed) {
  const Rows matrix = naive_matrix(seed, head, head.keys[0].size(), columns);
  return naive_leverage(times(head.keys, matrix), times(head.values, matrix), 16);
}

/// LagKV's lag-relative deviation of partition `begin`, as a softmax over its tokens.
Row lag_softmax(const Rows& rows, std::size_t begin, std::size_t size) {
  const std::size_t channels = rows[0].size();
  const auto relative = [&](const Row& row, std::size_t c) {
    Row reference;
    for (std::size_t j = begin + size; j < begin + 2 * size; ++j) reference.push_back(rows[j][c]);
    const double range = largest(reference) - smallest(reference);
    return range > 0 ? (row[c] - smallest(reference)) / range : 0.0;
  };
  Row result = each(size, [&](std::size_t i) {
    const Row row = each(channels, [&](std::size_t c) { return relative(rows[begin + i], c); });
    const double mean = std::accumulate(row.begin(), row.end(), 0.0) / double(channels);
    double variance = 0;
    for (const double x : row) variance += (x - mean) * (x - mean) / double(channels - 1);
    return std::exp(std::sqrt(variance));
  });
  const double total = std::accumulate(result.begin(), result.end(), 0.0);
  for (double& entry : result) entry /= total;
  return result;
}

Row naive_lag(const NaiveHead& head, std::size_t sinks, std::size_t size) {
  const std::size_t tokens = head.keys.size();
  Row scores(tokens, 2.0);
  if (tokens <= sinks) return scores;
  const std::size_t whole = (tokens - sinks) / size;
  const std::size_t tail = whole < 2 ? sinks : sinks + (whole - 1) * size;
  for (std::size_t i = tail; i < tokens; ++i) {
    scores[i] = (whole < 2 ? 0.0 : 1.0) + double(i - tail) / double(tokens - tail);
  }
  for (std::size_t begin = sinks; begin < tail; begin += size) {
    const Row keys = lag_softmax(head.keys, begin, size);
    const Row values = lag_softmax(head.values, begin, size);
    for (std::size_t i = 0; i < size; ++i) {
      const double own = (keys[i] + values[i]) / 2;
      const auto below = [&](std::size_t j) { return (keys[j] + values[j]) / 2 < own; };
      double rank = 0;
      for (std::size_t j = 0; j < size; ++j) rank += below(j) ? 1 : 0;
      scores[begin + i] = rank / double(size);
    }
  }
  return scores;
}

Row naive_value_norm(const NaiveHead& head) {
  return each(head.values.size(), [&](std::size_t i) { return absolute_norm(head.values[i]); });
}

Row naive_largest_value_norm(const NaiveHead& head) {
  const double longest = largest(naive_value_norm(head));
  return each(head.values.size(), [&](std::size_t) { return longest; });
}

Row naive_value_range(const NaiveHead& head) {
  return each(head.values.size(),
              [&](std::size_t i) { return largest(head.values[i]) - smallest(head.values[i]); });
}

Row naive_value_over_key(const NaiveHead& head) {
  return each(head.values.size(),
              [&](std::size_t i) { return norm(head.values[i]) / norm(head.keys[i]); });
}

/// The largest difference of scores that should be the same, relative to those above 1; a score
/// that is negative or NaN differs by much.
double difference(std::span<const float> found, const Row& expected) {
  if (found.size() != expected.size()) return 1e9;
  double worst = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double error = std::abs(double(found[i]) - expected[i]) / (1.0 + expected[i]);
    worst = found[i] >= 0.0f ? std::max(worst, error) : 1e9;
  }
  return worst;
}

/// Scores of every layer and group.
template <class Rule>
void require_naive(CacheScore<Rule>& scorer, const RowCache& cache, std::size_t groups,
                   const NaiveScores& naive) {
  const std::size_t share = heads / groups;
  std::vector<float> scratch(capacity);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    for (std::size_t group = 0; group < groups; ++group) {
      const auto positions = cache.positions(layer, group * share);
      scorer.read(cache, layer, group, positions);
      CAPTURE(layer, group);
      REQUIRE(difference(scorer.score(layer, group, positions, scratch),
                         naive_sum(cache, layer, group * share, (group + 1) * share, naive)) <
              2e-6);
    }
  }
}

struct Setting {
  std::size_t groups = 1;
  lethe::Scope scope = lethe::Scope::layer;
};

/// Whether a round left the best of what `before` held.
template <class Cache>
void require_best_kept(const Cache& before, const Cache& after, const Setting& setting,
                       const NaiveScores& naive) {
  const bool apart = setting.scope == lethe::Scope::head;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    for (std::size_t set = 0; set < (apart ? heads : 1); ++set) {
      const Row scores = apart ? naive_sum(before, layer, set, set + 1, naive)
                               : naive_sum(before, layer, 0, heads, naive);
      CAPTURE(layer, set);
      REQUIRE(keeps_best(scores, before.positions(layer, set), after.positions(layer, set), 4, 6,
                         1e-5 * largest(scores)));
    }
  }
}

/// The cache without the token that came last.
template <class Cache>
Cache without(Cache cache, lethe::Position position) {
  for (auto& layer : cache.rows) {
    for (auto& head : layer) {
      std::erase_if(head, [&](const CachedRow& row) { return row.position == position; });
    }
  }
  return cache;
}

/// Decodes 90 tokens; every round's scores and kept sets must be the formula's. Returns the
/// rounds.
template <class Cache, class Rule>
std::size_t check_rounds(const typename Rule::Config& rule, const Setting& setting,
                         const NaiveScores& naive) {
  const typename CacheScore<Rule>::Config score{.rule = rule, .heads = head_shape};
  lethe::Pruner<CacheScore<Rule>, lethe::UniformBudget> pruner(
      {.layers = layers, .capacity = capacity, .groups = setting.groups, .scope = setting.scope},
      {.retention = {.first_tokens = 4, .recent_tokens = 6}}, score, {});
  CacheScore<Rule> scorer(score, {.layers = layers, .groups = setting.groups, .slots = capacity});
  Cache cache(layers, heads);
  Samples samples(71);
  std::size_t rounds = 0;
  for (lethe::Position position = 0; position < 90; ++position) {
    const Cache before = cache;
    const bool dropped = pruner.make_room(cache, 1) != 0;
    append_token(cache, samples, position, head_shape.key_dimension, head_shape.value_channels());
    pruner.commit();
    if (!dropped) continue;
    ++rounds;
    require_naive(scorer, before, setting.groups, naive);
    require_best_kept(before, without(cache, position), setting, naive);
  }
  return rounds;
}

template <class Rule>
void check_rule(const NaiveScores& naive, const typename Rule::Config& rule = {}) {
  for (const Setting& setting :
       {Setting{1, lethe::Scope::layer}, Setting{heads, lethe::Scope::layer},
        Setting{heads, lethe::Scope::head}}) {
    CHECK(check_rounds<RowCache, Rule>(rule, setting, naive) > 4);
  }
  CHECK(check_rounds<OverwritingRowCache, Rule>(rule, {}, naive) > 30);
}

}  // namespace

TEST_CASE("short keys stay") { check_rule<lethe::KeyNorm>(naive_key_norm); }

TEST_CASE("keys far from the mean key stay") {
  check_rule<lethe::KeyDifference>(naive_key_difference);
}

TEST_CASE("leverage is the product of shares among neighbours") {
  check_rule<lethe::Leverage>(
      [](const NaiveHead& head) { return naive_leverage(head.keys, head.values, 16); });
  check_rule<lethe::Leverage>(
      [](const NaiveHead& head) { return naive_leverage(head.keys, head.values, 5); },
      {.block = 5});
}

TEST_CASE("leverage of rows times a matrix that each round draws anew") {
  check_rule<lethe::Leverage>(
      [](const NaiveHead& head) { return naive_sketched_leverage(head, 4, 9); },
      {.sketch = 4, .seed = 9});
}

TEST_CASE("tokens that stick out against the next partition stay, as many in each") {
  check_rule<lethe::Lag>([](const NaiveHead& head) { return naive_lag(head, 4, 8); },
                         {.sinks = 4, .partition = 8});
  check_rule<lethe::Lag>([](const NaiveHead& head) { return naive_lag(head, 3, 40); },
                         {.sinks = 3, .partition = 40});
}

TEST_CASE("large values stay, in four measures of size") {
  check_rule<lethe::ValueNorm>(naive_value_norm);
  check_rule<lethe::LargestValueNorm>(naive_largest_value_norm);
  check_rule<lethe::ValueRange>(naive_value_range);
  check_rule<lethe::ValueOverKey>(naive_value_over_key);
}
