// What must hold under -ffast-math too; this file is compiled and linked with it.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "lethe/lethe.hpp"
#include "lethe/score/cache_score.hpp"
#include "lethe/score/gumbel_mass.hpp"
#include "lethe/score/projected.hpp"
#include "lethe/score/rules/capacity.hpp"
#include "lethe/score/rules/expected_mass.hpp"
#include "lethe/score/rules/trigonometric.hpp"
#include "lethe/score/rules/two_pace_mass.hpp"
#include "lethe/score/window_shift.hpp"
#include "samples.hpp"

namespace {

using lethe::Outcome;

float float_of(std::uint32_t bits) { return std::bit_cast<float>(bits); }

constexpr std::uint32_t odd_floats[] = {0x7FC00000u, 0xFFC00001u, 0x7F800000u};

struct Cache {
  std::size_t tokens = 0;
  std::size_t layers() const { return 1; }
  std::size_t size(std::size_t) const { return tokens; }
  void apply(std::span<const lethe::EvictionPlan> plans) { tokens = plans[0].kept.size(); }
  void read_keys(std::size_t, std::size_t, std::size_t, std::span<float> out) const {
    for (float& value : out) value = 0.5f;
  }
};

/// Decodes until a round; `observe(pruner, tokens)` tells each step's attention.
template <class Pruner, class Observe>
Outcome first_outcome(Pruner pruner, Observe&& observe) {
  Cache cache;
  std::vector<Outcome> outcomes;
  while (outcomes.empty()) {
    try {
      pruner.make_room(cache, 1,
                       [&](const lethe::RoundStatistics& r) { outcomes.push_back(r.outcome); });
    } catch (const std::length_error&) {
      break;
    }
    ++cache.tokens;
    observe(pruner, cache.tokens);
    pruner.commit();
  }
  return outcomes.empty() ? Outcome::busy : outcomes[0];
}

lethe::PrunerConfig config() {
  return {.layers = 1,
          .capacity = 200,
          .deferred = {.queries = 4, .heads = 1, .kv_heads = 1, .head_dimension = 4}};
}

/// The bits of `bad` in the 20th step's first entry.
std::vector<float> row_with(std::uint32_t bad, std::size_t tokens) {
  std::vector<float> row(tokens, 0.25f);
  if (tokens == 20) row[0] = float_of(bad);
  return row;
}

template <class Pruner>
void check_kinds(const Pruner& pruner, std::uint32_t bad) {
  CHECK(first_outcome(pruner, [=](Pruner& p, std::size_t tokens) {
          const std::vector<float> row = row_with(bad, tokens);
          p.observe(0, lethe::Probabilities<float>{.data = row.data(), .columns = tokens});
        }) == Outcome::non_finite);
  CHECK(first_outcome(pruner, [=](Pruner& p, std::size_t tokens) {
          const std::vector<float> row = row_with(bad, tokens);
          p.observe(0, lethe::Mass<float>{.data = row.data(), .columns = tokens});
        }) == Outcome::non_finite);
}

template <class Pruner>
void check_nan_kinds(const Pruner& pruner, std::uint32_t bad) {
  CHECK(first_outcome(pruner, [=](Pruner& p, std::size_t tokens) {
          const std::vector<float> row = row_with(bad, tokens);
          const float lse = 3.0f;
          p.observe(0, lethe::Logits<float>{.data = row.data(), .lse = &lse, .columns = tokens});
        }) == Outcome::non_finite);
  CHECK(first_outcome(pruner, [=](Pruner& p, std::size_t tokens) {
          const std::vector<float> row = row_with(bad, tokens);
          p.observe(0, lethe::Logits<float>{.data = row.data(), .columns = tokens});
        }) == Outcome::non_finite);
  CHECK(first_outcome(pruner, [=](Pruner& p, std::size_t tokens) {
          const float query[4] = {tokens == 20 ? float_of(bad) : 0.1f, 0.2f, 0.3f, 0.4f};
          const float lse = 3.0f;
          p.observe(0, lethe::Queries<float>{.data = query, .lse = &lse, .head_dimension = 4});
        }) == Outcome::non_finite);
}

/// What is odd about one of eight tokens, or about one query.
struct Odd {
  float mass = 0.25f;
  float key = 0.25f;
  float value = 0.25f;
  float query = 0.25f;

  void read_keys(std::size_t, std::size_t, std::size_t first, std::span<float> out) const {
    read(first, out, key);
  }
  void read_values(std::size_t, std::size_t, std::size_t first, std::span<float> out) const {
    read(first, out, value);
  }

 private:
  static void read(std::size_t first, std::span<float> out, float odd) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::size_t channel = 2 * first + i;
      out[i] = channel == 7 ? odd : 0.125f * static_cast<float>(channel % 5);
    }
  }
};

template <class Scorer>
std::vector<float> scores_of(const typename Scorer::Config& config, const Odd& odd) {
  Scorer scorer(config, {.layers = 1, .slots = 8});
  for (lethe::Position step = 0; step < 8; ++step) {
    std::vector<float> mass(8, 0.125f);
    mass[3] = step == 5 ? odd.mass : 0.5f;
    scorer.record(0, 0, 0, 0, mass);
    if constexpr (lethe::QueryReadingScorer<Scorer>) {
      const float query[2] = {0.5f, step == 5 ? odd.query : 0.125f * static_cast<float>(step)};
      scorer.record_query(0, step, query);
    }
    scorer.advance(1);
  }
  const std::vector<lethe::Position> positions = ascending_positions(8);
  if constexpr (lethe::detail::ReadsCache<Scorer>) scorer.read(odd, 0, 0, positions);
  std::vector<float> scratch(8);
  const std::span<const float> scores = scorer.score(0, 0, positions, scratch);
  return {scores.begin(), scores.end()};
}

constexpr lethe::HeadShape one_head{.kv_heads = 1, .key_dimension = 2};

template <class Rule>
std::vector<float> scores_by(const Odd& odd) {
  typename Rule::Config rule;
  rule.queries = {.heads = 1, .frequencies = {0.5f}};
  return scores_of<lethe::CacheScore<Rule>>({.rule = rule, .heads = one_head}, odd);
}

std::vector<float> projected_scores(const Odd& odd) {
  const std::vector<float> matrix{0.5f, 0.25f};
  const lethe::OutputProjection output{.query_heads = 1, .width = 1, .layers = {matrix}};
  return scores_of<lethe::Projected<lethe::WindowMass>>({.output = output, .heads = one_head}, odd);
}

bool all_finite(const std::vector<float>& scores) { return lethe::summarise(scores).finite; }

}  // namespace

TEST_CASE("mass, keys and values that are not finite are found in every score") {
  for (const std::uint32_t bits : odd_floats) {
    const float bad = float_of(bits);
    CHECK_FALSE(all_finite(scores_of<lethe::GumbelMass>({}, {.mass = bad})));
    CHECK_FALSE(all_finite(scores_of<lethe::WindowShift>({}, {.mass = bad})));
    CHECK_FALSE(all_finite(projected_scores({.mass = bad})));
    CHECK_FALSE(all_finite(projected_scores({.value = bad})));
    CHECK_FALSE(all_finite(scores_by<lethe::ExpectedMass>({.key = bad})));
    CHECK_FALSE(all_finite(scores_by<lethe::ExpectedMass>({.value = bad})));
    CHECK_FALSE(all_finite(scores_by<lethe::Trigonometric>({.key = bad})));
    CHECK_FALSE(all_finite(scores_by<lethe::Capacity>({.key = bad})));
    CHECK_FALSE(all_finite(scores_by<lethe::Capacity>({.value = bad})));
    CHECK_FALSE(all_finite(scores_by<lethe::TwoPaceMass>({.key = bad})));
  }
  CHECK(all_finite(scores_of<lethe::GumbelMass>({}, {})));
  CHECK(all_finite(scores_of<lethe::WindowShift>({}, {})));
  CHECK(all_finite(projected_scores({})));
}

TEST_CASE("queries that are not finite are left out") {
  for (const std::uint32_t bits : odd_floats) {
    const Odd odd{.query = float_of(bits)};
    CHECK(all_finite(scores_by<lethe::ExpectedMass>(odd)));
    CHECK(all_finite(scores_by<lethe::Trigonometric>(odd)));
    CHECK(all_finite(scores_by<lethe::Capacity>(odd)));
    CHECK(all_finite(scores_by<lethe::TwoPaceMass>(odd)));
  }
}

TEST_CASE("probabilities and mass that are not finite are found") {
  for (const std::uint32_t bad : odd_floats) {
    check_kinds(lethe::policies::Lethe(config(), {.decay = 0.5f, .first_threshold = 150}), bad);
    check_kinds(lethe::policies::H2O(config()), bad);
    check_kinds(lethe::policies::SnapKV(config(), {.window = 190, .pool = 1}), bad);
    check_kinds(lethe::policies::GKV(config(), {.window = 190, .pool = 1}), bad);
  }
}

TEST_CASE("logits and queries that are no number are found") {
  for (const std::uint32_t bad : {odd_floats[0], odd_floats[1]}) {
    check_nan_kinds(lethe::policies::H2O(config()), bad);
    check_nan_kinds(lethe::policies::Lethe(config(), {.decay = 0.5f, .first_threshold = 150}), bad);
  }
}

TEST_CASE("sound attention is pruned as ever") {
  CHECK(first_outcome(lethe::policies::H2O(config()), [](auto& p, std::size_t tokens) {
          const std::vector<float> row(tokens, 0.25f);
          p.observe(0, lethe::Logits<float>{.data = row.data(), .columns = tokens});
        }) == Outcome::pruned);
}

TEST_CASE("halves keep their bits where the processor flushes subnormals") {
  int wrong = 0;
  for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const std::uint32_t found = std::bit_cast<std::uint32_t>(
        lethe::to_float(lethe::Half{static_cast<std::uint16_t>(bits)}));
    const std::uint32_t sign = (bits & 0x8000u) << 16;
    const std::uint32_t exponent = (bits >> 10) & 0x1Fu;
    std::uint32_t fraction = bits & 0x3FFu;
    std::uint32_t expected = sign;
    if (exponent == 31) {
      expected |= 0x7F800000u | (fraction << 13);
    } else if (exponent != 0) {
      expected |= ((exponent + 112) << 23) | (fraction << 13);
    } else if (fraction != 0) {
      std::uint32_t lift = 113;
      for (; (fraction & 0x400u) == 0; fraction <<= 1) --lift;
      expected |= (lift << 23) | ((fraction & 0x3FFu) << 13);
    }
    wrong += found == expected ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("settings that are no number are refused") {
  CHECK_THROWS_AS(lethe::policies::Lethe(config(), {.decay = float_of(odd_floats[0])}),
                  std::invalid_argument);
}
