// The rule of two means of the queries, against its formula in double precision, and how it asks
// for more tokens.
#include "lethe/score/rules/two_pace_mass.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "catch.hpp"
#include "query_text.hpp"

namespace {

using namespace query_text;

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

}  // namespace

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
