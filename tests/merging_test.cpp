#include "lethe/merging.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "lethe/policies.hpp"
#include "samples.hpp"

namespace {

constexpr std::size_t heads = 2;
constexpr std::size_t key_channels = 6;
constexpr std::size_t value_channels = 5;
constexpr std::size_t tokens = 40;

using Row = std::vector<double>;

/// One layer, rows of [head][slot].
struct Cache {
  std::vector<std::vector<Row>> keys{heads};
  std::vector<std::vector<Row>> values{heads};

  void append(Samples& samples) {
    for (std::size_t head = 0; head < heads; ++head) {
      keys[head].push_back(draw(samples, key_channels));
      values[head].push_back(draw(samples, value_channels));
      // Some keys are near another's.
      const std::size_t other = samples.below(keys[head].size());
      for (std::size_t c = 0; c < key_channels; ++c) {
        keys[head].back()[c] += 1.5 * keys[head][other][c];
      }
    }
  }
  static Row draw(Samples& samples, std::size_t count) {
    const std::vector<float> row = samples.row(count, -1.0f, 1.0f);
    return {row.begin(), row.end()};
  }

  void read_keys(std::size_t, std::size_t head, std::size_t slot, std::span<float> out) const {
    std::copy_n(keys[head][slot].begin(), out.size(), out.begin());
  }
  void read_values(std::size_t, std::size_t head, std::size_t slot, std::span<float> out) const {
    std::copy_n(values[head][slot].begin(), out.size(), out.begin());
  }
  void write_values(std::size_t, std::size_t head, std::size_t slot, std::span<const float> row) {
    values[head][slot].assign(row.begin(), row.end());
  }
};
static_assert(lethe::ValueWritableCache<Cache>);

struct Planned {
  Cache cache;
  std::vector<lethe::Slot> kept;
  std::vector<lethe::Position> positions = ascending_positions(tokens);
  std::vector<float> mass;

  Planned(std::uint64_t seed, std::size_t count) {
    Samples samples(seed);
    for (std::size_t i = 0; i < tokens; ++i) cache.append(samples);
    kept = samples.slots(tokens, count);
    mass = samples.row(tokens, 0.0f, 2.0f);
  }
  [[nodiscard]] lethe::EvictionPlan plan(std::uint32_t head = lethe::all_heads) const {
    return {.head = head,
            .tokens = tokens,
            .first_move = lethe::first_move_of(kept),
            .kept = kept,
            .positions = positions};
  }
  [[nodiscard]] bool stays(std::size_t slot) const {
    return std::find(kept.begin(), kept.end(), slot) != kept.end();
  }
  /// The survivors behind a slot, at most so many.
  [[nodiscard]] std::vector<std::size_t> behind(std::size_t slot, std::size_t most) const {
    std::vector<std::size_t> result;
    for (const lethe::Slot survivor : kept) {
      if (survivor > slot && result.size() < most) result.push_back(survivor);
    }
    return result;
  }
  /// The probability with which a token's value is merged.
  [[nodiscard]] double probability(std::size_t slot, std::size_t most) const {
    double sum = 0;
    const std::vector<std::size_t> next = behind(slot, most);
    for (const std::size_t survivor : next) sum += double(mass[survivor]);
    return next.empty() ? 0 : std::min(1.0, double(mass[slot]) * double(next.size()) / sum);
  }
};

void require_equal(const Cache& cache, const std::vector<std::vector<Row>>& expected) {
  for (std::size_t head = 0; head < heads; ++head) {
    for (std::size_t slot = 0; slot < tokens; ++slot) {
      for (std::size_t c = 0; c < value_channels; ++c) {
        REQUIRE_THAT(cache.values[head][slot][c], WithinAbs(expected[head][slot][c], 1e-5));
      }
    }
  }
}

double cosine(const Row& a, const Row& b) {
  double dot = 0;
  double left = 0;
  double right = 0;
  for (std::size_t c = 0; c < a.size(); ++c) {
    dot += a[c] * b[c];
    left += a[c] * a[c];
    right += b[c] * b[c];
  }
  return dot / std::sqrt(left * right);
}

/// Each head's values with those that go merged by key, as the formula says.
std::vector<Row> merged_by_key(const Planned& given, std::size_t head, double threshold) {
  std::vector<Row> values = given.cache.values[head];
  std::vector<double> weights(tokens, std::exp(1.0));
  for (const lethe::Slot slot : given.kept) {
    for (double& channel : values[slot]) channel *= weights[slot];
  }
  for (std::size_t slot = 0; slot < tokens; ++slot) {
    if (given.stays(slot)) continue;
    std::size_t best = given.kept[0];
    const std::vector<Row>& keys = given.cache.keys[head];
    for (const lethe::Slot other : given.kept) {
      if (cosine(keys[slot], keys[other]) > cosine(keys[slot], keys[best])) best = other;
    }
    const double nearness = cosine(keys[slot], keys[best]);
    if (nearness < threshold) continue;
    weights[best] += std::exp(nearness);
    for (std::size_t c = 0; c < value_channels; ++c) {
      values[best][c] += std::exp(nearness) * given.cache.values[head][slot][c];
    }
  }
  for (const lethe::Slot slot : given.kept) {
    for (double& channel : values[slot]) channel /= weights[slot];
  }
  return values;
}

constexpr lethe::HeadShape shape{
    .kv_heads = heads, .key_dimension = key_channels, .value_dimension = value_channels};

lethe::KeyMergeConfig key_config(float threshold) {
  return {.keys = {.kv_heads = heads, .head_dimension = key_channels, .frequencies = {}},
          .value_dimension = value_channels,
          .threshold = threshold};
}

}  // namespace

TEST_CASE("by mass: survivors behind a token share its value, as expected") {
  for (const std::size_t neighbours : {std::size_t{1}, std::size_t{4}, std::size_t{32}}) {
    Planned given(60 + neighbours, 15);
    std::vector<std::vector<Row>> expected = given.cache.values;
    for (std::size_t slot = 0; slot < tokens; ++slot) {
      if (given.stays(slot)) continue;
      const std::vector<std::size_t> next = given.behind(slot, neighbours);
      for (std::size_t head = 0; head < heads; ++head) {
        for (const std::size_t survivor : next) {
          for (std::size_t c = 0; c < value_channels; ++c) {
            expected[head][survivor][c] += given.probability(slot, neighbours) /
                                           double(next.size()) * given.cache.values[head][slot][c];
          }
        }
      }
    }
    lethe::MassMerge merge(shape, {.neighbours = neighbours, .draw = lethe::MergeDraw::expected},
                           tokens);
    merge.merge(given.cache, given.plan(), given.mass);
    require_equal(given.cache, expected);
  }
}

TEST_CASE("by mass: a draw merges a value wholly or not at all, as often as its mass says") {
  Planned given(70, tokens - 1);
  std::size_t victim = 0;
  while (given.stays(victim)) ++victim;
  given.mass.assign(tokens, 1.0f);
  given.mass[victim] = 0.3f;
  const std::size_t neighbours = 3;
  const std::size_t next = given.behind(victim, 1)[0];
  const std::vector<std::vector<Row>> before = given.cache.values;
  std::size_t merged = 0;
  for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
    given.cache.values = before;
    lethe::MassMerge merge(shape, {.neighbours = neighbours, .seed = seed}, tokens);
    merge.merge(given.cache, given.plan(), given.mass);
    const double change = given.cache.values[0][next][0] - before[0][next][0];
    const double whole = before[0][victim][0] / double(neighbours);
    if (change == 0) continue;
    REQUIRE_THAT(change, WithinAbs(whole, 1e-6));
    REQUIRE_THAT(given.cache.values[1][next][1] - before[1][next][1],
                 WithinAbs(before[1][victim][1] / double(neighbours), 1e-6));
    ++merged;
  }
  // 600 are expected, give or take 20.
  CHECK(merged > 520);
  CHECK(merged < 680);
}

TEST_CASE("by mass: nobody's value goes to nobody") {
  Planned given(71, 10);
  given.kept = {0, 1, 2};
  const std::vector<std::vector<Row>> before = given.cache.values;
  lethe::MassMerge merge(shape, {}, tokens);
  merge.merge(given.cache, given.plan(), given.mass);
  CHECK(given.cache.values == before);
  given.kept = {5, 39};
  std::fill(given.mass.begin(), given.mass.end(), 0.0f);
  merge.merge(given.cache, given.plan(), given.mass);
  CHECK(given.cache.values == before);
}

TEST_CASE("by key: a token leaves its value to the survivor with the nearest key") {
  for (const float threshold : {-1.0f, 0.7f, 0.95f}) {
    Planned given(80, 12);
    std::vector<std::vector<Row>> expected;
    for (std::size_t head = 0; head < heads; ++head) {
      expected.push_back(merged_by_key(given, head, double(threshold)));
    }
    const std::vector<std::vector<Row>> before = given.cache.values;
    lethe::KeyMerge merge(key_config(threshold), tokens);
    merge.merge(given.cache, given.plan());
    require_equal(given.cache, expected);
    CHECK(given.cache.values != before);
  }
}

TEST_CASE("a head's own plan changes its values alone") {
  Planned given(81, 12);
  const std::vector<std::vector<Row>> before = given.cache.values;
  const std::vector<std::vector<Row>> expected{before[0], merged_by_key(given, 1, 0.5)};
  lethe::KeyMerge by_key(key_config(0.5f), tokens);
  by_key.merge(given.cache, given.plan(1));
  require_equal(given.cache, expected);
  given.cache.values = before;
  lethe::MassMerge by_mass(shape, {.draw = lethe::MergeDraw::expected}, tokens);
  by_mass.merge(given.cache, given.plan(0), given.mass);
  CHECK(given.cache.values[0] != before[0]);
  CHECK(given.cache.values[1] == before[1]);
}

TEST_CASE("settings with which nothing could be merged are refused by name") {
  CHECK_THROWS_WITH(lethe::MassMerge(shape, {.neighbours = 0}, tokens),
                    Catch::Contains("neighbours = 0"));
  CHECK_THROWS_WITH(lethe::MassMerge({}, {}, tokens), Catch::Contains("kv_heads = 0"));
  CHECK_THROWS_WITH(lethe::KeyMerge(key_config(1.5f), tokens), Catch::Contains("threshold = 1.5"));
  CHECK_THROWS_AS(lethe::KeyMerge({}, tokens), std::invalid_argument);
}
