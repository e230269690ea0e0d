// Redundant at its edges: few tokens, odd numbers, saved and damaged state, bad settings.
#include "naive/redundancy.hpp"

using namespace naive;

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
