#include "lethe/score/supersession.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/rasr.hpp"
#include "samples.hpp"

namespace {

using Scorer = lethe::Superseded<lethe::Rasr>;
using Positions = std::vector<lethe::Position>;
static_assert(std::equality_comparable<Scorer::Config>);

constexpr std::size_t heads = 2;
constexpr std::size_t dimension = 8;
constexpr std::size_t slots = 96;

/// Keys as a model makes them, and as they lie in a cache: turned by their positions.
struct Keys {
  std::vector<std::vector<double>> plain;
  Positions positions;
  lethe::KeyShape shape;
  /// Faster pairs are not compared.
  std::size_t first_pair = 0;

  /// Every third token repeats an earlier one's key, more or less.
  void draw(Samples& samples, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      std::vector<double> key(heads * dimension);
      const std::vector<double>* old = i % 3 == 2 ? &plain[samples.below(plain.size())] : nullptr;
      for (std::size_t c = 0; c < key.size(); ++c) {
        const double noise = static_cast<double>(samples.uniform()) - 0.5;
        key[c] = old != nullptr ? (*old)[c] + 0.3 * noise : noise;
      }
      plain.push_back(key);
      positions.push_back(static_cast<lethe::Position>(positions.size()));
    }
  }

  [[nodiscard]] std::size_t layers() const { return 1; }
  [[nodiscard]] std::size_t size(std::size_t) const { return plain.size(); }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    for (const lethe::EvictionPlan& plan : plans) {
      for (std::size_t i = 0; i < plan.kept.size(); ++i) {
        plain[i] = plain[plan.kept[i]];
        positions[i] = positions[plan.kept[i]];
      }
      plain.resize(plan.kept.size());
      positions.resize(plan.kept.size());
    }
  }

  void read_keys(std::size_t, std::size_t head, std::size_t first, std::span<float> out) const {
    for (std::size_t i = 0; i < out.size(); i += dimension) {
      read_key(head, first + i / dimension, out.subspan(i, dimension));
    }
  }

  void read_key(std::size_t head, std::size_t slot, std::span<float> out) const {
    const std::size_t pairs = shape.frequencies.size();
    const bool halves = shape.pairs == lethe::RotaryPairs::halves;
    std::vector<double> key(
        plain[slot].begin() + static_cast<std::ptrdiff_t>(head * dimension),
        plain[slot].begin() + static_cast<std::ptrdiff_t>((head + 1) * dimension));
    for (std::size_t c = 0; c < pairs; ++c) {
      const double angle = double(positions[slot]) * double(shape.frequencies[c]);
      double& x = key[halves ? c : 2 * c];
      double& y = key[halves ? c + pairs : 2 * c + 1];
      const double turned = x * std::cos(angle) - y * std::sin(angle);
      y = x * std::sin(angle) + y * std::cos(angle);
      x = turned;
    }
    for (std::size_t c = 0; c < dimension; ++c) out[c] = static_cast<float>(key[c]);
  }

  /// Channels of the pairs from `first_pair` on, and those that are not rotated.
  [[nodiscard]] bool compared(std::size_t channel) const {
    const std::size_t pairs = shape.frequencies.size();
    if (channel >= 2 * pairs) return true;
    const bool halves = shape.pairs == lethe::RotaryPairs::halves;
    return (halves ? channel % pairs : channel / 2) >= first_pair;
  }

  [[nodiscard]] double cosine(std::size_t a, std::size_t b, std::size_t head) const {
    double dot = 0;
    double left = 0;
    double right = 0;
    for (std::size_t c = head * dimension; c < (head + 1) * dimension; ++c) {
      if (!compared(c - head * dimension)) continue;
      dot += plain[a][c] * plain[b][c];
      left += plain[a][c] * plain[a][c];
      right += plain[b][c] * plain[b][c];
    }
    return dot / std::sqrt(left * right);
  }

  /// The largest cosine of a token's key and a newer one's, over heads first to last.
  [[nodiscard]] double nearest(std::size_t token, std::size_t first, std::size_t last) const {
    double most = -1;
    for (std::size_t newer = 0; newer < plain.size(); ++newer) {
      if (positions[newer] <= positions[token]) continue;
      double mean = 0;
      for (std::size_t head = first; head < last; ++head) mean += cosine(token, newer, head);
      most = std::max(most, mean / double(last - first));
    }
    return most;
  }
};

Keys make_keys(lethe::RotaryPairs pairs = lethe::RotaryPairs::neighbours) {
  Keys keys;
  keys.shape = {.kv_heads = heads,
                .head_dimension = dimension,
                .frequencies = {1.0f, 0.1f, 0.01f},
                .pairs = pairs};
  return keys;
}

Scorer make_scorer(const Keys& keys, std::size_t groups, float threshold = 0.8f,
                   float penalty = 0.0f) {
  const std::size_t pairs = keys.shape.frequencies.size();
  return Scorer({.score = {.decay = 1.0f},
                 .keys = keys.shape,
                 .threshold = threshold,
                 .penalty = penalty,
                 .slow_share = float(pairs - keys.first_pair) / float(pairs)},
                {.layers = 1, .groups = groups, .slots = slots});
}

/// Tokens whose score was cut: all were paid the same.
std::vector<bool> superseded(Scorer& scorer, const Keys& keys, std::size_t group) {
  std::vector<float> scratch(slots);
  const std::span<const float> scores = scorer.score(0, group, keys.positions, scratch);
  std::vector<bool> result;
  for (const float score : scores) result.push_back(score < 0.5f);
  return result;
}

void pay_all(Scorer& scorer, std::size_t groups) {
  const std::vector<float> mass(slots, 1.0f);
  for (std::size_t group = 0; group < groups; ++group) scorer.record(0, group, 0, 0, mass);
}

void require_naive(Scorer& scorer, const Keys& keys, std::size_t groups, double threshold) {
  const std::size_t each = heads / groups;
  for (std::size_t group = 0; group < groups; ++group) {
    const std::vector<bool> found = superseded(scorer, keys, group);
    for (std::size_t i = 0; i < keys.plain.size(); ++i) {
      const double nearest = keys.nearest(i, group * each, (group + 1) * each);
      if (std::abs(nearest - threshold) < 1e-4) continue;
      REQUIRE(found[i] == (nearest >= threshold));
    }
  }
}

}  // namespace

TEST_CASE("tokens that a newer one repeats are superseded, in every layout and grouping") {
  for (const lethe::RotaryPairs pairs :
       {lethe::RotaryPairs::neighbours, lethe::RotaryPairs::halves}) {
    for (const std::size_t groups : {std::size_t{1}, heads}) {
      Samples samples(31 + groups);
      Keys keys = make_keys(pairs);
      keys.draw(samples, slots);
      Scorer scorer = make_scorer(keys, groups);
      pay_all(scorer, groups);
      for (std::size_t group = 0; group < groups; ++group) {
        scorer.read(keys, 0, group, keys.positions);
        const std::vector<bool> found = superseded(scorer, keys, group);
        const auto count = std::count(found.begin(), found.end(), true);
        CHECK(count > 5);
        CHECK(count < 90);
      }
      require_naive(scorer, keys, groups, static_cast<double>(0.8f));
    }
  }
}

TEST_CASE("the first layer may ask for a nearer key than the others") {
  Samples samples(39);
  Keys keys = make_keys();
  keys.draw(samples, slots);
  const std::vector<float> mass(slots, 1.0f);
  std::vector<float> scratch(slots);
  for (const float first : {0.9f, 0.0f}) {
    Scorer scorer({.score = {.decay = 1.0f},
                   .keys = keys.shape,
                   .threshold = 0.5f,
                   .first_layer_threshold = first},
                  {.layers = 2, .groups = 1, .slots = slots});
    for (std::size_t layer = 0; layer < 2; ++layer) {
      const double threshold = layer == 0 && first != 0.0f ? 0.9 : 0.5;
      scorer.record(layer, 0, 0, 0, mass);
      scorer.read(keys, layer, 0, keys.positions);
      const std::span<const float> scores = scorer.score(layer, 0, keys.positions, scratch);
      for (std::size_t i = 0; i < slots; ++i) {
        const double nearest = keys.nearest(i, 0, heads);
        if (std::abs(nearest - threshold) < 1e-4) continue;
        REQUIRE((scores[i] < 0.5f) == (nearest >= threshold));
      }
    }
  }
}

TEST_CASE("a token pays for what resembles it, below the threshold too") {
  Samples samples(36);
  Keys keys = make_keys();
  keys.draw(samples, slots);
  Scorer scorer = make_scorer(keys, 1, 0.8f, 8.0f);
  pay_all(scorer, 1);
  scorer.read(keys, 0, 0, keys.positions);
  std::vector<float> scratch(slots);
  const std::span<const float> scores = scorer.score(0, 0, keys.positions, scratch);
  std::size_t below = 0;
  for (std::size_t i = 0; i < slots; ++i) {
    const double nearest = keys.nearest(i, 0, heads);
    if (std::abs(nearest - static_cast<double>(0.8f)) < 1e-4) continue;
    below += nearest < 0.8 ? 1 : 0;
    const double log_score = -8 * (nearest + 1) - (nearest < 0.8 ? 0 : 60 * std::log(2.0));
    REQUIRE_THAT(std::log(double(scores[i])), WithinAbs(log_score, 1e-3));
  }
  CHECK(below > 20);
}

TEST_CASE("the slowest pairs are compared, in every layout") {
  for (const lethe::RotaryPairs pairs :
       {lethe::RotaryPairs::neighbours, lethe::RotaryPairs::halves}) {
    for (const std::size_t first_pair : {std::size_t{1}, std::size_t{2}}) {
      Samples samples(37 + first_pair);
      Keys keys = make_keys(pairs);
      keys.first_pair = first_pair;
      keys.draw(samples, slots);
      Scorer scorer = make_scorer(keys, 1);
      pay_all(scorer, 1);
      scorer.read(keys, 0, 0, keys.positions);
      require_naive(scorer, keys, 1, static_cast<double>(0.8f));
    }
  }
}

TEST_CASE("frequencies need not fall: the slowest are found") {
  Samples samples(40);
  Keys keys = make_keys();
  keys.shape.frequencies = {0.01f, -1.0f, 0.1f};
  Keys sorted = make_keys();
  keys.draw(samples, slots);
  sorted.plain = keys.plain;
  sorted.positions = keys.positions;
  const std::size_t moved_to[] = {4, 5, 0, 1, 2, 3};
  for (std::vector<double>& key : sorted.plain) {
    const std::vector<double> old = key;
    for (std::size_t c = 0; c < key.size(); ++c) {
      const std::size_t channel = c % dimension;
      if (channel < 6) key[c - channel + moved_to[channel]] = old[c];
    }
  }
  sorted.shape.frequencies[0] = -1.0f;
  keys.first_pair = sorted.first_pair = 1;
  Scorer scorer = make_scorer(keys, 1);
  Scorer expected = make_scorer(sorted, 1);
  pay_all(scorer, 1);
  pay_all(expected, 1);
  scorer.read(keys, 0, 0, keys.positions);
  expected.read(sorted, 0, 0, sorted.positions);
  CHECK(superseded(scorer, keys, 0) == superseded(expected, sorted, 0));
}

TEST_CASE("a key that is zero or not finite is near no other") {
  // A NaN may carry any bits.
  const auto nan = std::bit_cast<double>(0x7FF8000000000000u | std::uint64_t{0x1234} << 29);
  for (const double odd : {0.0, 1e-40, nan, double(INFINITY), -double(INFINITY)}) {
    Samples samples(38);
    Keys keys = make_keys();
    keys.draw(samples, 40);
    // Not rotated, so that the others stay what they are.
    std::fill(keys.plain[10].begin(), keys.plain[10].end(), odd == 0.0 ? 0.0 : 1e-40);
    keys.plain[10][7] = keys.plain[10][15] = odd;
    Scorer scorer = make_scorer(keys, 1, 0.8f, 8.0f);
    pay_all(scorer, 1);
    scorer.read(keys, 0, 0, keys.positions);
    std::vector<float> scratch(slots);
    const std::span<const float> scores = scorer.score(0, 0, keys.positions, scratch);
    CHECK_THAT(std::log(double(scores[10])), WithinAbs(-8.0, 1e-4));
    for (std::size_t i = 0; i < 10; ++i) CHECK(scores[i] > 0.0f);
  }
}

TEST_CASE("tokens are compared once, whenever they come") {
  Samples samples(33);
  Keys keys = make_keys();
  Scorer often = make_scorer(keys, 1);
  pay_all(often, 1);
  while (keys.plain.size() < slots) {
    keys.draw(samples, std::min<std::size_t>(1 + samples.below(20), slots - keys.plain.size()));
    often.read(keys, 0, 0, keys.positions);
  }
  Scorer once = make_scorer(keys, 1);
  pay_all(once, 1);
  once.read(keys, 0, 0, keys.positions);
  CHECK(superseded(often, keys, 0) == superseded(once, keys, 0));
}

TEST_CASE("what is superseded goes first, and the state follows the survivors") {
  Samples samples(34);
  Keys keys = make_keys();
  lethe::Pruner<Scorer, lethe::UniformBudget> pruner(
      {.layers = 1, .capacity = 48}, {.retention = {.first_tokens = 0, .recent_tokens = 8}},
      {.score = {.decay = 1.0f}, .keys = keys.shape, .threshold = 0.8f}, {});
  std::size_t rounds = 0;
  for (std::size_t token = 0; token < 200; ++token) {
    const Keys before = keys;
    const std::size_t dropped = pruner.make_room(keys, 1);
    for (std::size_t i = 0; dropped != 0 && i < before.plain.size(); ++i) {
      const bool gone = std::find(keys.positions.begin(), keys.positions.end(),
                                  before.positions[i]) == keys.positions.end();
      // More than are dropped are superseded here, so no other token goes.
      if (gone) CHECK(before.nearest(i, 0, heads) > 0.79);
    }
    rounds += dropped != 0 ? 1 : 0;
    const std::vector<double> first =
        keys.plain.empty() ? std::vector<double>(heads * dimension) : keys.plain.back();
    keys.plain.push_back(first);
    keys.positions.push_back(static_cast<lethe::Position>(token));
    for (std::size_t c = 0; c < first.size(); ++c) {
      const double noise = static_cast<double>(samples.uniform()) - 0.5;
      keys.plain.back()[c] = token % 8 == 0 ? noise : first[c] + 0.05 * noise;
    }
    const std::vector<float> mass(keys.plain.size(), 1.0f);
    pruner.observe(0, lethe::Mass<float>{.data = mass.data(), .columns = mass.size()});
    pruner.commit();
  }
  CHECK(rounds > 10);
}

TEST_CASE("a saved scorer goes on where it stood") {
  Samples samples(35);
  Keys keys = make_keys();
  keys.draw(samples, 60);
  Scorer scorer = make_scorer(keys, 1);
  scorer.read(keys, 0, 0, keys.positions);
  lethe::detail::StateWriter writer;
  Scorer::archive(writer, scorer);
  Scorer restored = make_scorer(keys, 1);
  lethe::detail::StateReader reader(writer.bytes());
  Scorer::archive(reader, restored);
  REQUIRE(reader.at_end());
  CHECK(restored.valid());
  pay_all(scorer, 1);
  pay_all(restored, 1);
  CHECK(superseded(scorer, keys, 0) == superseded(restored, keys, 0));
  restored.reset();
  pay_all(restored, 1);
  const std::vector<bool> none = superseded(restored, keys, 0);
  CHECK(std::count(none.begin(), none.end(), true) == 0);
}

TEST_CASE("keys and thresholds that cannot be are refused by name") {
  const Keys keys = make_keys();
  CHECK_THROWS_WITH(make_scorer(keys, 1, 0.0f), Catch::Contains("threshold = 0"));
  CHECK_THROWS_WITH(make_scorer(keys, 1, 1.5f), Catch::Contains("threshold = 1.5"));
  for (const float cosine : {-0.1f, 1.5f, std::numeric_limits<float>::quiet_NaN()}) {
    const Scorer::Config config{.keys = keys.shape, .first_layer_threshold = cosine};
    CHECK_THROWS_WITH(Scorer(config, {.layers = 1, .groups = 1, .slots = slots}),
                      Catch::Contains("first_layer_threshold = "));
  }
  CHECK_THROWS_WITH(make_scorer(keys, 1, 0.9f, -1.0f), Catch::Contains("penalty = -1"));
  CHECK_THROWS_WITH(make_scorer(keys, 1, 0.9f, 21.0f), Catch::Contains("penalty = 21"));
  CHECK_THROWS_WITH(make_scorer(keys, 3), Catch::Contains("groups = 3"));
  Keys none = keys;
  none.first_pair = 3;
  CHECK_THROWS_WITH(make_scorer(none, 1), Catch::Contains("slow_share = 0"));
  Keys odd = keys;
  odd.shape.head_dimension = 5;
  CHECK_THROWS_WITH(make_scorer(odd, 1), Catch::Contains("keys.frequencies = 3"));
  odd.shape.head_dimension = 0;
  CHECK_THROWS_WITH(make_scorer(odd, 1), Catch::Contains("keys.head_dimension = 0"));
  odd.shape.kv_heads = 0;
  CHECK_THROWS_AS(make_scorer(odd, 1), std::invalid_argument);
}
