// Decoding a text under a rule that learns from queries, beside the rule's formula in double
// precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <functional>
#include <numeric>
#include <span>
#include <vector>

#include "catch.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/cache_score.hpp"
#include "row_cache.hpp"

namespace query_text {

using lethe::CacheScore;
using lethe::Position;
using lethe::RotaryPairs;
using Row = std::vector<double>;
using Rows = std::vector<Row>;
using Factor = std::complex<double>;

inline constexpr std::size_t layers = 2, heads = 2, capacity = 48, channels = 10,
                             value_channels = 7;
inline constexpr lethe::HeadShape head_shape{
    .kv_heads = heads, .key_dimension = channels, .value_dimension = value_channels};
// Two channels of the ten are not rotated.
inline const std::vector<float> frequencies{1.0f, 0.2f, 0.03f, 0.0005f};

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

inline double dot(const Row& a, const Row& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}
inline double norm(const Row& row) { return std::sqrt(dot(row, row)); }

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

inline Row mean_of(const Rows& rows) {
  Row mean(channels, 0.0);
  for (const Row& row : rows) {
    for (std::size_t c = 0; c < channels; ++c) mean[c] += row[c] / static_cast<double>(rows.size());
  }
  return mean;
}

struct Setting {
  std::size_t groups = 1;
  lethe::Scope scope = lethe::Scope::layer;
  Turns turns{};
  std::size_t heads_each = 2;
};

using Formula = std::function<Row(const NaiveHead&, const Text&)>;

/// The largest error, as a share of the best score; much for one that is negative or NaN.
inline double difference(std::span<const float> found, const Row& expected) {
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

inline lethe::QueryHeads query_heads(const Setting& setting) {
  return {.heads = heads * setting.heads_each,
          .frequencies = setting.turns.each,
          .pairs = setting.turns.layout};
}

inline const std::vector<Setting> settings{
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

}  // namespace query_text
