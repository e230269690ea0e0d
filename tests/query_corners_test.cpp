#include <cstddef>
#include <vector>

#include "catch.hpp"
#include "lethe/policies/queries.hpp"

namespace {

using Row = std::vector<float>;

/// What a rule makes of one KV head, after one query.
template <class Rule>
Row scores_of(const typename Rule::Config& config, const Row& query, const Row& keys,
              const Row& values, std::size_t tokens) {
  const lethe::HeadShape heads{.kv_heads = 1,
                               .key_dimension = keys.size() / tokens,
                               .value_dimension = values.size() / tokens};
  Rule rule(config, heads, {.layers = 1, .slots = tokens});
  rule.record_query(0, 0, query);
  std::vector<lethe::Position> positions(tokens);
  for (std::size_t i = 0; i < tokens; ++i) positions[i] = static_cast<lethe::Position>(i);
  Row scores(tokens);
  rule.score({.positions = positions,
              .keys = {.data = keys, .channels = heads.key_dimension},
              .values = {.data = values, .channels = heads.value_channels()}},
             scores);
  return scores;
}

}  // namespace

TEST_CASE("a query head to which all tokens are alike leaves the choice to the others") {
  Row keys;
  for (const float x : {-0.5f, 0.1f, 0.2f, 0.3f, 0.4f, 0.0f}) keys.insert(keys.end(), {10.013f, x});
  const Row scores = scores_of<lethe::Trigonometric>({.queries = {.heads = 2}},
                                                     {10.01f, 0.0f, 0.0f, 1.0f}, keys, keys, 6);
  const std::vector<double> expected{0, 0.0573, 0.4008, 0.7444, 1.0879, 0};
  for (std::size_t i = 0; i < scores.size(); ++i)
    CHECK_THAT(static_cast<double>(scores[i]), WithinAbs(expected[i], 1e-3));
}

TEST_CASE("values that lie on one line have finite leverage, by their size") {
  for (const float sharpness : {5.0f, 25.0f}) {
    Row keys, values;
    for (std::size_t i = 1; i <= 6; ++i) {
      const float size = static_cast<float>(i);
      keys.insert(keys.end(), {1.0f, 0.0f});
      values.insert(values.end(), {size, 0.7f * size, 0.3f * size, 1.1f * size});
    }
    const Row scores = scores_of<lethe::Capacity>({.queries = {.heads = 1}, .sharpness = sharpness},
                                                  {1.0f, 0.0f}, keys, values, 6);
    // Weights of e^25 leave little of the identity that A holds.
    const double close = sharpness < 10 ? 2e-3 : 2e-2;
    for (std::size_t i = 0; i < 6; ++i)
      CHECK_THAT(static_cast<double>(scores[i]),
                 WithinAbs(static_cast<double>((i + 1) * (i + 1)) / 91.0, close));
  }
}
