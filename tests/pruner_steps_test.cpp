// Observations in pieces and in any order, deferred drafts, scopes, global budgets, and misuse.
#include <cmath>
#include <limits>
#include <numeric>

#include "catch.hpp"
#include "naive/attention.hpp"

namespace {

using lethe::policies::H2O;
using lethe::policies::Lethe;
using naive::TokenCache;

constexpr unsigned plain = naive::plain;
constexpr std::size_t dimension = 6;
constexpr std::size_t heads = 4;

std::vector<float> draw(naive::Random& random, std::size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = random.unit();
  return values;
}

template <class Pruner>
std::vector<double> shares(Pruner& pruner, std::size_t layer) {
  const auto scores = pruner.scores(layer);
  const double sum = std::accumulate(scores.begin(), scores.end(), 0.0);
  std::vector<double> result;
  for (const float score : scores) result.push_back(double(score) / sum);
  return result;
}

void expect_close(const std::vector<double>& a, const std::vector<double>& b, double tolerance) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  CHECK(worst <= tolerance);
}

/// Appends `count` tokens to every layer with equal mass.
template <class Sequence>
void feed(Sequence& sequence, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) sequence.step(1);
}

}  // namespace

TEST_CASE("A layer may be observed in pieces, and layers in any order") {
  const lethe::PrunerConfig config{.layers = 3, .capacity = 40, .groups = 2};
  Lethe whole(config, {.decay = 0.9f});
  Lethe pieces(config, {.decay = 0.9f});
  TokenCache<plain> cache(3, 1);
  naive::Random random(3);
  for (std::uint32_t token = 0; token < 30; token += 3) {
    whole.make_room(cache, 3);
    pieces.make_room(cache, 3);
    const std::size_t n = cache.size(0) + 3;
    for (const std::size_t layer : {2u, 0u, 1u}) {
      const std::vector<float> p = draw(random, heads * 3 * n);
      whole.observe(layer, {.data = p.data(), .heads = heads, .queries = 3, .columns = n});
      for (const std::size_t half : {1u, 0u}) {
        for (const std::size_t q : {2u, 0u, 1u}) {
          pieces.observe(layer, {.data = p.data() + half * 2 * 3 * n + q * n,
                                 .heads = 2,
                                 .queries = 1,
                                 .columns = n,
                                 .head_stride = 3 * n,
                                 .first_query = q,
                                 .first_group = half,
                                 .group_count = 1});
        }
      }
    }
    for (std::size_t l = 0; l < 3; ++l) {
      cache.append(l, std::vector<std::uint32_t>{token, token + 1, token + 2});
    }
    whole.commit();
    pieces.commit();
  }
  for (std::size_t l = 0; l < 3; ++l) expect_close(shares(whole, l), shares(pieces, l), 1e-6);
}

TEST_CASE("Deferred queries of rejected drafts are never scored") {
  lethe::PrunerConfig config{.layers = 1, .capacity = 64, .groups = 2};
  H2O direct(config);
  config.deferred = {.queries = 10, .heads = heads, .kv_heads = 2, .head_dimension = dimension};
  H2O deferred(config);
  TokenCache<naive::with_keys> cache(1, 2);
  cache.dimension = dimension;
  naive::Random random(8);
  while (cache.size(0) < 60) {
    const std::size_t base = cache.size(0);
    const std::vector<float> queries = draw(random, heads * 3 * dimension);
    std::vector<float> lse(heads * 3, 4.0f);
    const bool middle = random.chance(50);
    const std::vector<std::uint32_t> accepted =
        middle ? std::vector<std::uint32_t>{0, 2} : std::vector<std::uint32_t>{1};
    deferred.make_room(cache, 3);
    deferred.observe(0, lethe::Queries<float>{.data = queries.data(),
                                              .lse = lse.data(),
                                              .heads = heads,
                                              .queries = 3,
                                              .head_dimension = dimension});
    direct.make_room(cache, accepted.size());
    std::vector<std::uint32_t> ids;
    for (std::size_t i = 0; i < accepted.size(); ++i)
      ids.push_back(static_cast<std::uint32_t>(base + i));
    cache.append(0, ids);
    deferred.commit(accepted);
    std::vector<float> keys(cache.size(0) * dimension);
    for (std::size_t rank = 0; rank < accepted.size(); ++rank) {
      for (std::size_t h = 0; h < heads; ++h) {
        cache.read_keys(0, h / 2, 0, keys);
        std::vector<float> p(base + rank + 1);
        for (std::size_t t = 0; t < p.size(); ++t) {
          double dot = 0;
          for (std::size_t c = 0; c < dimension; ++c) {
            dot += double(queries[(h * 3 + accepted[rank]) * dimension + c]) *
                   double(keys[t * dimension + c]);
          }
          p[t] = static_cast<float>(std::exp(dot / std::sqrt(double(dimension)) - 4.0));
        }
        direct.observe(0, {.data = p.data(),
                           .columns = p.size(),
                           .first_query = rank,
                           .first_group = h / 2,
                           .group_count = 1});
      }
    }
    direct.commit();
  }
  deferred.flush(cache);
  CHECK(deferred.tokens_seen() == direct.tokens_seen());
  expect_close(shares(direct, 0), shares(deferred, 0), 1e-6);
}

TEST_CASE("One set for all layers weighs each layer the same") {
  lethe::PrunerConfig config{.layers = 2, .capacity = 16, .scope = lethe::Scope::sequence};
  H2O pruner(config, {.recent_ratio = 0.0f});
  TokenCache<naive::with_same_set> cache(2, 1);
  for (std::uint32_t token = 0; token < 16; ++token) {
    pruner.make_room(cache, 1);
    // Layer 1 pays a thousand times as much, and to other tokens; alone it would decide.
    std::vector<float> loud(token + 1, 1000.0f);
    std::vector<float> quiet(token + 1, 0.001f);
    loud[0] = 0;
    quiet[0] = 1.0f;
    pruner.observe(0, {.data = quiet.data(), .columns = quiet.size()});
    pruner.observe(1, {.data = loud.data(), .columns = loud.size()});
    for (std::size_t l = 0; l < 2; ++l) cache.append(l, std::vector<std::uint32_t>{token});
    pruner.commit();
  }
  CHECK(pruner.make_room(cache, 1) == 4);
  CHECK(pruner.positions(0)[0] == 0);
  const std::vector<lethe::Position> a(pruner.positions(0).begin(), pruner.positions(0).end());
  const std::vector<lethe::Position> b(pruner.positions(1).begin(), pruner.positions(1).end());
  CHECK(a == b);
  CHECK(cache.rows(0, 0) == cache.rows(1, 0));
}

TEST_CASE("A global budget keeps its total, and more where attention is spread out") {
  using Pruner = lethe::Pruner<lethe::Rasr, lethe::HoyerBudget>;
  Pruner pruner({.layers = 3, .capacity = 100}, {.retention = {.first_tokens = 2}}, {},
                {.total = 120});
  TokenCache<plain> cache(3, 1);
  naive::Random random(5);
  std::size_t rounds = 0;
  for (std::uint32_t token = 0; token < 300; ++token) {
    const std::size_t dropped = pruner.make_room(cache, 1);
    const std::size_t held = pruner.size(0) + pruner.size(1) + pruner.size(2);
    if (dropped != 0) {
      ++rounds;
      CHECK(held == 120);
      CHECK(pruner.size(2) > pruner.size(0));
    }
    CHECK(held <= 120 + 15);
    for (std::size_t l = 0; l < 3; ++l) {
      std::vector<float> p = draw(random, pruner.size(l) + 1);
      if (l == 0) p[0] = 100;
      pruner.observe(l, {.data = p.data(), .columns = p.size()});
      cache.append(l, std::vector<std::uint32_t>{token});
    }
    pruner.commit();
  }
  CHECK(rounds > 5);
}

TEST_CASE("The trace tells what happened in each round") {
  naive::Sequence<Lethe> sequence(
      Lethe({.layers = 2, .capacity = 48, .round_interval = 4}, {.first_threshold = 16}));
  std::size_t rows = 0;
  for (std::size_t i = 0; i < 100; ++i) {
    const std::size_t before[2] = {sequence.pruner.size(0), sequence.pruner.size(1)};
    sequence.pruner.make_room(sequence.cache, 0, [&](const lethe::RoundStatistics& row) {
      ++rows;
      CHECK(row.tokens_seen == i);
      CHECK(row.tokens_before == before[row.layer]);
      CHECK(row.tokens_after == sequence.pruner.size(row.layer));
      CHECK(row.threshold == sequence.pruner.threshold(row.layer));
      CHECK(row.plan_seconds >= 0);
      CHECK(row.apply_seconds >= 0);
      CHECK((row.outcome == lethe::Outcome::spread_out) == (row.breakpoint == row.tokens_before));
    });
    sequence.pruner.commit();
    sequence.step(1);
  }
  CHECK(rows > 4);
}

TEST_CASE("A layer whose scores are not finite is left alone, reported, and refused at the bound") {
  naive::Sequence<Lethe> sequence(
      Lethe({.layers = 2, .capacity = 32, .round_interval = 4}, {.first_threshold = 8}));
  feed(sequence, 6);
  sequence.pruner.make_room(sequence.cache, 1);
  std::vector<float> row(7, 1.0f);
  row[2] = std::numeric_limits<float>::infinity();
  sequence.pruner.observe(1, {.data = row.data(), .columns = 7});
  for (std::size_t l = 0; l < 2; ++l) sequence.cache.append(l, std::vector<std::uint32_t>{6});
  sequence.pruner.commit();
  feed(sequence, 20);
  CHECK(sequence.pruner.size(1) == 27);
  std::size_t reported = 0;
  const auto trace = [&](const lethe::RoundStatistics& r) {
    reported += r.layer == 1 && r.outcome == lethe::Outcome::non_finite ? 1u : 0u;
  };
  CHECK_THROWS_WITH(sequence.pruner.make_room(sequence.cache, 6, trace),
                    Catch::Contains("layer 1") && Catch::Contains("non-finite"));
  CHECK(reported == 1);
  CHECK(sequence.cache.rows(1, 0).size() == 27);
}

TEST_CASE("A busy layer at its bound is refused and succeeds once free") {
  naive::Sequence<H2O, naive::with_state> sequence(H2O({.layers = 1, .capacity = 16}));
  feed(sequence, 16);
  sequence.cache.states[0] = lethe::LayerState::busy;
  CHECK_THROWS_AS(sequence.pruner.make_room(sequence.cache, 1), std::length_error);
  CHECK(sequence.pruner.size(0) == 16);
  sequence.cache.states[0] = lethe::LayerState::prunable;
  CHECK(sequence.pruner.make_room(sequence.cache, 1) == 2);
}

TEST_CASE("A whole bound may be appended at once") {
  naive::Sequence<lethe::policies::TOVA> tova(lethe::policies::TOVA({.layers = 1, .capacity = 8}));
  tova.step(8);
  tova.step(8);
  CHECK(tova.positions(0) == std::vector<lethe::Position>{8, 9, 10, 11, 12, 13, 14, 15});
  naive::Sequence<Lethe> lethe(Lethe({.layers = 1, .capacity = 8}));
  lethe.step(8);
  CHECK_THROWS_WITH(lethe.pruner.make_room(lethe.cache, 8), Catch::Contains("protected"));
  CHECK(lethe.cache.applications == 0);
}

TEST_CASE("A step that cannot fit moves nothing, and none is open after it") {
  naive::Sequence<Lethe> sequence(Lethe({.layers = 2, .capacity = 64}, {.first_threshold = 0}));
  feed(sequence, 60);
  CHECK_THROWS_AS(sequence.pruner.make_room(sequence.cache, 62), std::length_error);
  CHECK(sequence.pruner.size(0) == 60);
  CHECK(sequence.cache.size(1) == 60);
  const std::vector<float> row(64, 0.5f);
  CHECK_THROWS_WITH(sequence.pruner.observe(0, {.data = row.data(), .columns = 61}),
                    Catch::Contains("call make_room first"));
  sequence.pruner.commit();
  CHECK(sequence.pruner.tokens_seen() == 60);
  feed(sequence, 20);
  CHECK(sequence.pruner.tokens_seen() == 80);
}

TEST_CASE("Scores that are not finite can be forgotten, and the layer is pruned again") {
  naive::Sequence<H2O> sequence(H2O({.layers = 1, .capacity = 16}));
  feed(sequence, 15);
  sequence.pruner.make_room(sequence.cache, 1);
  std::vector<float> row(16, 1.0f);
  row[3] = std::numeric_limits<float>::quiet_NaN();
  sequence.pruner.observe(0, {.data = row.data(), .columns = 16});
  sequence.cache.append(0, std::vector<std::uint32_t>{15});
  sequence.pruner.commit();
  CHECK_THROWS_AS(sequence.pruner.make_room(sequence.cache, 1), std::length_error);
  sequence.pruner.forget_scores(0);
  feed(sequence, 20);
  CHECK(sequence.pruner.tokens_seen() == 36);
}

TEST_CASE("A row too short for its layer is refused") {
  naive::Sequence<H2O> sequence(H2O({.layers = 1, .capacity = 16}));
  feed(sequence, 5);
  sequence.pruner.make_room(sequence.cache, 1);
  const std::vector<float> row(16, 0.5f);
  CHECK_THROWS_WITH(sequence.pruner.observe(0, {.data = row.data()}),
                    Catch::Contains("observe columns = 0"));
  CHECK_THROWS_WITH(sequence.pruner.observe(0, {.data = row.data(), .columns = 5}),
                    Catch::Contains("observe columns = 5"));
  sequence.pruner.observe(0, {.data = row.data(), .columns = 6});
}

TEST_CASE("H2O weighs scores under every kind of cap") {
  for (const int cap : {0, 1, 2}) {
    lethe::PrunerConfig config{.layers = 1, .capacity = cap == 0 ? 64u : 512u};
    if (cap == 1) config.capacity_bytes = std::size_t{4} * 64;
    if (cap == 2) config.total_capacity = 64;
    H2O pruner(config);
    TokenCache<naive::with_bytes> cache(1, 1);
    for (std::uint32_t i = 0; i < 200; ++i) {
      pruner.make_room(cache, 1);
      cache.append(0, std::vector<std::uint32_t>{i});
      std::vector<float> mass(cache.size(0), 0.001f);
      for (std::size_t heavy = 0; heavy < std::min<std::size_t>(20, mass.size()); ++heavy) {
        mass[heavy] = 1.0f;
      }
      pruner.observe(0, lethe::Mass<float>{.data = mass.data(), .columns = mass.size()});
      pruner.commit();
    }
    const auto positions = pruner.positions(0);
    CHECK(std::count_if(positions.begin(), positions.end(), [](auto p) { return p < 20; }) == 20);
  }
}

TEST_CASE("max_lost_mass holds where heads keep sets of their own") {
  const lethe::PrunerConfig config{
      .layers = 1, .capacity = 64, .groups = 2, .scope = lethe::Scope::head, .max_lost_mass = 0.3f};
  lethe::Pruner<lethe::Rasr, lethe::UniformBudget> pruner(
      config, {.retention = {.first_tokens = 0, .recent_tokens = 40}}, {.decay = 1.0f},
      {.budget = 8});
  TokenCache<naive::with_heads> cache(1, 2);
  std::size_t guarded = 0;
  for (std::uint32_t i = 0; i < 65; ++i) {
    pruner.make_room(cache, 1, [&](const lethe::RoundStatistics& row) {
      CHECK(row.outcome == lethe::Outcome::guarded);
      CHECK(row.lost_mass <= 0.3 + 1e-9);
      ++guarded;
    });
    cache.append(0, std::vector<std::uint32_t>{i});
    const std::size_t n = cache.size(0);
    std::vector<float> mass(2 * n);
    for (std::size_t k = 0; k < 2 * n; ++k) mass[k] = k % n < 20 ? 1.0f : 0.05f;
    pruner.observe(0, lethe::Mass<float>{.data = mass.data(), .groups = 2, .columns = n});
    pruner.commit();
  }
  CHECK(guarded == 1);
}

TEST_CASE("A total gives way for nobody, and recents give way to it") {
  using lethe::policies::StreamingLLM;
  naive::Sequence<StreamingLLM> window(
      StreamingLLM({.layers = 2, .capacity = 64, .total_capacity = 40}));
  feed(window, 60);
  CHECK(window.pruner.size(0) + window.pruner.size(1) <= 40);
  CHECK(window.positions(0)[3] == 3);
  CHECK(window.positions(0).back() == 59);
  naive::Sequence<H2O> pinned(H2O({.layers = 2, .capacity = 64, .total_capacity = 40}));
  feed(pinned, 18);
  pinned.pruner.pin(18);
  pinned.step(2);
  CHECK_THROWS_WITH(pinned.pruner.make_room(pinned.cache, 3), Catch::Contains("total"));
}

TEST_CASE("The guard against lost mass uses what a total leaves, and no more") {
  naive::Sequence<H2O> guarded(
      H2O({.layers = 2, .capacity = 64, .total_capacity = 40, .max_lost_mass = 0.0f},
          {.recent_ratio = 0.0f}));
  feed(guarded, 60);
  CHECK(guarded.pruner.size(0) + guarded.pruner.size(1) == 40);
}

TEST_CASE("Misuse is refused by name") {
  const lethe::PrunerConfig config{.layers = 2, .capacity = 16};
  H2O pruner(config);
  TokenCache<plain> cache(2, 1);
  TokenCache<plain> other(3, 1);
  CHECK_THROWS_WITH(pruner.make_room(other, 1), Catch::Contains("layers"));
  CHECK_THROWS_WITH(pruner.make_room(cache, 17), Catch::Contains("chunks"));
  cache.append(1, std::vector<std::uint32_t>{0});
  CHECK_THROWS_WITH(pruner.make_room(cache, 1), Catch::Contains("cache.size"));
  TokenCache<plain> sound(2, 1);
  const std::vector<float> row(8, 0.5f);
  CHECK_THROWS_WITH(pruner.observe(0, {.data = row.data(), .columns = 1}),
                    Catch::Contains("call make_room first"));
  pruner.make_room(sound, 2);
  CHECK_THROWS_WITH(pruner.observe(0, {.data = row.data(), .queries = 3, .columns = 1}),
                    Catch::Contains("observe queries"));
  CHECK_THROWS_WITH(pruner.observe(0, {.data = row.data(), .columns = 2, .first_query = 2}),
                    Catch::Contains("observe queries"));
  CHECK_THROWS_WITH(pruner.observe(0, lethe::Queries<float>{.data = row.data(), .lse = row.data()}),
                    Catch::Contains("deferred.queries"));
  CHECK_THROWS_WITH(pruner.pin(14), Catch::Contains("pin"));
}

TEST_CASE("Too many waiting queries are refused, not written past their room") {
  H2O pruner({.layers = 2,
              .capacity = 16,
              .deferred = {.queries = 2, .heads = 1, .kv_heads = 1, .head_dimension = 2}});
  TokenCache<naive::with_keys> cache(2, 1);
  const std::vector<float> row(8, 0.5f);
  const lethe::Queries<float> two{
      .data = row.data(), .lse = row.data(), .queries = 2, .head_dimension = 2};
  pruner.make_room(cache, 2);
  pruner.observe(0, two);
  CHECK_THROWS_WITH(pruner.observe(0, two), Catch::Contains("deferred.queries"));
  // A step begun anew forgets what the last one observed.
  pruner.make_room(cache, 2);
  pruner.observe(0, two);
}

TEST_CASE("A cache without what a setting needs is refused") {
  TokenCache<plain> cache(2, 1);
  H2O heads_apart({.layers = 2, .capacity = 16, .groups = 2, .scope = lethe::Scope::head});
  CHECK_THROWS_WITH(heads_apart.make_room(cache, 1), Catch::Contains("heads(layer)"));
  TokenCache<naive::with_heads> three(2, 3);
  CHECK_THROWS_WITH(heads_apart.make_room(three, 1), Catch::Contains("groups"));
  H2O in_bytes({.layers = 2, .capacity = 16, .capacity_bytes = 100});
  CHECK_THROWS_WITH(in_bytes.make_room(cache, 1), Catch::Contains("token_bytes"));
  TokenCache<naive::with_same_set> shared(2, 1);
  H2O by_layer({.layers = 2, .capacity = 16});
  CHECK_THROWS_WITH(by_layer.make_room(shared, 1), Catch::Contains("Scope::sequence"));
  H2O waiting({.layers = 2,
               .capacity = 16,
               .deferred = {.queries = 2, .heads = 1, .kv_heads = 1, .head_dimension = 2}});
  CHECK_THROWS_WITH(waiting.make_room(cache, 1), Catch::Contains("read_keys"));
  TokenCache<naive::with_keys | naive::with_heads> wider(2, 3);
  CHECK_THROWS_WITH(waiting.make_room(wider, 1), Catch::Contains("deferred.kv_heads = 1"));
}

TEST_CASE("Caps that first and pinned tokens fill are refused by name") {
  using lethe::policies::StreamingLLM;
  TokenCache<naive::with_bytes> cache(2, 1);
  StreamingLLM layer({.layers = 2, .capacity = 64, .capacity_bytes = 16});
  CHECK_THROWS_WITH(layer.make_room(cache, 1), Catch::Contains("capacity_bytes = 16"));
  StreamingLLM bytes({.layers = 2, .capacity = 64, .total_bytes = 32});
  CHECK_THROWS_WITH(bytes.make_room(cache, 1), Catch::Contains("total_bytes = 32"));
  StreamingLLM total({.layers = 2, .capacity = 64, .total_capacity = 20});
  total.make_room(cache, 1);
  total.pin(10);
  CHECK_THROWS_WITH(total.make_room(cache, 1), Catch::Contains("total_capacity = 20"));
}

TEST_CASE("Attention layers may share a cache layer: each defers its own queries") {
  H2O pruner({.layers = 1,
              .capacity = 64,
              .deferred = {.queries = 16, .heads = 1, .kv_heads = 1, .head_dimension = 2}});
  TokenCache<naive::with_keys> cache(1, 1);
  cache.dimension = 2;
  const std::vector<float> row(2, 0.5f);
  for (std::uint32_t i = 0; i < 40; ++i) {
    pruner.make_room(cache, 1);
    cache.append(0, std::vector<std::uint32_t>{i});
    for (int sharer = 0; sharer < 3; ++sharer) {
      pruner.observe(
          0, lethe::Queries<float>{.data = row.data(), .lse = row.data(), .head_dimension = 2});
    }
    pruner.commit();
  }
  CHECK(pruner.tokens_seen() == 40);
}

TEST_CASE("Shared prefixes stay in every layer") {
  naive::Sequence<H2O, naive::with_shared_prefix> sequence(
      H2O({.layers = 2, .capacity = 16}, {.recent_ratio = 0.0f}));
  feed(sequence, 10);
  sequence.cache.shared = {6, 3};
  feed(sequence, 60);
  for (std::size_t l = 0; l < 2; ++l) {
    for (std::size_t i = 0; i < sequence.cache.shared[l]; ++i) CHECK(sequence.positions(l)[i] == i);
  }
}
