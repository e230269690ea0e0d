#include "lethe/rerotation.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "lethe/policies.hpp"
#include "samples.hpp"

namespace {

constexpr std::size_t layer_count = 2;
constexpr std::size_t kv_heads = 3;
constexpr std::size_t dimension = 10;
// A turn is off by 2e-7 of a key of length 2 at most, and a key here is turned some 20 times.
constexpr double tolerance = 2e-5;

/// A key as its model made it, turned by a position in double.
std::vector<double> turned(std::vector<double> key, const lethe::KeyShape& shape, double position) {
  const std::size_t pairs = shape.frequencies.size();
  for (std::size_t pair = 0; pair < pairs; ++pair) {
    const bool halves = shape.pairs == lethe::RotaryPairs::halves;
    double& x = key[halves ? pair : 2 * pair];
    double& y = key[halves ? pair + pairs : 2 * pair + 1];
    const double angle = position * double(shape.frequencies[pair]);
    const double first = x * std::cos(angle) - y * std::sin(angle);
    y = x * std::sin(angle) + y * std::cos(angle);
    x = first;
  }
  return key;
}

/// What an engine keeps whose positions are its slots, and the keys without rotation beside it.
struct Engine {
  struct Row {
    std::vector<float> key;
    std::vector<double> plain;
    float value = 0;
  };
  lethe::KeyShape shape;
  lethe::Rerotation rerotation{shape};
  std::vector<std::vector<Row>> rows{layer_count * kv_heads};

  [[nodiscard]] std::size_t layers() const { return layer_count; }
  [[nodiscard]] std::size_t heads(std::size_t) const { return kv_heads; }
  [[nodiscard]] std::size_t size(std::size_t layer) const { return rows[layer * kv_heads].size(); }

  void read_keys(std::size_t layer, std::size_t head, std::size_t slot,
                 std::span<float> out) const {
    const std::vector<float>& key = rows[layer * kv_heads + head][slot].key;
    std::copy(key.begin(), key.end(), out.begin());
  }
  void write_keys(std::size_t layer, std::size_t head, std::size_t slot,
                  std::span<const float> key) {
    rows[layer * kv_heads + head][slot].key.assign(key.begin(), key.end());
  }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    for (const lethe::EvictionPlan& plan : plans) {
      for (std::size_t head = 0; head < kv_heads; ++head) {
        if (plan.head != lethe::all_heads && plan.head != head) continue;
        std::vector<Row>& kept = rows[plan.layer * kv_heads + head];
        for (std::size_t i = 0; i < plan.kept.size(); ++i) kept[i] = kept[plan.kept[i]];
        kept.resize(plan.kept.size());
      }
    }
    rerotation.apply(*this, plans);
  }

  /// A token's row of one head; its position is the slot it gets.
  void append(Samples& samples, std::size_t layer, std::size_t head) {
    std::vector<Row>& tokens = rows[layer * kv_heads + head];
    Row row;
    for (const float channel : samples.row(dimension, -1.0f, 1.0f)) row.plain.push_back(channel);
    for (const double channel : turned(row.plain, shape, double(tokens.size()))) {
      row.key.push_back(static_cast<float>(channel));
    }
    row.value = samples.uniform();
    tokens.push_back(row);
  }
  void append(Samples& samples) {
    for (std::size_t layer = 0; layer < layer_count; ++layer) {
      for (std::size_t head = 0; head < kv_heads; ++head) append(samples, layer, head);
    }
  }

  void require_consecutive() const {
    for (const std::vector<Row>& tokens : rows) {
      for (std::size_t slot = 0; slot < tokens.size(); ++slot) {
        const std::vector<double> afresh = turned(tokens[slot].plain, shape, double(slot));
        for (std::size_t c = 0; c < dimension; ++c) {
          REQUIRE_THAT(double(tokens[slot].key[c]), WithinAbs(afresh[c], tolerance));
        }
      }
    }
  }
};
static_assert(lethe::KVCacheView<Engine> && lethe::KeyWritableCache<Engine>);

Engine make_engine(lethe::RotaryPairs pairs) {
  return {.shape = {.kv_heads = kv_heads,
                    .head_dimension = dimension,
                    .frequencies = {1.0f, 0.3f, 0.02f, 0.001f},
                    .pairs = pairs}};
}

/// Attention of one query over keys at the given positions, from keys without rotation.
std::vector<double> attention(const std::vector<Engine::Row>& tokens, const lethe::KeyShape& shape,
                              const std::vector<double>& query) {
  std::vector<double> weights;
  for (std::size_t slot = 0; slot < tokens.size(); ++slot) {
    const std::vector<double> key = turned(tokens[slot].plain, shape, double(slot));
    weights.push_back(std::exp(std::inner_product(key.begin(), key.end(), query.begin(), 0.0)));
  }
  return weights;
}

}  // namespace

TEST_CASE("after every round keys are as if rotated afresh to consecutive positions") {
  for (const lethe::RotaryPairs pairs :
       {lethe::RotaryPairs::neighbours, lethe::RotaryPairs::halves}) {
    Samples samples(51);
    Engine engine = make_engine(pairs);
    lethe::policies::H2O pruner({.layers = layer_count, .capacity = 40});
    std::size_t rounds = 0;
    for (std::size_t token = 0; token < 160; ++token) {
      rounds += pruner.make_room(engine, 1) != 0 ? 1 : 0;
      engine.append(samples);
      for (std::size_t layer = 0; layer < layer_count; ++layer) {
        const std::vector<float> mass = samples.mass(engine.size(layer));
        pruner.observe(layer, lethe::Mass<float>{.data = mass.data(), .columns = mass.size()});
      }
      pruner.commit();
      engine.require_consecutive();
    }
    CHECK(rounds > 10);
    CHECK(pruner.tokens_seen() == 160);
  }
}

TEST_CASE("heads that keep sets of their own are turned by their own plans") {
  Samples samples(52);
  Engine engine = make_engine(lethe::RotaryPairs::halves);
  for (std::size_t token = 0; token < 30; ++token) engine.append(samples);
  std::vector<std::vector<lethe::Slot>> kept;
  std::vector<lethe::EvictionPlan> plans;
  for (std::size_t head = 0; head < kv_heads; ++head) kept.push_back(samples.slots(30, 12));
  for (std::uint32_t head = 0; head < kv_heads; ++head) {
    plans.push_back({.layer = 1,
                     .head = head,
                     .tokens = 30,
                     .first_move = lethe::first_move_of(kept[head]),
                     .kept = kept[head]});
  }
  engine.apply(plans);
  CHECK(engine.size(0) == 30);
  CHECK(engine.size(1) == 12);
  engine.require_consecutive();
}

TEST_CASE("nothing but keys that moved is written, and no channel that is not rotated") {
  Samples samples(53);
  Engine engine = make_engine(lethe::RotaryPairs::neighbours);
  for (std::size_t token = 0; token < 20; ++token) engine.append(samples);
  const std::vector<std::vector<Engine::Row>> before = engine.rows;
  const std::vector<lethe::Slot> kept{0, 1, 2, 7, 8, 19};
  engine.apply(
      std::vector<lethe::EvictionPlan>{{.layer = 0, .tokens = 20, .first_move = 3, .kept = kept}});
  for (std::size_t head = 0; head < kv_heads; ++head) {
    for (std::size_t i = 0; i < kept.size(); ++i) {
      const Engine::Row& old = before[head][kept[i]];
      const Engine::Row& now = engine.rows[head][i];
      CHECK(now.value == old.value);
      CHECK((now.key == old.key) == (i < 3));
      CHECK(std::equal(now.key.begin() + 8, now.key.end(), old.key.begin() + 8));
    }
    const std::vector<Engine::Row>& other = engine.rows[kv_heads + head];
    for (std::size_t i = 0; i < 20; ++i) CHECK(other[i].key == before[kv_heads + head][i].key);
  }
}

TEST_CASE("attention is that of consecutive positions") {
  Samples samples(54);
  Engine engine = make_engine(lethe::RotaryPairs::neighbours);
  for (std::size_t token = 0; token < 12; ++token) engine.append(samples);
  const std::vector<lethe::Slot> kept{0, 3, 4, 9, 11};
  engine.apply(
      std::vector<lethe::EvictionPlan>{{.layer = 0, .tokens = 12, .first_move = 1, .kept = kept}});
  std::vector<double> query(dimension);
  for (double& channel : query) channel = double(samples.between(-1.0f, 1.0f));
  // The next token's position is the length of the layer.
  query = turned(query, engine.shape, double(kept.size()));
  const std::vector<double> expected = attention(engine.rows[0], engine.shape, query);
  for (std::size_t slot = 0; slot < kept.size(); ++slot) {
    const std::vector<float>& key = engine.rows[0][slot].key;
    const double weight = std::exp(std::inner_product(key.begin(), key.end(), query.begin(), 0.0));
    CHECK_THAT(weight, WithinRel(expected[slot], 1e-4));
  }
}

TEST_CASE("shapes that cannot be turned are refused by name") {
  const lethe::KeyShape good{
      .kv_heads = kv_heads, .head_dimension = dimension, .frequencies = {1.0f}};
  lethe::KeyShape shape = good;
  shape.head_dimension = 1;
  CHECK_THROWS_WITH(lethe::Rerotation(shape), Catch::Contains("keys.frequencies = 1"));
  shape = good;
  shape.kv_heads = 0;
  CHECK_THROWS_WITH(lethe::Rerotation(shape), Catch::Contains("keys.kv_heads = 0"));
  shape = good;
  shape.frequencies[0] = not_a_number;
  CHECK_THROWS_AS(lethe::Rerotation(shape), std::invalid_argument);
}
