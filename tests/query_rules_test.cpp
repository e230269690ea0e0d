// Every rule that learns from queries, against its formula in double precision, over rounds that
// drop tokens.
#include <algorithm>
#include <bit>
#include <cmath>
#include <complex>
#include <functional>
#include <numeric>
#include <span>
#include <vector>

#include "catch.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/cache_score.hpp"
#include "lethe/score/rules/capacity.hpp"
#include "lethe/score/rules/expected_mass.hpp"
#include "lethe/score/rules/trigonometric.hpp"
#include "lethe/score/rules/two_pace_mass.hpp"
#include "row_cache.hpp"

namespace {

using lethe::CacheScore;
using lethe::Position;
using lethe::RotaryPairs;
using Row = std::vector<double>;
using Rows = std::vector<Row>;
using Factor = std::complex<double>;

constexpr std::size_t layers = 2, heads = 2, capacity = 48, channels = 10, value_channels = 7;
constexpr lethe::HeadShape head_shape{
    .kv_heads = heads, .key_dimension = channels, .value_dimension = value_channels};
// Two channels of the ten are not rotated.
const std::vector<float> frequencies{1.0f, 0.2f, 0.03f, 0.0005f};

/// How queries and keys turn.
struct Turns {
  RotaryPairs layout = RotaryPairs::neighbours;
  std::vector<float> each = frequencies;

  [[nodiscard]] std::size_t x(std::size_t pair) const {
    return layout == RotaryPairs::halves ? pair : 2 * pair;
  }
  [[nodiscard]] std::size_t y(std::size_t pair) const {
    return layout == RotaryPairs::halves ? pair + each.size() : 2 * pair + 1;
  }
  [[nodiscard]] Factor pair(const Row& row, std::size_t pair) const {
    return {row[x(pair)], row[y(pair)]};
  }
  [[nodiscard]] double angle(std::size_t pair, double distance) const {
    return static_cast<double>(each[pair]) * distance;
  }
  [[nodiscard]] Row turned(Row row, double distance) const {
    for (std::size_t f = 0; f < each.size(); ++f) {
      const Factor product = pair(row, f) * std::polar(1.0, angle(f, distance));
      row[x(f)] = product.real();
      row[y(f)] = product.imag();
    }
    return row;
  }
  /// The mean over distances of what `turned` gives.
  [[nodiscard]] Row mean_turned(Row row, const std::vector<double>& distances) const {
    for (std::size_t f = 0; f < each.size(); ++f) {
      Factor sum = 0;
      for (const double distance : distances) sum += std::polar(1.0, angle(f, distance));
      const Factor product = pair(row, f) * sum / static_cast<double>(distances.size());
      row[x(f)] = product.real();
      row[y(f)] = product.imag();
    }
    return row;
  }
};

double dot(const Row& a, const Row& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}
double norm(const Row& row) { return std::sqrt(dot(row, row)); }

/// The queries of a text, rotation undone, and as they enter attention.
struct Text {
  Text(const Turns& given, std::size_t heads_each, std::uint64_t seed)
      : turns(given), each(heads_each), samples(seed), plain(layers) {}

  /// All heads' queries of the next token; each head has a mean and a direction of its own.
  std::vector<float> next(std::size_t layer, Position position) {
    std::vector<float> side_by_side;
    plain[layer].resize(position + 1);
    for (std::size_t head = 0; head < heads * each; ++head) {
      const float along = samples.between(-2.0f, 2.0f);
      Row row;
      for (std::size_t c = 0; c < channels; ++c) {
        const auto place = static_cast<double>((c * 7 + head * 5 + layer * 3) % 11);
        const double noise = static_cast<double>(samples.between(-0.5f, 0.5f));
        row.push_back(0.2 * (place - 5.0) + static_cast<double>(along) * (place > 6 ? 1 : -0.3) +
                      noise);
      }
      for (const double channel : turns.turned(row, position)) {
        side_by_side.push_back(static_cast<float>(channel));
      }
      plain[layer][position].push_back(row);
    }
    return side_by_side;
  }

  /// Queries of one head from a position on.
  [[nodiscard]] Rows of(std::size_t layer, std::size_t head, std::size_t first = 0) const {
    Rows rows;
    for (std::size_t i = first; i < plain[layer].size(); ++i) rows.push_back(plain[layer][i][head]);
    return rows;
  }

  Turns turns;
  std::size_t each;
  Samples samples;
  /// [layer][position][head]
  std::vector<std::vector<Rows>> plain;
};

Row mean_of(const Rows& rows) {
  Row mean(channels, 0.0);
  for (const Row& row : rows) {
    for (std::size_t c = 0; c < channels; ++c) mean[c] += row[c] / static_cast<double>(rows.size());
  }
  return mean;
}

Rows covariance_of(const Rows& rows) {
  const Row mean = mean_of(rows);
  Rows result(channels, Row(channels, 0.0));
  for (const Row& row : rows) {
    for (std::size_t a = 0; a < channels; ++a) {
      for (std::size_t b = 0; b < channels; ++b) {
        result[a][b] += (row[a] - mean[a]) * (row[b] - mean[b]) / static_cast<double>(rows.size());
      }
    }
  }
  return result;
}

std::vector<double> distances_after(Position newest, const std::vector<double>& offsets) {
  std::vector<double> distances;
  for (const double offset : offsets) distances.push_back(newest + offset);
  return distances;
}

std::vector<double> next(std::size_t count) {
  std::vector<double> offsets(count);
  std::iota(offsets.begin(), offsets.end(), 1.0);
  return offsets;
}

/// k'(R Sigma R')k, the mean rotation R written out as a matrix.
double spread(const Row& key, const Rows& covariance, const Rows& columns) {
  Row back(channels, 0.0);
  for (std::size_t c = 0; c < channels; ++c) back[c] = dot(columns[c], key);
  double sum = 0;
  for (std::size_t a = 0; a < channels; ++a) sum += back[a] * dot(covariance[a], back);
  return sum;
}

/// The columns of the mean rotation.
Rows columns_of(const Turns& turns, const std::vector<double>& distances) {
  Rows columns;
  for (std::size_t c = 0; c < channels; ++c) {
    Row unit(channels, 0.0);
    unit[c] = 1;
    columns.push_back(turns.mean_turned(unit, distances));
  }
  return columns;
}

Row naive_expected(const NaiveHead& head, const Text& text, std::size_t horizon, std::size_t sinks,
                   double epsilon) {
  const std::vector<double> distances = distances_after(head.positions.back(), next(horizon));
  const Rows columns = columns_of(text.turns, distances);
  Row shares(head.keys.size(), 0.0);
  for (std::size_t h = 0; h < text.each; ++h) {
    const Rows queries = text.of(head.layer, head.head * text.each + h, sinks);
    const Row mean = text.turns.mean_turned(mean_of(queries), distances);
    const Rows covariance = covariance_of(queries);
    Row weights(head.keys.size(), 0.0);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (head.positions[i] < sinks) continue;
      const auto d = static_cast<double>(channels);
      weights[i] = std::exp(dot(mean, head.keys[i]) / std::sqrt(d) +
                            spread(head.keys[i], covariance, columns) / (2 * d));
    }
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      shares[i] += weights[i] / total / static_cast<double>(text.each);
    }
  }
  for (std::size_t i = 0; i < shares.size(); ++i) {
    shares[i] = head.positions[i] < sinks ? 0 : (shares[i] + epsilon) * norm(head.values[i]);
  }
  const double best = *std::max_element(shares.begin(), shares.end());
  for (std::size_t i = 0; i < shares.size(); ++i) {
    if (head.positions[i] < sinks) shares[i] = best;
  }
  return shares;
}

/// One query head's scores of the tokens, wave by wave.
Row naive_waves(const NaiveHead& head, const Text& text, std::size_t query_head,
                std::size_t offsets) {
  const Turns& turns = text.turns;
  const Rows queries = text.of(head.layer, query_head);
  const Row mean = mean_of(queries);
  Row scores(head.keys.size(), 0.0);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const Row key = turns.turned(head.keys[i], -static_cast<double>(head.positions[i]));
    for (std::size_t f = 0; f < turns.each.size(); ++f) {
      const Factor relative = turns.pair(mean, f) * std::conj(turns.pair(key, f));
      double length = 0;
      for (const Row& query : queries) {
        length += std::abs(turns.pair(query, f)) / static_cast<double>(queries.size());
      }
      for (std::size_t o = 0; o < offsets; ++o) {
        const double distance = static_cast<double>(head.positions.back()) +
                                std::ldexp(1.0, int(o)) - static_cast<double>(head.positions[i]);
        scores[i] += std::abs(relative) * std::cos(turns.angle(f, distance) + std::arg(relative)) /
                     double(offsets);
      }
      scores[i] += (length - std::abs(turns.pair(mean, f))) * std::abs(turns.pair(key, f));
    }
    for (std::size_t c = 2 * turns.each.size(); c < channels; ++c) scores[i] += mean[c] * key[c];
  }
  return scores;
}

Row naive_trigonometric(const NaiveHead& head, const Text& text, std::size_t offsets) {
  Row best(head.keys.size(), -1e300);
  const auto tokens = static_cast<double>(best.size());
  for (std::size_t h = 0; h < text.each; ++h) {
    const Row scores = naive_waves(head, text, head.head * text.each + h, offsets);
    const double mean = std::accumulate(scores.begin(), scores.end(), 0.0) / tokens;
    double variance = 0;
    for (const double score : scores) variance += (score - mean) * (score - mean) / tokens;
    for (std::size_t i = 0; i < best.size(); ++i) {
      best[i] = std::max(best[i], (scores[i] - mean) / std::max(std::sqrt(variance), 1e-6));
    }
  }
  const double least = *std::min_element(best.begin(), best.end());
  for (double& score : best) score -= least;
  return best;
}

/// x with matrix x = right, by elimination.
Row solved(Rows matrix, Row right) {
  for (std::size_t c = 0; c < right.size(); ++c) {
    for (std::size_t r = 0; r < right.size(); ++r) {
      if (r == c) continue;
      const double factor = matrix[r][c] / matrix[c][c];
      for (std::size_t k = c; k < right.size(); ++k) matrix[r][k] -= factor * matrix[c][k];
      right[r] -= factor * right[c];
    }
  }
  for (std::size_t c = 0; c < right.size(); ++c) right[c] /= matrix[c][c];
  return right;
}

Row naive_capacity(const NaiveHead& head, const Text& text, double sharpness, std::size_t horizon) {
  Rows queries;
  for (std::size_t h = 0; h < text.each; ++h) {
    queries.push_back(mean_of(text.of(head.layer, head.head * text.each + h)));
  }
  const Row mean = text.turns.mean_turned(mean_of(queries),
                                          distances_after(head.positions.back(), next(horizon)));
  Rows matrix(value_channels, Row(value_channels, 0.0));
  for (std::size_t c = 0; c < value_channels; ++c) matrix[c][c] = 1;
  Row weights;
  for (std::size_t i = 0; i < head.keys.size(); ++i) {
    const double cosine = dot(head.keys[i], mean) / (norm(head.keys[i]) * norm(mean));
    weights.push_back(std::exp(sharpness * cosine));
    for (std::size_t a = 0; a < value_channels; ++a) {
      for (std::size_t b = 0; b < value_channels; ++b) {
        matrix[a][b] += weights[i] * head.values[i][a] * head.values[i][b];
      }
    }
  }
  Row scores;
  for (std::size_t i = 0; i < head.keys.size(); ++i) {
    scores.push_back(weights[i] * dot(head.values[i], solved(matrix, head.values[i])));
  }
  return scores;
}

/// The attention that the faded means of a KV head's queries pay, mean over them.
Row naive_pace(const NaiveHead& head, const Text& text, double decay) {
  Row attention(head.keys.size(), 0.0);
  for (std::size_t h = 0; h < text.each; ++h) {
    const Rows queries = text.of(head.layer, head.head * text.each + h);
    Row mean(channels, 0.0);
    double weights = 0;
    for (std::size_t q = 0; q < queries.size(); ++q) {
      const double weight = std::pow(decay, static_cast<double>(queries.size() - 1 - q));
      for (std::size_t c = 0; c < channels; ++c) mean[c] += weight * queries[q][c];
      weights += weight;
    }
    for (double& channel : mean) channel /= weights;
    const Row turned = text.turns.turned(mean, static_cast<double>(head.positions.back()) + 1);
    Row exponentials;
    for (const Row& key : head.keys)
      exponentials.push_back(std::exp(dot(turned, key) / std::sqrt(double(channels))));
    const double total = std::accumulate(exponentials.begin(), exponentials.end(), 0.0);
    for (std::size_t i = 0; i < attention.size(); ++i)
      attention[i] += exponentials[i] / total / static_cast<double>(text.each);
  }
  return attention;
}

Row naive_two_pace(const NaiveHead& head, const Text& text, double short_decay, double long_decay) {
  Row scores = naive_pace(head, text, short_decay);
  const Row slow = naive_pace(head, text, long_decay);
  for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = std::max(scores[i], slow[i]);
  return scores;
}

std::size_t naive_covering(Row attention, double coverage) {
  std::sort(attention.begin(), attention.end(), std::greater<double>());
  double covered = 0;
  std::size_t count = 0;
  for (; count < attention.size() && covered < coverage; ++count) covered += attention[count];
  return count;
}

struct Setting {
  std::size_t groups = 1;
  lethe::Scope scope = lethe::Scope::layer;
  Turns turns{};
  std::size_t heads_each = 2;
};

using Formula = std::function<Row(const NaiveHead&, const Text&)>;

/// The largest error, as a share of the best score; much for one that is negative or NaN.
double difference(std::span<const float> found, const Row& expected) {
  double worst = found.size() == expected.size() ? 0 : 1e9;
  const double best = *std::max_element(expected.begin(), expected.end());
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double error = std::abs(static_cast<double>(found[i]) - expected[i]) / best;
    worst = found[i] >= 0.0f ? std::max(worst, error) : 1e9;
  }
  return worst;
}

/// A pruner, and a scorer told the same, that decode a text together.
template <class Rule, class Cache>
struct Decoding {
  using Scorer = CacheScore<Rule>;

  Decoding(const typename Rule::Config& rule, const Setting& chosen, const Formula& rule_formula)
      : setting(chosen),
        naive(rule_formula),
        text(chosen.turns, chosen.heads_each, 83),
        score{.rule = rule, .heads = head_shape},
        pruner({.layers = layers,
                .capacity = capacity,
                .groups = chosen.groups,
                .scope = chosen.scope},
               {.retention = {.first_tokens = 4, .recent_tokens = 6}}, score, {}),
        scorer(score, {.layers = layers, .groups = chosen.groups, .slots = capacity}) {}

  NaiveScores formula() const {
    return [this](const NaiveHead& head) { return naive(head, text); };
  }

  void step(Position position) {
    append_token(cache, samples, position, channels, value_channels);
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const std::vector<float> query = text.next(layer, position);
      pruner.observe(
          layer, lethe::Queries<float>{
                     .data = query.data(), .heads = heads * text.each, .head_dimension = channels});
      scorer.record_query(layer, position, query);
    }
    pruner.commit();
  }

  /// The scores of what `before` held must be the formula's.
  void require_naive(const Cache& before) {
    const std::size_t share = heads / setting.groups;
    for (std::size_t layer = 0; layer < layers; ++layer) {
      for (std::size_t group = 0; group < setting.groups; ++group) {
        const auto positions = before.positions(layer, group * share);
        scorer.read(before, layer, group, positions);
        const Row expected =
            naive_sum(before, layer, group * share, (group + 1) * share, formula());
        CAPTURE(layer, group);
        REQUIRE(difference(scorer.score(layer, group, positions, {}), expected) < 4e-6);
      }
    }
  }

  /// Of every kept set: the formula's scores.
  std::vector<Row> naive_scores(const Cache& before) const {
    std::vector<Row> scores;
    for (std::size_t layer = 0; layer < layers; ++layer) {
      for (std::size_t set = 0; set < sets(); ++set) {
        scores.push_back(naive_sum(before, layer, set, sets() == 1 ? heads : set + 1, formula()));
      }
    }
    return scores;
  }

  /// The best must have stayed; the token at `newest` came later.
  void require_best_kept(const Cache& before, const std::vector<Row>& scores, Position newest) {
    for (std::size_t layer = 0; layer < layers; ++layer) {
      for (std::size_t set = 0; set < sets(); ++set) {
        const Row& own = scores[layer * sets() + set];
        const double tolerance = 2e-5 * *std::max_element(own.begin(), own.end());
        std::vector<Position> kept = cache.positions(layer, set);
        std::erase(kept, newest);
        CAPTURE(layer, set);
        REQUIRE(keeps_best(own, before.positions(layer, set), kept, 4, 6, tolerance));
      }
    }
  }

  [[nodiscard]] std::size_t sets() const { return setting.scope == lethe::Scope::head ? heads : 1; }

  Setting setting;
  Formula naive;
  Text text;
  typename Scorer::Config score;
  lethe::Pruner<Scorer, lethe::UniformBudget> pruner;
  Scorer scorer;
  Cache cache{layers, heads};
  Samples samples{84};
};

template <class Rule, class Cache = RowCache>
std::size_t check_rounds(const typename Rule::Config& rule, const Setting& setting,
                         const Formula& naive) {
  Decoding<Rule, Cache> decoding(rule, setting, naive);
  std::size_t rounds = 0;
  for (Position position = 0; position < 80; ++position) {
    const Cache before = decoding.cache;
    if (decoding.pruner.make_room(decoding.cache, 1) == 0) {
      decoding.step(position);
      continue;
    }
    ++rounds;
    decoding.require_naive(before);
    const std::vector<Row> scores = decoding.naive_scores(before);
    decoding.step(position);
    decoding.require_best_kept(before, scores, position);
  }
  return rounds;
}

lethe::QueryHeads query_heads(const Setting& setting) {
  return {.heads = heads * setting.heads_each,
          .frequencies = setting.turns.each,
          .pairs = setting.turns.layout};
}

const std::vector<Setting> settings{
    {},
    {.groups = heads},
    {.groups = heads, .scope = lethe::Scope::head, .turns = {.layout = RotaryPairs::halves}},
    {.heads_each = 1},
    {.turns = {.layout = RotaryPairs::halves, .each = {}}, .heads_each = 3}};

template <class Rule>
void check_rule(typename Rule::Config rule, const Formula& naive) {
  for (const Setting& setting : settings) {
    CAPTURE(setting.groups, setting.heads_each, setting.turns.each.size());
    rule.queries = query_heads(setting);
    CHECK(check_rounds<Rule>(rule, setting, naive) > 4);
  }
  rule.queries = query_heads({});
  CHECK(check_rounds<Rule, OverwritingRowCache>(rule, {}, naive) > 20);
}

}  // namespace

TEST_CASE("expected attention is the softmax of Gaussian queries to come, times |v|") {
  check_rule<lethe::ExpectedMass>({}, [](const NaiveHead& head, const Text& text) {
    return naive_expected(head, text, 512, 4, 0.0);
  });
  check_rule<lethe::ExpectedMass>({.horizon = 20, .first_tokens = 9, .epsilon = 0.02f},
                                  [](const NaiveHead& head, const Text& text) {
                                    return naive_expected(head, text, 20, 9, 0.02f);
                                  });
}

TEST_CASE("waves of rotary pairs over many distances, standardised in each query head") {
  check_rule<lethe::Trigonometric>({}, [](const NaiveHead& head, const Text& text) {
    return naive_trigonometric(head, text, 17);
  });
  check_rule<lethe::Trigonometric>({.offsets = 3}, [](const NaiveHead& head, const Text& text) {
    return naive_trigonometric(head, text, 3);
  });
}

TEST_CASE("capacity is the leverage of values, weighed by what the mean query looks for") {
  check_rule<lethe::Capacity>({}, [](const NaiveHead& head, const Text& text) {
    return naive_capacity(head, text, 5.0, 512);
  });
  check_rule<lethe::Capacity>(
      {.sharpness = 1.5f, .horizon = 1},
      [](const NaiveHead& head, const Text& text) { return naive_capacity(head, text, 1.5, 1); });
}

TEST_CASE("two-pace mass is the larger attention of a mean that fades fast and one that does not") {
  check_rule<lethe::TwoPaceMass>({}, [](const NaiveHead& head, const Text& text) {
    return naive_two_pace(head, text, static_cast<double>(0.9f), static_cast<double>(0.999f));
  });
  check_rule<lethe::TwoPaceMass>({.short_decay = 0.25f, .long_decay = 1.0f},
                                 [](const NaiveHead& head, const Text& text) {
                                   return naive_two_pace(head, text, 0.25, 1.0);
                                 });
}

TEST_CASE("a head grows with each round that finds the last queries to look at more tokens") {
  const Setting setting{.groups = heads, .scope = lethe::Scope::head};
  for (const float coverage : {0.99f, 0.6f}) {
    lethe::TwoPaceMass::Config rule{.queries = query_heads(setting), .coverage = coverage};
    Decoding<lethe::TwoPaceMass, RowCache> decoding(
        rule, setting, [](const NaiveHead& head, const Text& text) {
          return naive_two_pace(head, text, static_cast<double>(0.9f), static_cast<double>(0.999f));
        });
    std::vector<std::size_t> expected(layers * heads, 0);
    std::size_t rounds = 0;
    for (Position position = 0; position < 300; ++position) {
      const RowCache before = decoding.cache;
      rounds += decoding.pruner.make_room(decoding.cache, 1) != 0 ? 1 : 0;
      const bool pruned = decoding.cache.size(0) != before.size(0);
      for (std::size_t i = 0; pruned && i < expected.size(); ++i) {
        const std::size_t layer = i / heads, head = i % heads;
        const NaiveHead rows = naive_head(before, layer, head);
        const auto covering = [&](float decay) {
          return naive_covering(naive_pace(rows, decoding.text, static_cast<double>(decay)),
                                static_cast<double>(coverage));
        };
        expected[i] += covering(0.9f) > covering(0.999f) ? 1 : 0;
        decoding.scorer.read(before, layer, head, before.positions(layer, head));
        const lethe::EvictionPlan plan{.layer = static_cast<std::uint32_t>(layer)};
        decoding.scorer.keep(plan, head);
        CAPTURE(position, layer, head);
        REQUIRE(decoding.scorer.growth(layer, head) == expected[i]);
      }
      decoding.step(position);
    }
    const std::size_t grown = std::accumulate(expected.begin(), expected.end(), std::size_t{0});
    CHECK(grown > 2);
    CHECK(grown < rounds * expected.size());
  }
}
