#include "lethe/score/window_shift.hpp"

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "naive/given.hpp"
#include "naive/history.hpp"
#include "samples.hpp"

namespace {

using lethe::WindowShift;
using naive::scores_of;

/// CAKE's score and its two measures as they are written, from the rows of the last queries.
struct Cake {
  std::size_t window = 32;
  std::size_t pool = 5;
  double gamma = 200;
  double heads = 1;

  std::deque<std::map<std::uint32_t, double>> rows{};
  std::vector<std::uint32_t> alive{};
  std::size_t seen = 0;

  void pay(std::size_t query, const std::vector<std::uint32_t>& positions,
           const std::vector<double>& mass) {
    std::map<std::uint32_t, double> row;
    for (std::size_t i = 0; i < positions.size(); ++i) row[positions[i]] = mass[i] / heads;
    rows.push_back(row);
    if (rows.size() > window) rows.pop_front();
    alive = positions;
    std::sort(alive.begin(), alive.end());
    seen = query;
  }

  [[nodiscard]] bool is_before(std::uint32_t position) const { return position + window < seen; }

  [[nodiscard]] std::vector<double> paid_to(std::uint32_t position) const {
    std::vector<double> paid;
    for (const auto& row : rows) {
      const auto found = row.find(position);
      paid.push_back(found == row.end() ? 0.0 : found->second);
    }
    return paid;
  }

  [[nodiscard]] double mean(std::uint32_t position) const {
    double sum = 0;
    for (const double one : paid_to(position)) sum += one;
    return sum / double(rows.size());
  }

  [[nodiscard]] double variance(std::uint32_t position) const {
    double sum = 0;
    const double middle = mean(position);
    for (const double one : paid_to(position)) sum += (one - middle) * (one - middle);
    return rows.size() < 2 ? 0.0 : sum / double(rows.size() - 1);
  }

  [[nodiscard]] double alone(std::uint32_t position) const {
    return mean(position) + gamma * variance(position);
  }

  [[nodiscard]] double score(std::uint32_t position, std::size_t) const {
    if (!is_before(position)) return alone(position);
    const auto at = std::find(alive.begin(), alive.end(), position) - alive.begin();
    double sum = 0;
    for (auto i = at - std::ptrdiff_t(pool / 2); i <= at + std::ptrdiff_t(pool / 2); ++i) {
      if (i < 0 || i >= std::ptrdiff_t(alive.size())) continue;
      if (is_before(alive[std::size_t(i)])) sum += alone(alive[std::size_t(i)]);
    }
    return sum / double(pool);
  }

  [[nodiscard]] double entropy() const {
    double sum = 0;
    for (const std::uint32_t position : alive) {
      const double a = mean(position);
      if (is_before(position) && a > 0) sum -= a * std::log(a);
    }
    return sum;
  }

  [[nodiscard]] double total_variance() const {
    double sum = 0;
    for (const std::uint32_t position : alive) {
      if (is_before(position)) sum += variance(position);
    }
    return sum;
  }
};

void step(WindowShift& scorer, const std::vector<float>& mass, std::size_t layer = 0,
          std::size_t group = 0) {
  scorer.record(layer, group, 0, 0, mass);
  scorer.advance(1);
}

std::vector<double> wide(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

}  // namespace

TEST_CASE("scores are CAKE's, over rounds, groups, chunks and overwritten slots") {
  std::size_t dropped = 0;
  for (std::uint64_t seed = 1; seed < 3; ++seed) {
    naive::HistorySetup setup{.recent = 8, .seed = seed};
    setup.config.groups = 1 + seed % 2;
    const Cake model{.window = 8, .pool = 5, .heads = 2};
    dropped += naive::History<WindowShift, Cake>(setup, {.window = 8, .heads = 2}, model).run();
    dropped += naive::History<WindowShift, Cake, naive::with_overwrite>(
                   setup, {.window = 8, .pool = 3, .variance_weight = 5.0f},
                   {.window = 8, .pool = 3, .gamma = 5})
                   .run();
    setup.chunk = 12;
    dropped +=
        naive::History<WindowShift, Cake>(setup, {.window = 8, .pool = 1}, {.window = 8, .pool = 1})
            .run();
  }
  CHECK(dropped > 500);
}

TEST_CASE("entropy and variance are those of the tokens before the window") {
  Samples samples(5);
  const lethe::ScoreShape shape{.layers = 2, .groups = 2, .slots = 64};
  WindowShift scorer({.window = 6, .heads = 3}, shape);
  Cake model{.window = 6, .heads = 3};
  std::vector<lethe::Position> positions;
  for (std::uint32_t query = 0; query < 120; ++query) {
    positions.push_back(query);
    const std::vector<float> mass = samples.mass(positions.size());
    step(scorer, mass, 1, 1);
    model.pay(query + 1, positions, wide(mass));
    const lethe::WindowStatistics found = scorer.window_statistics(1, 1, positions);
    CHECK_THAT(found.entropy, WithinAbs(model.entropy(), 1e-5 * (1 + model.entropy())));
    CHECK_THAT(found.variance, WithinAbs(model.total_variance(), 1e-6));
    if (query < 6) CHECK(found.entropy == 0.0);
    CHECK(scorer.window_statistics(1, 0, positions).entropy == 0.0);
    if (positions.size() < 50) continue;
    const std::vector<lethe::Slot> kept = samples.slots(positions.size(), 40);
    scorer.keep({.layer = 1,
                 .tokens = static_cast<std::uint32_t>(positions.size()),
                 .first_move = 0,
                 .kept = kept},
                1);
    std::vector<lethe::Position> left;
    for (const lethe::Slot slot : kept) left.push_back(positions[slot]);
    positions = left;
  }
}

TEST_CASE("a token that attention comes and goes from outranks one it rests on") {
  WindowShift scorer({.window = 4, .pool = 1}, {.layers = 1, .slots = 8});
  scorer.advance(4);
  for (int query = 0; query < 4; ++query) step(scorer, {0.25f, query == 1 ? 0.5f : 0.0f});
  const std::vector<float> scores = scores_of(scorer, {0, 1});
  CHECK(scores[0] == 0.25f);
  CHECK(scores[1] == 0.125f + 200.0f * 0.0625f);
}

TEST_CASE("the tokens of the window are no neighbours of those before it") {
  WindowShift scorer({.window = 2, .pool = 3, .variance_weight = 0.0f}, {.layers = 1, .slots = 8});
  scorer.advance(4);
  for (int query = 0; query < 2; ++query) {
    step(scorer, {0.25f, 0.5f, 1.0f, 2.0f, 64.0f, 64.0f});
  }
  const std::vector<float> third{0.75f, 1.75f, 3.5f, 3.0f, 192.0f, 192.0f};
  const std::vector<float> scores = scores_of(scorer, {0, 1, 2, 3, 4, 5});
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK_THAT(static_cast<double>(scores[i]), WithinRel(static_cast<double>(third[i]) / 3, 1e-6));
  }
}

TEST_CASE("one query has a mean and no variance, none has neither") {
  WindowShift scorer({.window = 4, .pool = 1}, {.layers = 1, .slots = 4});
  CHECK(scores_of(scorer, {0, 1}) == std::vector<float>{0, 0});
  scorer.advance(9);
  step(scorer, {0.5f, 0.25f});
  CHECK(scores_of(scorer, {0, 1}) == std::vector<float>{0.5f, 0.25f});
  CHECK(scorer.window_statistics(0, 0, std::vector<lethe::Position>{0, 1}).variance == 0.0);
}

TEST_CASE("a window follows its slots, and a new token begins with nothing") {
  WindowShift scorer({.window = 2, .pool = 1, .variance_weight = 0.0f},
                     {.layers = 1, .groups = 1, .slots = 4});
  step(scorer, {1, 2, 3, 4});
  step(scorer, {3, 4, 5, 6});
  const std::vector<lethe::Slot> kept{1, 3};
  scorer.keep({.tokens = 4, .first_move = 0, .kept = kept}, 0);
  CHECK(scores_of(scorer, {1, 3, 4, 5}) == std::vector<float>{3, 5, 0, 0});
  scorer.forget(0, 0, 1);
  CHECK(scores_of(scorer, {1, 6}) == std::vector<float>{3, 0});
  scorer.reset();
  CHECK(scores_of(scorer, {1, 3}) == std::vector<float>{0, 0});
}

TEST_CASE("a saved window goes on where it stood") {
  Samples samples(3);
  const lethe::ScoreShape shape{.layers = 1, .groups = 2, .slots = 16};
  const WindowShift::Config config{.window = 3};
  WindowShift scorer(config, shape);
  for (std::size_t query = 0; query < 9; ++query) step(scorer, samples.row(query + 1), 0, 1);
  WindowShift restored = naive::restored(scorer, config, shape);
  const std::vector<float> mass = samples.row(10);
  for (WindowShift* one : {&scorer, &restored}) step(*one, mass, 0, 1);
  CHECK(scores_of(scorer, ascending_positions(10), 0, 1) ==
        scores_of(restored, ascending_positions(10), 0, 1));
}

TEST_CASE("mass that is not finite shows while its query is in the window") {
  for (const float odd : {not_a_number, infinity, -infinity}) {
    WindowShift scorer({.window = 2, .pool = 1}, {.layers = 1, .slots = 4});
    step(scorer, {1.0f, odd, 1.0f});
    step(scorer, {1.0f, 1.0f, 1.0f});
    const std::vector<float> found = scores_of(scorer, {0, 1, 2});
    CHECK(lethe::is_finite(found[0]));
    CHECK_FALSE(lethe::is_finite(found[1]));
    step(scorer, {1.0f, 1.0f, 1.0f});
    CHECK(lethe::is_finite(scores_of(scorer, {0, 1, 2})[1]));
  }
}

TEST_CASE("settings of a shifting window that cannot be are refused by name") {
  const lethe::ScoreShape shape{.layers = 1, .groups = 1, .slots = 4};
  CHECK_THROWS_WITH(WindowShift({.window = 0}, shape), Catch::Contains("window = 0"));
  CHECK_THROWS_WITH(WindowShift({.pool = 4}, shape), Catch::Contains("pool = 4"));
  CHECK_THROWS_WITH(WindowShift({.variance_weight = -1.0f}, shape),
                    Catch::Contains("variance_weight = -1"));
  CHECK_THROWS_WITH(WindowShift({.variance_weight = not_a_number}, shape),
                    Catch::Contains("variance_weight"));
  CHECK_THROWS_WITH(WindowShift({.heads = 0}, shape), Catch::Contains("heads = 0"));
  CHECK_THROWS_AS(WindowShift({.heads = 0}, shape), std::invalid_argument);
}
