// A limit on the bytes that a make_room moves: whose turn it is, under bounds and totals.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "lethe/budget/hoyer.hpp"
#include "lethe/lethe.hpp"
#include "naive/token_cache.hpp"

namespace {

using lethe::policies::H2O;
using naive::TokenCache;

/// Feeds one token a step to four layers; what moved in each make_room, and the most that was held.
template <class Pruner>
struct Turns {
  explicit Turns(Pruner policy) : pruner(std::move(policy)) {
    for (std::uint32_t i = 0; i < 400; ++i) step(i);
  }

  void step(std::uint32_t token) {
    std::vector<std::size_t> moved;
    pruner.make_room(cache, 1, [&](const lethe::RoundStatistics& row) {
      ++examined;
      if (row.tokens_after < row.tokens_before) moved.push_back(row.layer);
    });
    most_moved = std::max(most_moved, moved.size());
    layers.insert(layers.end(), moved.begin(), moved.end());
    std::size_t held = 0;
    for (std::size_t l = 0; l < 4; ++l) {
      cache.append(l, std::vector<std::uint32_t>{token});
      const std::vector<float> mass(cache.size(l), 0.5f);
      pruner.observe(l, lethe::Mass<float>{.data = mass.data(), .columns = mass.size()});
      held += cache.size(l);
    }
    pruner.commit();
    most_held = std::max(most_held, held);
  }

  /// Whether layers moved one after another, round and round.
  [[nodiscard]] bool in_turn() const {
    for (std::size_t i = 0; i < layers.size(); ++i) {
      if (layers[i] != i % 4) return false;
    }
    return layers.size() > 8;
  }

  Pruner pruner;
  TokenCache<naive::with_bytes> cache{4, 1};
  std::vector<std::size_t> layers;
  std::size_t most_moved = 0;
  std::size_t most_held = 0;
  std::size_t examined = 0;
};

}  // namespace

TEST_CASE("A limit on moves below one layer's rows lets layers move one at a time") {
  const Turns<H2O> turns{
      H2O({.layers = 4, .capacity = 64, .slack_ratio = 0.25f, .max_move_bytes = 30})};
  CHECK(turns.most_moved == 1);
  CHECK(turns.examined < 400);
}

TEST_CASE("A limit on moves takes layers in turn under a cap over all layers, which stays true") {
  const lethe::PrunerConfig config{.layers = 4,
                                   .capacity = 64,
                                   .total_capacity = 120,
                                   .slack_ratio = 0.25f,
                                   .max_move_bytes = 30};
  const Turns<H2O> turns{H2O(config)};
  CHECK(turns.most_moved == 1);
  CHECK(turns.most_held <= 120);
  CHECK(turns.most_held > 100);
  CHECK(turns.in_turn());
}

TEST_CASE("A limit on moves takes layers in turn under a budget that they share") {
  using Pruner = lethe::Pruner<lethe::Rasr, lethe::HoyerBudget>;
  const Turns<Pruner> turns{
      Pruner({.layers = 4, .capacity = 64, .slack_ratio = 0.25f, .max_move_bytes = 30}, {}, {},
             {.total = 100})};
  CHECK(turns.most_moved == 1);
  CHECK(turns.most_held <= 125);
  CHECK(turns.in_turn());
}

TEST_CASE("A cap over all layers moves as many as it needs, whatever the limit on moves") {
  const lethe::PrunerConfig config{.layers = 4,
                                   .capacity = 64,
                                   .total_capacity = 120,
                                   .slack_ratio = 0.0f,
                                   .max_move_bytes = 30};
  const Turns<H2O> turns{H2O(config)};
  CHECK(turns.most_moved > 1);
  CHECK(turns.most_held == 120);
}
