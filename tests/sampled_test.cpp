#include "lethe/score/sampled.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "catch.hpp"
#include "lethe/score/rasr.hpp"
#include "naive/given.hpp"
#include "naive/history.hpp"
#include "samples.hpp"

namespace {

using lethe::Position;
using Row = std::vector<float>;

using Given = naive::Given;
using Sampled = lethe::Sampled<Given>;

static_assert(!lethe::CacheReadingScorer<Sampled, naive::GivenCache>);
static_assert(lethe::CacheReadingScorer<lethe::Sampled<naive::Shown>, naive::GivenCache>);
static_assert(!lethe::CacheReadingScorer<lethe::Sampled<naive::Shown>, int>);
static_assert(lethe::Sampled<naive::Shown>::reads_cache && lethe::Sampled<lethe::Rasr>::reads_mass);

constexpr lethe::ScoreShape shape{.layers = 4, .groups = 4, .slots = 64};

Row draw(Sampled& scorer, std::size_t tokens) {
  return naive::scores_of(scorer, ascending_positions(tokens));
}

/// The token drawn first, and the one drawn next.
std::pair<std::size_t, std::size_t> first_two(const Row& scores) {
  std::vector<std::size_t> order(scores.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  return {order[0], order[1]};
}

void check_count(double found, double trials, double chance) {
  CAPTURE(found, trials, chance);
  CHECK(std::abs(found - trials * chance) < 5 * std::sqrt(trials * chance * (1 - chance)) + 1e-9);
}

/// How often tokens are drawn first, and pairs in turn, against their chances without replacement.
void check_draws(const Row& weights, const std::vector<Row>& draws) {
  double total = 0;
  for (const float weight : weights) total += double(weight);
  std::map<std::size_t, double> first;
  std::map<std::pair<std::size_t, std::size_t>, double> pairs;
  for (const Row& scores : draws) {
    ++first[first_two(scores).first];
    ++pairs[first_two(scores)];
  }
  const auto trials = double(draws.size());
  for (std::size_t a = 0; a < weights.size(); ++a) {
    const double chance = double(weights[a]) / total;
    check_count(first[a], trials, chance);
    for (std::size_t b = 0; b < weights.size(); ++b) {
      if (a == b) continue;
      const double then = double(weights[b]) / (total - double(weights[a]));
      check_count(pairs[{a, b}], trials, chance * then);
    }
  }
}

/// Cumulative mass over an exponential, from the formula.
struct Races {
  std::map<std::uint32_t, double> mass;

  void pay(std::size_t, const std::vector<std::uint32_t>& positions,
           const std::vector<double>& paid) {
    for (std::size_t i = 0; i < positions.size(); ++i) mass[positions[i]] += paid[i];
  }

  [[nodiscard]] double score(std::uint32_t position, std::size_t queries) const {
    using lethe::detail::mix;
    const std::uint64_t stream = mix(mix(mix(std::uint64_t{9} ^ queries) ^ 0u) ^ 0u);
    const std::uint64_t word = mix(stream ^ position) >> 41;
    const double uniform = (double(word) + 0.5) / 8388608.0;
    const auto found = mass.find(position);
    return found == mass.end() ? 0 : found->second / -std::log(uniform);
  }
};

}  // namespace

TEST_CASE("tokens are drawn in proportion to their weights, without replacement") {
  const Row weights{0.5f, 0.0f, 3.0f, 1.0f, 0.25f, 1.25f};
  std::vector<Row> draws;
  for (std::uint64_t seed = 0; seed < 40000; ++seed) {
    Sampled scorer({.score = {weights}, .seed = seed}, shape);
    draws.push_back(draw(scorer, weights.size()));
  }
  check_draws(weights, draws);
}

TEST_CASE("so they are from round to round under one seed, and from head to head") {
  const Row weights{2.0f, 1.0f, 1.0f, 0.5f};
  Sampled scorer({.score = {weights}}, shape);
  std::vector<Row> rounds;
  std::vector<Row> heads;
  for (std::size_t round = 0; round < 40000; ++round) {
    scorer.advance(32);
    rounds.push_back(draw(scorer, weights.size()));
    heads.push_back(naive::scores_of(scorer, ascending_positions(weights.size()), 3, round));
  }
  check_draws(weights, rounds);
  check_draws(weights, heads);
}

TEST_CASE("scores are the formula's, over rounds and overwritten slots") {
  // Rasr adds up in floats.
  const naive::HistorySetup setup{.steps = 400, .tolerance = 1e-5};
  const lethe::SampledConfig<lethe::Rasr> config{.score = {.decay = 1.0f}, .seed = 9};
  using Scorer = lethe::Sampled<lethe::Rasr>;
  CHECK(naive::History<Scorer, Races>(setup, config, {}).run() > 300);
  CHECK(naive::History<Scorer, Races, naive::with_overwrite>(setup, config, {}).run() > 300);
}

TEST_CASE("a draw depends on seed, layer, group, round and position, and on nothing else") {
  const Row weights(64, 1.0f);
  Sampled scorer({.score = {weights}, .seed = 5}, shape);
  Sampled other({.score = {weights}, .seed = 6}, shape);
  const std::vector<Position> positions = ascending_positions(64);
  const Row base = naive::scores_of(scorer, positions);
  CHECK(naive::scores_of(scorer, positions) == base);
  CHECK(naive::scores_of(other, positions) != base);
  CHECK(naive::scores_of(scorer, positions, 1, 0) != base);
  CHECK(naive::scores_of(scorer, positions, 0, 1) != naive::scores_of(scorer, positions, 1, 0));
  CHECK(naive::scores_of(scorer, {7, 3}) == Row{base[7], base[3]});
  Sampled fork = scorer;
  scorer.advance(1);
  fork.advance(1);
  CHECK(naive::scores_of(scorer, positions) != base);
  CHECK(naive::scores_of(scorer, positions) == naive::scores_of(fork, positions));
  scorer.reset();
  CHECK(naive::scores_of(scorer, positions) == base);
}

TEST_CASE("draws are the same on every machine and in every release") {
  // Saved runs and published comparisons rest on these values.
  // When this fails: is this change intended? Then it belongs in CHANGELOG.md.
  Sampled scorer({.score = {Row{1.0f, 0.5f, 0.001f, 7.0f}}, .seed = 1}, shape);
  scorer.advance(100);
  std::vector<std::uint32_t> bits;
  for (const float score : naive::scores_of(scorer, ascending_positions(4), 2, 3)) {
    bits.push_back(std::bit_cast<std::uint32_t>(score));
  }
  CHECK(bits == std::vector<std::uint32_t>{0x3F69BF11u, 0x3F866A0Au, 0x3AC8AC41u, 0x40205C0Du});
}

TEST_CASE("odd weights: none is none, and what is not finite stays so") {
  const float most = std::numeric_limits<float>::max();
  Sampled scorer({.score = {Row{0.0f, -0.0f, -2.0f, most, 1e-45f}}}, shape);
  for (int round = 0; round < 100; ++round) {
    scorer.advance(1);
    const Row scores = draw(scorer, 5);
    for (std::size_t i = 0; i < 3; ++i) CHECK(scores[i] == 0.0f);
    CHECK(lethe::is_finite(scores[3]));
    CHECK(scores[3] > 1e37f);
    CHECK(scores[4] >= 0.0f);
  }
  Sampled broken({.score = {Row{1.0f, not_a_number, infinity, -infinity}}}, shape);
  const Row scores = draw(broken, 4);
  CHECK(lethe::is_finite(scores[0]));
  for (std::size_t i = 1; i < 4; ++i) CHECK_FALSE(lethe::is_finite(scores[i]));
}

TEST_CASE("the inner scorer's state follows, and is saved with the draw's") {
  using Scorer = lethe::Sampled<lethe::Rasr>;
  const Scorer::Config config{.score = {.decay = 1.0f}, .seed = 3};
  Scorer scorer(config, shape);
  scorer.record(1, 2, 0, 0, Row{1.0f, 0.0f, 2.0f, 3.0f});
  scorer.advance(1);
  const Row before = naive::scores_of(scorer, {0, 1, 2, 3}, 1, 2);
  const std::vector<lethe::Slot> kept{1, 2, 3};
  scorer.keep({.layer = 1, .tokens = 4, .first_move = 0, .kept = kept}, 2);
  scorer.forget(1, 2, 2);
  CHECK(naive::scores_of(scorer, {1, 2, 3}, 1, 2) == Row{0.0f, before[2], 0.0f});
  Scorer restored = naive::restored(scorer, {.score = {.decay = 1.0f}, .seed = 8}, shape);
  CHECK(naive::scores_of(restored, {1, 2, 3}, 1, 2) == naive::scores_of(scorer, {1, 2, 3}, 1, 2));
}
