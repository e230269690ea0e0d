// Chunked prefill, token by token, and speculation with rejected drafts come to the same.
#include <cmath>
#include <numeric>

#include "catch.hpp"
#include "naive/attention.hpp"

namespace {

// A round at the bound keeps half, so rounds come at the same tokens however they are fed: each
// phase starts with a step of 8 into a full layer.
constexpr lethe::PrunerConfig config{
    .layers = 2, .capacity = 64, .groups = 2, .slack_ratio = 0.5f, .draft_tokens = 4};

enum class Way { token_by_token, chunks, linear, tree };

/// Indices of a step of `tokens` that stand.
std::vector<std::uint32_t> accept(naive::Random& random, Way way, std::size_t tokens) {
  std::vector<std::uint32_t> accepted;
  const std::size_t prefix = random.below(tokens + 1);
  for (std::uint32_t i = 0; i < tokens; ++i) {
    if (way == Way::tree ? random.chance(50) : i < prefix) accepted.push_back(i);
  }
  return accepted;
}

template <class Pruner>
void fill(naive::Sequence<Pruner>& sequence, Way way, naive::Random& random, std::size_t size) {
  while (sequence.pruner.size(0) < size) {
    const std::size_t left = size - sequence.pruner.size(0);
    if (way == Way::token_by_token) {
      sequence.step(1);
    } else if (way == Way::chunks) {
      sequence.step(std::min(left, random.between(5, 9)));
    } else {
      const std::size_t tokens = std::min<std::size_t>(left, 4);
      const std::vector<std::uint32_t> accepted = accept(random, way, tokens);
      sequence.step(tokens, accepted);
    }
  }
}

template <class Pruner>
void expect_equal(naive::Sequence<Pruner>& a, naive::Sequence<Pruner>& b) {
  for (std::size_t layer = 0; layer < config.layers; ++layer) {
    REQUIRE(a.positions(layer) == b.positions(layer));
    const std::vector<float> x = a.scores(layer);
    const std::vector<float> y = b.scores(layer);
    const double sum_x = std::accumulate(x.begin(), x.end(), 0.0);
    const double sum_y = std::accumulate(y.begin(), y.end(), 0.0);
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      worst = std::max(worst, std::abs(double(x[i]) / sum_x - double(y[i]) / sum_y));
    }
    CHECK(worst < 1e-6);
  }
}

template <class Pruner>
void compare_ways(const Pruner& pruner) {
  for (const Way way : {Way::chunks, Way::linear, Way::tree}) {
    CAPTURE(static_cast<int>(way));
    naive::Sequence<Pruner> one(pruner);
    naive::Sequence<Pruner> other(pruner);
    naive::Random random(static_cast<std::uint64_t>(way));
    for (std::size_t phase = 0; phase < 16; ++phase) {
      fill(one, Way::token_by_token, random, config.capacity);
      fill(other, way, random, config.capacity);
      expect_equal(one, other);
      one.step(8);
      other.step(8);
      expect_equal(one, other);
      REQUIRE(one.pruner.size(0) < config.capacity);
    }
  }
}

}  // namespace

TEST_CASE("Every way of stepping through a text gives the same scores and positions") {
  compare_ways(lethe::policies::Lethe(config, {.decay = 0.9f, .first_threshold = 0}));
  compare_ways(lethe::policies::H2O(config));
  compare_ways(lethe::policies::SnapKV(config, {.window = 5, .pool = 3}));
  compare_ways(lethe::policies::TOVA(config));
  compare_ways(lethe::policies::RandomAttention(config, {.recent_tokens = 4}));
}

TEST_CASE("Rejected drafts leave no trace, to the bit") {
  using Lethe = lethe::policies::Lethe;
  for (const Way way : {Way::linear, Way::tree}) {
    const Lethe pruner(config, {.decay = 0.9f, .first_threshold = 40});
    naive::Sequence<Lethe> proposed(pruner);
    naive::Sequence<Lethe> never(pruner);
    naive::Random random(9);
    for (std::size_t i = 0; i < 400; ++i) {
      // At the bound both must make room for the same.
      const bool tight = proposed.pruner.size(0) + 4 > config.capacity;
      const std::vector<std::uint32_t> accepted =
          tight ? std::vector<std::uint32_t>{0, 1, 2, 3} : accept(random, way, 4);
      proposed.step(4, accepted);
      never.step(accepted.size());
      const bool equal = proposed.pruner.save() == never.pruner.save();
      REQUIRE(equal);
    }
    CHECK(proposed.pruner.size(0) < proposed.pruner.tokens_seen());
  }
}

TEST_CASE("A draft takes no other token's slot") {
  using H2O = lethe::policies::H2O;
  constexpr unsigned overwrites = naive::with_overwrite;
  naive::Sequence<H2O, overwrites> proposed(H2O({.layers = 1, .capacity = 16, .draft_tokens = 2}));
  for (std::size_t i = 0; i < 40; ++i) {
    if (i > 20) proposed.step(1, {});
    proposed.step(1);
  }
  CHECK(proposed.cache.overwrites == 0);
  for (std::size_t i = 0; i < proposed.pruner.size(0); ++i) {
    CHECK(proposed.cache.rows(0, 0)[i].key == proposed.positions(0)[i]);
  }
}

TEST_CASE("A token whose slot was given away cannot be had back") {
  using H2O = lethe::policies::H2O;
  naive::Sequence<H2O, naive::with_overwrite> sequence(H2O({.layers = 1, .capacity = 16}));
  for (std::size_t i = 0; i < 16; ++i) sequence.step(1);
  sequence.pruner.make_room(sequence.cache, 1);
  REQUIRE(sequence.cache.overwrites == 1);
  CHECK(sequence.pruner.size(0) + 1 == sequence.pruner.bound(0));
  CHECK_THROWS_WITH(sequence.pruner.commit(std::span<const std::uint32_t>{}),
                    Catch::Contains("draft_tokens"));
}

TEST_CASE("Rejection is refused where nothing was held back for it") {
  using H2O = lethe::policies::H2O;
  for (const std::size_t drafts : {std::size_t{0}, std::size_t{2}}) {
    naive::Sequence<H2O> sequence(H2O({.layers = 1, .capacity = 32, .draft_tokens = drafts}));
    sequence.pruner.make_room(sequence.cache, 3);
    sequence.observe({0, 1, 2});
    const std::vector<std::uint32_t> subset{0, 2};
    const std::vector<std::uint32_t> prefix{0, 1};
    CHECK_THROWS_WITH(sequence.pruner.commit(subset), Catch::Contains("draft_tokens"));
    CHECK_THROWS_AS(sequence.pruner.commit(prefix), std::invalid_argument);
    // The step is still open: it may stand whole.
    sequence.cache.append(0, std::vector<std::uint32_t>{0, 1, 2});
    sequence.pruner.commit();
    CHECK(sequence.pruner.size(0) == 3);
  }
}

TEST_CASE("A step that was observed must be committed, or be one of drafts") {
  using H2O = lethe::policies::H2O;
  naive::Sequence<H2O> plain(H2O({.layers = 1, .capacity = 32}));
  plain.pruner.make_room(plain.cache, 1);
  plain.pruner.make_room(plain.cache, 1);
  plain.observe({0});
  CHECK_THROWS_WITH(plain.pruner.make_room(plain.cache, 1), Catch::Contains("commit"));
  naive::Sequence<H2O> drafting(H2O({.layers = 1, .capacity = 32, .draft_tokens = 2}));
  naive::Sequence<H2O> fresh = drafting;
  drafting.pruner.make_room(drafting.cache, 1);
  drafting.observe({0});
  drafting.step(1);
  fresh.step(1);
  CHECK(drafting.scores(0) == fresh.scores(0));
}

TEST_CASE("Accepted indices must ascend and lie within the step") {
  using H2O = lethe::policies::H2O;
  naive::Sequence<H2O> sequence(H2O({.layers = 1, .capacity = 32, .draft_tokens = 4}));
  sequence.pruner.make_room(sequence.cache, 3);
  for (const std::vector<std::uint32_t>& wrong :
       {std::vector<std::uint32_t>{1, 0}, {1, 1}, {3}, {0, 1, 2, 3}}) {
    CHECK_THROWS_AS(sequence.pruner.commit(wrong), std::invalid_argument);
  }
}
