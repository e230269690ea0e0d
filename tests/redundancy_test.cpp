#include "lethe/score/redundancy.hpp"

#include "naive/redundancy.hpp"

using namespace naive;

TEST_CASE("scores are R-KV's formula, over rounds that drop tokens, in every grouping") {
  for (const std::size_t groups : {std::size_t{1}, heads}) {
    Stream stream(70 + groups, groups);
    Scorer scorer = make_scorer(groups);
    for (int round = 0; round < 5; ++round) {
      while (stream.keys.tokens.size() < slots - stream.samples.below(20)) stream.step(scorer);
      for (std::size_t group = 0; group < groups; ++group) {
        scorer.read(stream.keys, 0, group, stream.keys.positions());
        const Doubles redundancy = naive_redundancy(stream.keys.tokens, groups, group);
        const Doubles expected = naive_scores(stream.mass[group].sums(), redundancy);
        require_close(scores_of(scorer, stream.keys, group), expected, 2e-7);
      }
      stream.drop_half(scorer);
    }
  }
}

namespace {

/// The slots that stayed: no token went that ranks above one of them, and the recent ones stayed.
std::vector<lethe::Slot> require_best_kept(const Keys& before, const Keys& after,
                                           const Doubles& ranking) {
  double worst_kept = 1;
  double best_dropped = 0;
  std::vector<lethe::Slot> kept;
  const std::vector<lethe::Position> held = after.positions();
  for (std::size_t i = 0; i < before.tokens.size(); ++i) {
    const bool stays = std::binary_search(held.begin(), held.end(), before.tokens[i].position);
    if (stays) kept.push_back(static_cast<lethe::Slot>(i));
    if (i >= ranking.size()) {
      REQUIRE(stays);
    } else if (stays) {
      worst_kept = std::min(worst_kept, ranking[i]);
    } else {
      best_dropped = std::max(best_dropped, ranking[i]);
    }
  }
  REQUIRE(worst_kept > best_dropped - 1e-7);
  return kept;
}

/// Makes a pruner's calls of a scorer's.
template <class Pruner>
struct Recorder {
  Pruner& pruner;
  void record(std::size_t layer, std::size_t, std::int64_t, std::size_t,
              const std::vector<float>& row) {
    pruner.observe(layer, lethe::Mass<float>{.data = row.data(), .columns = row.size()});
  }
  void advance(std::size_t) { pruner.commit(); }
};

}  // namespace

TEST_CASE("a pruner keeps the tokens that R-KV's formula ranks first") {
  using Pruner = lethe::Pruner<Scorer, lethe::UniformBudget>;
  Pruner pruner({.layers = 1, .capacity = 64},
                {.retention = {.first_tokens = 0, .recent_tokens = recent}},
                {.score = {.window = window, .pool = 1}, .keys = key_shape()}, {});
  Recorder<Pruner> recorder{pruner};
  Stream stream(73);
  int rounds = 0;
  for (int token = 0; token < 200; ++token) {
    Keys cache = stream.keys;
    if (pruner.make_room(cache, 1) != 0) {
      ++rounds;
      const Doubles redundancy = naive_redundancy(stream.keys.tokens, 1, 0);
      const Doubles ranking = naive_scores(stream.mass[0].sums(), redundancy);
      stream.keep(require_best_kept(stream.keys, cache, ranking));
    }
    stream.step(recorder);
  }
  CHECK(rounds > 5);
}

TEST_CASE("the newest of equal tokens is spared, by position and not by slot") {
  // Three tokens that say the same, and others that say nothing alike.
  Keys keys;
  const std::vector<lethe::Position> order{4, 0, 3, 1, 5, 2};
  for (const lethe::Position position : order) {
    KeyedToken token{position, std::vector<float>(heads * dimension, 0.0f)};
    const std::size_t channel = position % 2 == 0 ? 0 : position;
    for (std::size_t head = 0; head < heads; ++head) token.key[head * dimension + channel] = 1.0f;
    keys.tokens.push_back(token);
  }
  Scorer scorer({.score = {.window = 1, .pool = 1}, .keys = key_shape(), .recent_tokens = 0},
                {.layers = 1, .slots = slots});
  scorer.read(keys, 0, 0, keys.positions());
  const std::vector<float> found = scores_of(scorer, keys);
  std::vector<float> by_position(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) by_position[order[i]] = found[i];
  // Each spares the newest of the other two: of two cosines, 4 loses both, 2 one and 0 none.
  CHECK(by_position[0] == 0.0f);
  CHECK(by_position[2] > by_position[0]);
  CHECK(by_position[4] > by_position[2]);
  for (const std::size_t unlike : {1u, 3u, 5u}) CHECK(by_position[unlike] == by_position[4]);
}

TEST_CASE("slots change no bit of a token's score") {
  Samples samples(74);
  Keys keys;
  for (lethe::Position token = 0; token < 70; ++token) keys.draw(samples, token);
  const std::vector<float> mass = samples.mass(70);
  const auto scores_in = [&](const Keys& order) {
    std::vector<float> row;
    for (const KeyedToken& token : order.tokens) row.push_back(mass[token.position]);
    Scorer scorer = make_scorer(1);
    observe(scorer, row);
    scorer.read(order, 0, 0, order.positions());
    return scores_of(scorer, order);
  };
  Keys shuffled = keys;
  for (std::size_t i = 69; i > 0; --i) {
    std::swap(shuffled.tokens[i], shuffled.tokens[samples.below(i + 1)]);
  }
  const std::vector<float> expected = scores_in(keys);
  const std::vector<float> found = scores_in(shuffled);
  for (std::size_t i = 0; i < found.size(); ++i) {
    REQUIRE(found[i] == expected[shuffled.tokens[i].position]);
  }
}

namespace {

/// G-KV with its redundancy term, of all tokens but the recent ones, raised as R-KV's is here.
Doubles naive_global_scores(const Doubles& standing, const Doubles& redundancy) {
  const auto others = static_cast<std::ptrdiff_t>(others_of(standing.size()));
  const Doubles past(standing.begin(), standing.begin() + others);
  const double most = largest(Doubles(redundancy.begin(), redundancy.begin() + others));
  Doubles scores = max_pooled(past);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    scores[i] = lambda * scores[i] / largest(past) +
                (1 - lambda) * (largest(redundancy) - redundancy[i]) / most;
  }
  return scores;
}

}  // namespace

TEST_CASE("with the maximum as scale it is G-KV's standing less redundancy") {
  GlobalScorer scorer({.score = {.score = {.window = window, .pool = 1}, .decay = 0.8f},
                       .keys = key_shape(),
                       .scale = lethe::RedundancyScale::maximum},
                      {.layers = 1, .slots = slots});
  Stream stream(75);
  Doubles standing;
  for (int round = 0; round < 6; ++round) {
    for (int token = 0; token < 30; ++token) stream.step(scorer);
    const Doubles sums = stream.mass[0].sums();
    standing.resize(sums.size(), 0.0);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      standing[i] = std::max(double(0.8f) * standing[i], sums[i] / largest(sums));
    }
    scorer.read(stream.keys, 0, 0, stream.keys.positions());
    const Doubles redundancy = naive_redundancy(stream.keys.tokens, 1, 0);
    require_close(scores_of(scorer, stream.keys), naive_global_scores(standing, redundancy), 2e-6);
    const std::vector<lethe::Slot> kept = stream.drop_half(scorer);
    for (std::size_t i = 0; i < kept.size(); ++i) standing[i] = standing[kept[i]];
    standing.resize(kept.size());
  }
}

TEST_CASE("recent tokens do not set the scale") {
  Samples samples(80);
  Keys keys;
  for (lethe::Position token = 0; token < 12; ++token) {
    keys.tokens.push_back({token, samples.row(heads * dimension, -0.5f, 0.5f)});
  }
  for (lethe::Position token = 12; token < 20; ++token) {  // all alike
    keys.tokens.push_back({token, std::vector<float>(heads * dimension, 0.5f)});
  }
  Scorer scorer({.score = {.window = window, .pool = 1},
                 .keys = key_shape(),
                 .scale = lethe::RedundancyScale::maximum},
                {.layers = 1, .slots = slots});
  const std::vector<float> mass = samples.mass(20);
  observe(scorer, mass);
  scorer.read(keys, 0, 0, keys.positions());
  const Doubles redundancy = naive_redundancy(keys.tokens, 1, 0);
  const Doubles expected = naive_global_scores(Doubles(mass.begin(), mass.end()), redundancy);
  require_close(scores_of(scorer, keys), expected, 2e-6);
}
