#include "lethe/score/pivotal_count.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <vector>

#include "catch.hpp"
#include "naive/given.hpp"
#include "naive/history.hpp"
#include "samples.hpp"

namespace {

using lethe::PivotalCount;
using naive::scores_of;
using Row = std::vector<float>;

/// The queries that found each token below 1/t of their mass.
struct LowScores {
  std::size_t window = 0;
  std::map<std::uint32_t, std::vector<std::size_t>> queries{};

  void pay(std::size_t query, const std::vector<std::uint32_t>& positions,
           const std::vector<double>& mass) {
    const double total = std::accumulate(mass.begin(), mass.end(), 0.0);
    for (std::size_t i = 0; i < mass.size(); ++i) {
      if (mass[i] * double(mass.size()) < total) queries[positions[i]].push_back(query);
    }
  }

  [[nodiscard]] double score(std::uint32_t position, std::size_t now) const {
    const auto found = queries.find(position);
    if (found == queries.end()) return double(window);
    return double(window) -
           double(std::count_if(found->second.begin(), found->second.end(),
                                [&](std::size_t query) { return query + window > now; }));
  }
};

template <unsigned Features>
std::size_t check_history(const naive::HistorySetup& setup, std::size_t window) {
  return naive::History<PivotalCount, LowScores, Features>(
             setup, {.window = window, .open_queries = setup.chunk}, {.window = window})
      .run();
}

void step(PivotalCount& scorer, const Row& mass, std::size_t layer = 0, std::size_t group = 0) {
  scorer.record(layer, group, 0, 0, mass);
  scorer.advance(1);
}

}  // namespace

TEST_CASE("counts are Scissorhands', over rounds, groups, chunks and overwritten slots") {
  std::size_t dropped = 0;
  std::uint64_t seed = 1;
  for (const std::size_t window : {1u, 31u, 32u, 37u, 64u, 400u}) {
    naive::HistorySetup setup{.seed = seed++};
    setup.config.groups = 1 + seed % 2;
    dropped += check_history<naive::plain>(setup, window);
    dropped += check_history<naive::with_overwrite>(setup, window);
    setup.chunk = 6;
    dropped += check_history<naive::plain>(setup, window);
  }
  CHECK(dropped > 1000);
}

TEST_CASE("below the mean is passed over, and equals never are") {
  PivotalCount scorer({.window = 8}, {.layers = 1, .slots = 8});
  step(scorer, Row(7, 0.1f));
  CHECK(scores_of(scorer, {0, 1, 2, 3, 4, 5, 6}) == Row(7, 8.0f));
  step(scorer, {0.5f, 0.25f, 0.25f, 0.0f});
  CHECK(scores_of(scorer, {0, 1, 2, 3, 4}) == Row{8, 8, 8, 7, 8});
  step(scorer, {0.0f, 0.0f, 0.0f, 1.0f, 0.0f});
  CHECK(scores_of(scorer, {0, 1, 2, 3, 4}) == Row{7, 7, 7, 7, 7});
  // Two heads: each 1/t of its own mass, together of both.
  scorer.record(0, 0, 0, 0, Row{0.6f, 0.0f, 0.4f});
  scorer.record(0, 0, 0, 0, Row{0.0f, 0.6f, 0.4f});
  scorer.advance(1);
  CHECK(scores_of(scorer, {0, 1, 2}) == Row{6, 6, 7});
}

TEST_CASE("queries leave the window also when later ones bring no mass") {
  PivotalCount scorer({.window = 3}, {.layers = 1, .slots = 4});
  for (int query = 0; query < 5; ++query) step(scorer, {1.0f, 0.0f});
  CHECK(scores_of(scorer, {0, 1}) == Row{3, 0});
  scorer.advance(1);
  CHECK(scores_of(scorer, {0, 1}) == Row{3, 1});
  step(scorer, {1.0f, 0.0f});
  CHECK(scores_of(scorer, {0, 1}) == Row{3, 1});
  scorer.advance(2);
  CHECK(scores_of(scorer, {0, 1}) == Row{3, 2});
  scorer.advance(100);
  step(scorer, {0.0f, 1.0f});
  CHECK(scores_of(scorer, {0, 1}) == Row{2, 3});
  scorer.reset();
  step(scorer, {1.0f, 0.0f});
  CHECK(scores_of(scorer, {0, 1}) == Row{3, 2});
}

TEST_CASE("queries that are scored late count where they belong") {
  PivotalCount late({.window = 3, .open_queries = 4}, {.layers = 1, .slots = 4});
  late.advance(4);
  CHECK(scores_of(late, {0, 1}) == Row{3, 3});
  for (const std::int64_t query : {-4, -3, -2, -1}) {
    late.record(0, 0, query, 0, query < -2 ? Row{0.0f, 1.0f} : Row{1.0f, 0.0f});
  }
  CHECK(scores_of(late, {0, 1}) == Row{2, 1});
}

TEST_CASE("counts travel with their tokens, and a new token starts anew") {
  PivotalCount scorer({.window = 40}, {.layers = 2, .groups = 2, .slots = 8});
  for (int query = 0; query < 34; ++query) step(scorer, {0.1f, 0.4f, 0.0f, 0.5f}, 1, 1);
  CHECK(scores_of(scorer, {0, 1, 2, 3}, 1, 1) == Row{6, 40, 6, 40});
  CHECK(scores_of(scorer, {0, 1}, 1, 0) == Row{40, 40});
  CHECK(scores_of(scorer, {0, 1}, 0, 1) == Row{40, 40});
  const std::vector<lethe::Slot> kept{1, 2};
  scorer.keep({.layer = 1, .tokens = 4, .first_move = 0, .kept = kept}, 1);
  CHECK(scores_of(scorer, {1, 2, 4, 5}, 1, 1) == Row{40, 6, 40, 40});
  scorer.forget(1, 1, 1);
  CHECK(scores_of(scorer, {1, 6}, 1, 1) == Row{40, 40});
  step(scorer, {1.0f, 0.0f}, 1, 1);
  CHECK(scores_of(scorer, {1, 6}, 1, 1) == Row{40, 39});
  scorer.reset();
  CHECK(scores_of(scorer, {0, 1}, 1, 1) == Row{40, 40});
  step(scorer, {1.0f, 0.0f}, 1, 1);
  CHECK(scores_of(scorer, {0, 1}, 1, 1) == Row{40, 39});
}

TEST_CASE("a saved count goes on where it stood") {
  Samples samples(3);
  const PivotalCount::Config config{.window = 5};
  const lethe::ScoreShape shape{.layers = 1, .groups = 2, .slots = 16};
  PivotalCount scorer(config, shape);
  for (std::size_t query = 0; query < 9; ++query) step(scorer, samples.row(query + 1), 0, 1);
  PivotalCount restored = naive::restored(scorer, config, shape);
  for (std::size_t query = 0; query < 3; ++query) {
    const Row mass = samples.row(10);
    for (PivotalCount* one : {&scorer, &restored}) step(*one, mass, 0, 1);
    CHECK(scores_of(scorer, ascending_positions(10), 0, 1) ==
          scores_of(restored, ascending_positions(10), 0, 1));
  }
}

TEST_CASE("a count of another window is refused") {
  const lethe::ScoreShape shape{.layers = 1, .slots = 8};
  for (const std::size_t window : {33u, 40u}) {
    lethe::detail::StateWriter writer;
    const PivotalCount saved({.window = 33}, shape);
    PivotalCount::archive(writer, saved);
    const std::vector<std::byte> bytes = writer.take();
    lethe::detail::StateReader reader(bytes);
    PivotalCount other({.window = window}, shape);
    PivotalCount::archive(reader, other);
    CHECK(reader.at_end());
    CHECK(other.valid() == (window == 33));
  }
}

TEST_CASE("mass that is not finite stays visible until its token goes") {
  for (const std::size_t window : {3u, 32u}) {
    for (const float odd : {not_a_number, infinity, -infinity}) {
      PivotalCount scorer({.window = window}, {.layers = 1, .slots = 4});
      step(scorer, {1.0f, odd, 1.0f});
      for (int query = 0; query < 40; ++query) step(scorer, {0.5f, 0.0f, 1.0f});
      const Row found = scores_of(scorer, {0, 1, 2});
      CHECK(found[0] == float(window));
      CHECK_FALSE(lethe::is_finite(found[1]));
      CHECK(found[2] == float(window));
      CHECK(scorer.valid());
      scorer.forget(0, 0, 1);
      CHECK(scores_of(scorer, {0, 5, 2})[1] == float(window));
    }
  }
}

TEST_CASE("settings of Scissorhands that cannot be are refused by name") {
  const lethe::ScoreShape shape{.layers = 1, .slots = 4};
  CHECK_THROWS_WITH(PivotalCount({.window = 0}, shape), Catch::Contains("window = 0"));
  CHECK_THROWS_WITH(PivotalCount({.window = ~std::size_t{0}}, shape), Catch::Contains("window"));
  CHECK_THROWS_WITH(PivotalCount({.open_queries = 0}, shape), Catch::Contains("open_queries = 0"));
  CHECK_THROWS_AS(PivotalCount({.open_queries = 0}, shape), std::invalid_argument);
}
