#include "lethe/selection.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"

namespace {

struct Layer {
  std::vector<float> scores;
  std::vector<lethe::Position> positions;
  bool ordered = true;
  lethe::Protection protection{};
};

/// A stable sort, by the rule: protected first, then higher scores, then lower positions.
std::vector<lethe::Slot> naive_best(const Layer& layer, std::size_t count) {
  std::vector<lethe::Slot> order(layer.scores.size());
  std::iota(order.begin(), order.end(), lethe::Slot{0});
  std::sort(order.begin(), order.end(), [&](lethe::Slot a, lethe::Slot b) {
    const bool held_a = layer.protection.covers(layer.positions[a]);
    const bool held_b = layer.protection.covers(layer.positions[b]);
    if (held_a != held_b) return held_a;
    if (!held_a && layer.scores[a] != layer.scores[b]) return layer.scores[a] > layer.scores[b];
    return layer.positions[a] < layer.positions[b];
  });
  order.resize(count);
  std::sort(order.begin(), order.end());
  return order;
}

struct Selection {
  std::vector<lethe::Slot> kept;
  std::size_t unprotected = 0;
};

Selection select(const Layer& layer, std::size_t count) {
  const std::size_t tokens = layer.scores.size();
  std::vector<std::uint32_t> keys(tokens);
  std::vector<std::uint32_t> scratch(tokens + 1);
  Selection selection{.kept = std::vector<lethe::Slot>(tokens + 1)};
  lethe::make_keys(layer.scores, layer.positions, layer.protection, keys);
  const lethe::Cut cut = lethe::find_cut(keys, count, scratch);
  selection.unprotected = lethe::count_unprotected(keys, cut, layer.positions, layer.ordered,
                                                   layer.protection, scratch);
  selection.kept.resize(
      lethe::collect(keys, cut, layer.positions, layer.ordered, selection.kept, scratch));
  return selection;
}

Layer random_layer(Samples& samples) {
  const std::size_t tokens = 1 + samples.below(300);
  Layer layer{.scores = samples.mass(tokens), .positions = ascending_positions(tokens)};
  layer.ordered = samples.below(2) == 0;
  if (!layer.ordered) {
    for (std::size_t i = tokens; i > 1; --i) {
      std::swap(layer.positions[i - 1], layer.positions[samples.below(i)]);
    }
  }
  const auto end = static_cast<lethe::Position>(tokens);
  layer.protection.prefix_end = static_cast<lethe::Position>(samples.below(4));
  if (samples.below(2) == 0) layer.protection.recent_begin = end - std::min(end, 7u);
  return layer;
}

}  // namespace

TEST_CASE("selection equals a stable sort: ties, protected tokens and any slot order") {
  Samples samples(7);
  for (int trace = 0; trace < 3000; ++trace) {
    const Layer layer = random_layer(samples);
    const std::size_t count = 1 + samples.below(layer.scores.size());
    const std::vector<lethe::Slot> expected = naive_best(layer, count);
    const Selection found = select(layer, count);
    REQUIRE(found.kept == expected);
    const auto unprotected = std::count_if(expected.begin(), expected.end(), [&](lethe::Slot s) {
      return !layer.protection.covers(layer.positions[s]);
    });
    REQUIRE(found.unprotected == static_cast<std::size_t>(unprotected));
  }
}

TEST_CASE("equal scores keep the oldest positions, wherever they sit") {
  Layer layer{.scores = std::vector<float>(6, 0.5f), .positions = {5, 4, 0, 1, 2, 3}};
  layer.ordered = false;
  CHECK(select(layer, 3).kept == std::vector<lethe::Slot>{2, 3, 4});
  layer.positions = ascending_positions(6);
  layer.ordered = true;
  CHECK(select(layer, 3).kept == std::vector<lethe::Slot>{0, 1, 2});
}

TEST_CASE("negative scores, both zeros and subnormals rank as numbers") {
  const Layer layer{.scores = {-1.0f, 0.0f, -0.0f, 1e-45f, -1e-45f, -2.0f},
                    .positions = ascending_positions(6)};
  CHECK(select(layer, 1).kept == std::vector<lethe::Slot>{3});
  CHECK(select(layer, 2).kept == std::vector<lethe::Slot>{1, 3});
  CHECK(select(layer, 3).kept == std::vector<lethe::Slot>{1, 2, 3});
  CHECK(select(layer, 5).kept == std::vector<lethe::Slot>{0, 1, 2, 3, 4});
}

TEST_CASE("a protected token outranks the largest finite score") {
  const Layer layer{.scores = {3.4e38f, 0.0f, 3.4e38f},
                    .positions = ascending_positions(3),
                    .protection = {.prefix_end = 0, .recent_begin = 2}};
  CHECK(select(layer, 1).kept == std::vector<lethe::Slot>{2});
  const Layer middle{.scores = {3.4e38f, 3.4e38f, -5.0f},
                     .positions = ascending_positions(3),
                     .protection = {.prefix_end = 0, .recent_begin = 2}};
  CHECK(select(middle, 1).kept == std::vector<lethe::Slot>{2});
}

TEST_CASE("the cut keeps every token when asked for all") {
  Samples samples(8);
  const Layer layer = random_layer(samples);
  CHECK(select(layer, layer.scores.size()).kept.size() == layer.scores.size());
}
