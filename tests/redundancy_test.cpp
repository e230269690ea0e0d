#include "lethe/score/redundancy.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "lethe/budget.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/decayed_maximum.hpp"
#include "lethe/score/window.hpp"
#include "samples.hpp"

namespace {

using Scorer = lethe::Redundant<lethe::WindowMass>;
using GlobalScorer = lethe::Redundant<lethe::DecayedMaximum<lethe::WindowMass>>;
using Row = std::vector<double>;

constexpr std::size_t heads = 2;
constexpr std::size_t dimension = 6;
constexpr std::size_t slots = 96;
constexpr std::size_t window = 8;
constexpr std::size_t recent = 8;
constexpr std::size_t pool = 7;
constexpr double lambda = static_cast<double>(0.1f);

/// A token, by its keys.
struct Token {
  lethe::Position position = 0;
  std::vector<float> key;
};

/// A cache of tokens; slots need not be in the order of position.
struct Keys {
  std::vector<Token> tokens;

  [[nodiscard]] std::size_t layers() const { return 1; }
  [[nodiscard]] std::size_t size(std::size_t) const { return tokens.size(); }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    for (const lethe::EvictionPlan& plan : plans) keep(plan.kept);
  }
  void keep(std::span<const lethe::Slot> kept) {
    for (std::size_t i = 0; i < kept.size(); ++i) tokens[i] = tokens[kept[i]];
    tokens.resize(kept.size());
  }
  void read_keys(std::size_t, std::size_t head, std::size_t slot, std::span<float> out) const {
    std::copy_n(tokens[slot].key.begin() + static_cast<std::ptrdiff_t>(head * dimension),
                out.size(), out.begin());
  }

  [[nodiscard]] std::vector<lethe::Position> positions() const {
    std::vector<lethe::Position> result;
    for (const Token& token : tokens) result.push_back(token.position);
    return result;
  }

  /// Every third token says an earlier one again, more or less.
  void draw(Samples& samples, lethe::Position position) {
    Token token{position, samples.row(heads * dimension, -0.5f, 0.5f)};
    if (position % 3 == 2) {
      const Token& old = tokens[samples.below(tokens.size())];
      for (std::size_t c = 0; c < token.key.size(); ++c) {
        token.key[c] = old.key[c] + 0.4f * token.key[c];
      }
    }
    tokens.push_back(token);
  }
};

lethe::KeyShape key_shape() {
  return {.kv_heads = heads, .head_dimension = dimension, .frequencies = {}};
}

Scorer make_scorer(std::size_t groups) {
  return Scorer({.score = {.window = window, .pool = 1}, .keys = key_shape()},
                {.layers = 1, .groups = groups, .slots = slots});
}

// R-KV as its formulas say, in double precision: the whole matrix, tokens in the order of position.

double cosine(const Token& a, const Token& b, std::size_t head) {
  double dot = 0;
  double left = 0;
  double right = 0;
  for (std::size_t c = head * dimension; c < (head + 1) * dimension; ++c) {
    dot += double(a.key[c]) * double(b.key[c]);
    left += double(a.key[c]) * double(a.key[c]);
    right += double(b.key[c]) * double(b.key[c]);
  }
  return dot / std::sqrt(left * right);
}

Row naive_redundancy(const std::vector<Token>& tokens, std::size_t head) {
  const std::size_t n = tokens.size();
  std::vector<Row> matrix(n, Row(n, 0.0));
  double undecided = 1;
  for (std::size_t i = 0; i < n; ++i) {
    std::size_t last = n;
    for (std::size_t j = 0; j < n; ++j) {
      matrix[i][j] = i == j ? 0.0 : cosine(tokens[i], tokens[j], head);
      undecided = std::min(undecided, std::abs(matrix[i][j] - 0.5));
      if (matrix[i][j] > 0.5) last = j;
    }
    if (last != n) matrix[i][last] = 0.0;
  }
  REQUIRE(undecided > 1e-6);  // no rounding decides
  Row result(n, 0.0);
  double total = 0;
  for (std::size_t j = 0; j < n; ++j) {
    for (std::size_t i = 0; i < n; ++i) result[j] += matrix[i][j] / double(n);
    result[j] = std::exp(result[j]);
    total += result[j];
  }
  for (double& value : result) value /= total;
  return result;
}

/// The mean over the heads of a group.
Row naive_redundancy(const std::vector<Token>& tokens, std::size_t groups, std::size_t group) {
  const std::size_t each = heads / groups;
  Row result(tokens.size(), 0.0);
  for (std::size_t head = group * each; head < (group + 1) * each; ++head) {
    const Row own = naive_redundancy(tokens, head);
    for (std::size_t i = 0; i < own.size(); ++i) result[i] += own[i] / double(each);
  }
  return result;
}

Row max_pooled(const Row& row) {
  Row result = row;
  for (std::size_t i = 0; i < row.size(); ++i) {
    for (std::size_t j = 0; j < row.size(); ++j) {
      const std::size_t apart = i < j ? j - i : i - j;
      if (apart <= pool / 2) result[i] = std::max(result[i], row[j]);
    }
  }
  return result;
}

std::size_t others_of(std::size_t tokens) { return tokens - std::min(tokens, recent); }

double largest(const Row& row) { return *std::max_element(row.begin(), row.end()); }

/// Z of all tokens but the recent ones, raised by (1 - lambda) max R; mass: that of the window.
Row naive_scores(const Row& mass, const Row& redundancy) {
  Row past(mass.begin(), mass.begin() + static_cast<std::ptrdiff_t>(others_of(mass.size())));
  double sum = 0;
  for (const double value : past) sum += value;
  for (double& value : past) value /= sum;
  Row scores = max_pooled(past);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    scores[i] = lambda * scores[i] + (1 - lambda) * (largest(redundancy) - redundancy[i]);
  }
  return scores;
}

/// The mass of the last queries, one row of tokens a query.
struct Window {
  std::vector<Row> rows;

  void add(const std::vector<float>& mass) {
    for (Row& row : rows) row.resize(mass.size(), 0.0);
    rows.emplace_back(mass.begin(), mass.end());
    if (rows.size() > window) rows.erase(rows.begin());
  }
  void keep(std::span<const lethe::Slot> kept) {
    for (Row& row : rows) {
      for (std::size_t i = 0; i < kept.size(); ++i) row[i] = row[kept[i]];
      row.resize(kept.size());
    }
  }
  [[nodiscard]] Row sums() const {
    Row result(rows.back().size(), 0.0);
    for (const Row& row : rows) {
      for (std::size_t i = 0; i < row.size(); ++i) result[i] += row[i];
    }
    return result;
  }
};

template <class Redundant>
std::vector<float> scores_of(Redundant& scorer, const Keys& keys, std::size_t group = 0) {
  std::vector<float> scratch(keys.tokens.size());
  const auto row = scorer.score(0, group, keys.positions(), scratch);
  return {row.begin(), row.end()};
}

template <class Redundant>
void observe(Redundant& scorer, const std::vector<float>& mass) {
  scorer.record(0, 0, 0, 0, mass);
  scorer.advance(1);
}

void require_close(const std::vector<float>& found, const Row& expected, double error) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    REQUIRE_THAT(double(found[i]), WithinAbs(expected[i], error));
  }
}

/// Tokens that come one by one, and what they are paid.
struct Stream {
  Samples samples;
  Keys keys{};
  std::vector<Window> mass;
  lethe::Position next = 0;

  explicit Stream(std::uint64_t seed, std::size_t groups = 1) : samples(seed), mass(groups) {}

  template <class Redundant>
  void step(Redundant& scorer) {
    keys.draw(samples, next++);
    for (std::size_t group = 0; group < mass.size(); ++group) {
      const std::vector<float> row = samples.mass(keys.tokens.size());
      mass[group].add(row);
      scorer.record(0, group, 0, 0, row);
    }
    scorer.advance(1);
  }

  void keep(std::span<const lethe::Slot> kept) {
    keys.keep(kept);
    for (Window& row : mass) row.keep(kept);
  }

  template <class Redundant>
  std::vector<lethe::Slot> drop_half(Redundant& scorer) {
    const std::size_t tokens = keys.tokens.size();
    const std::vector<lethe::Slot> kept = samples.slots(tokens, tokens / 2);
    for (std::size_t group = 0; group < mass.size(); ++group) {
      scorer.keep({.tokens = static_cast<std::uint32_t>(tokens), .kept = kept}, group);
    }
    keep(kept);
    return kept;
  }
};

}  // namespace

TEST_CASE("scores are R-KV's formula, over rounds that drop tokens, in every grouping") {
  for (const std::size_t groups : {std::size_t{1}, heads}) {
    Stream stream(70 + groups, groups);
    Scorer scorer = make_scorer(groups);
    for (int round = 0; round < 5; ++round) {
      while (stream.keys.tokens.size() < slots - stream.samples.below(20)) stream.step(scorer);
      for (std::size_t group = 0; group < groups; ++group) {
        scorer.read(stream.keys, 0, group, stream.keys.positions());
        const Row redundancy = naive_redundancy(stream.keys.tokens, groups, group);
        const Row expected = naive_scores(stream.mass[group].sums(), redundancy);
        require_close(scores_of(scorer, stream.keys, group), expected, 2e-7);
      }
      stream.drop_half(scorer);
    }
  }
}

namespace {

/// The slots that stayed: no token went that ranks above one of them, and the recent ones stayed.
std::vector<lethe::Slot> require_best_kept(const Keys& before, const Keys& after,
                                           const Row& ranking) {
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
      const Row redundancy = naive_redundancy(stream.keys.tokens, 1, 0);
      const Row ranking = naive_scores(stream.mass[0].sums(), redundancy);
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
    Token token{position, std::vector<float>(heads * dimension, 0.0f)};
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
    for (const Token& token : order.tokens) row.push_back(mass[token.position]);
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
Row naive_global_scores(const Row& standing, const Row& redundancy) {
  const auto others = static_cast<std::ptrdiff_t>(others_of(standing.size()));
  const Row past(standing.begin(), standing.begin() + others);
  const double most = largest(Row(redundancy.begin(), redundancy.begin() + others));
  Row scores = max_pooled(past);
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
  Row standing;
  for (int round = 0; round < 6; ++round) {
    for (int token = 0; token < 30; ++token) stream.step(scorer);
    const Row sums = stream.mass[0].sums();
    standing.resize(sums.size(), 0.0);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      standing[i] = std::max(double(0.8f) * standing[i], sums[i] / largest(sums));
    }
    scorer.read(stream.keys, 0, 0, stream.keys.positions());
    const Row redundancy = naive_redundancy(stream.keys.tokens, 1, 0);
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
  const Row redundancy = naive_redundancy(keys.tokens, 1, 0);
  const Row expected = naive_global_scores(Row(mass.begin(), mass.end()), redundancy);
  require_close(scores_of(scorer, keys), expected, 2e-6);
}

TEST_CASE("few tokens, no mass and keys of zeros have finite scores that are not negative") {
  for (const std::size_t tokens : {0u, 1u, 5u, 8u, 9u, 16u, 17u}) {
    Keys keys;
    for (std::size_t i = 0; i < tokens; ++i) {
      const float channel = i % 2 == 0 ? 0.0f : 1.0f;
      keys.tokens.push_back(
          {static_cast<lethe::Position>(i), std::vector<float>(heads * dimension, channel)});
    }
    Scorer scorer = make_scorer(1);
    scorer.read(keys, 0, 0, keys.positions());
    for (int query = 0; query < 2; ++query) {
      for (const float score : scores_of(scorer, keys)) {
        CHECK(lethe::is_finite(score));
        CHECK(score >= 0.0f);
      }
      // All the mass on the newest token, and next to none on the rest.
      std::vector<float> mass(tokens, 1e-45f);
      if (tokens != 0) mass.back() = 1.0f;
      observe(scorer, mass);
    }
  }
}

TEST_CASE("mass and keys that are not finite stay visible") {
  for (const float odd : {not_a_number, infinity}) {
    Samples samples(76);
    Keys keys;
    for (lethe::Position token = 0; token < 30; ++token) keys.draw(samples, token);
    std::vector<float> mass = samples.mass(30);
    mass[11] = odd;
    Scorer scorer = make_scorer(1);
    observe(scorer, mass);
    scorer.read(keys, 0, 0, keys.positions());
    CHECK_FALSE(lethe::is_finite(scores_of(scorer, keys)[11]));

    Scorer other = make_scorer(1);
    keys.tokens[7].key[3] = odd;
    other.read(keys, 0, 0, keys.positions());
    CHECK_FALSE(lethe::summarise(scores_of(other, keys)).finite);
  }
}

TEST_CASE("what was read follows the survivors, and a new token has none") {
  Stream stream(77);
  Scorer scorer = make_scorer(1);
  for (lethe::Position token = 0; token < 40; ++token) stream.keys.draw(stream.samples, token);
  scorer.read(stream.keys, 0, 0, stream.keys.positions());  // no mass: novelty alone
  const std::vector<float> before = scores_of(scorer, stream.keys);
  stream.mass.front().add(std::vector<float>(40, 0.0f));
  const std::vector<lethe::Slot> kept = stream.drop_half(scorer);
  const std::vector<float> found = scores_of(scorer, stream.keys);
  for (std::size_t i = 0; i < kept.size(); ++i) REQUIRE(found[i] == before[kept[i]]);
  stream.keys.draw(stream.samples, 40);
  CHECK(scores_of(scorer, stream.keys).back() == 0.0f);
}

TEST_CASE("a saved scorer goes on where it stood, a fork apart, a reset one anew") {
  Stream stream(79);
  Scorer scorer = make_scorer(1);
  for (int token = 0; token < 40; ++token) stream.step(scorer);
  scorer.read(stream.keys, 0, 0, stream.keys.positions());
  lethe::detail::StateWriter writer;
  Scorer::archive(writer, scorer);
  Scorer restored = make_scorer(1);
  lethe::detail::StateReader reader(writer.bytes());
  Scorer::archive(reader, restored);
  REQUIRE(reader.at_end());
  CHECK(restored.valid());
  CHECK(scores_of(restored, stream.keys) == scores_of(scorer, stream.keys));
  Scorer fork = scorer;
  stream.step(fork);
  stream.keys.tokens.pop_back();
  CHECK(scores_of(restored, stream.keys) == scores_of(scorer, stream.keys));
  CHECK(scores_of(fork, stream.keys) != scores_of(scorer, stream.keys));
  restored.reset();
  CHECK(scores_of(restored, stream.keys) == std::vector<float>(40, 0.0f));
}

TEST_CASE("damaged state is not valid") {
  const Scorer scorer = make_scorer(1);
  lethe::detail::StateWriter writer;
  Scorer::archive(writer, scorer);
  std::vector<std::byte> bytes = writer.take();
  bytes.back() = std::byte{0xC0};  // the last slot's novelty: -2
  Scorer restored = make_scorer(1);
  lethe::detail::StateReader reader(bytes);
  Scorer::archive(reader, restored);
  REQUIRE(reader.at_end());
  CHECK_FALSE(restored.valid());
}

TEST_CASE("a forgotten slot is a new token's") {
  Samples samples(78);
  Keys keys;
  for (lethe::Position token = 0; token < 20; ++token) keys.draw(samples, token);
  Scorer scorer({.score = {.window = window, .pool = 1}, .keys = key_shape(), .pool = 1},
                {.layers = 1, .slots = slots});
  observe(scorer, std::vector<float>(20, 0.5f));
  scorer.read(keys, 0, 0, keys.positions());
  REQUIRE(scores_of(scorer, keys)[3] > 0.0f);
  scorer.forget(0, 0, 3);
  CHECK(scores_of(scorer, keys)[3] == 0.0f);
}

TEST_CASE("settings of Redundant that cannot be are refused by name") {
  const auto make = [](const Scorer::Config& config, std::size_t groups = 1) {
    return Scorer(config, {.layers = 1, .groups = groups, .slots = 8});
  };
  Scorer::Config config{.keys = key_shape()};
  CHECK_THROWS_WITH(make(config, 3), Catch::Contains("groups = 3"));
  config.importance_weight = 1.5f;
  CHECK_THROWS_WITH(make(config), Catch::Contains("importance_weight = 1.5"));
  config = {.keys = key_shape(), .threshold = 1.0f};
  CHECK_THROWS_WITH(make(config), Catch::Contains("threshold = 1.0"));
  config.threshold = -0.5f;
  CHECK_THROWS_WITH(make(config), Catch::Contains("threshold = -0.5"));
  config = {.keys = key_shape(), .pool = 4};
  CHECK_THROWS_WITH(make(config), Catch::Contains("pool = 4"));
  config = {.keys = key_shape()};
  config.keys.kv_heads = 0;
  CHECK_THROWS_WITH(make(config), Catch::Contains("keys.kv_heads = 0"));
  config.keys = key_shape();
  config.keys.head_dimension = 0;
  CHECK_THROWS_WITH(make(config), Catch::Contains("keys.head_dimension = 0"));
  CHECK_THROWS_AS(make(config), std::invalid_argument);
}
