// One pruner a sequence and no locks: sequences on threads decode as they do one after another.
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "lethe/lethe.hpp"
#include "naive/random.hpp"
#include "naive/token_cache.hpp"

namespace {

constexpr std::size_t layers = 2;

/// Positions of every layer after a decode of its own.
using Kept = std::vector<std::vector<lethe::Position>>;

template <class Pruner>
Kept decode(Pruner& pruner, std::uint64_t seed) {
  naive::Random random(seed);
  naive::TokenCache<naive::plain> cache(layers, 1);
  for (std::uint32_t token = 0; token < 300; ++token) {
    pruner.make_room(cache, 1);
    for (std::size_t layer = 0; layer < layers; ++layer) {
      cache.append(layer, std::vector<std::uint32_t>{token});
      std::vector<float> row(cache.size(layer));
      for (float& value : row) value = random.unit();
      pruner.observe(layer, {.data = row.data(), .columns = row.size()});
    }
    pruner.commit();
  }
  Kept kept;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    const auto positions = pruner.positions(layer);
    kept.emplace_back(positions.begin(), positions.end());
  }
  return kept;
}

}  // namespace

TEST_CASE("Eight sequences on threads keep what they keep one after another") {
  const lethe::policies::Lethe original({.layers = layers, .capacity = 64, .draft_tokens = 2},
                                        {.sparsity_ratio = 3, .first_threshold = 40});
  std::vector<lethe::policies::Lethe> forks(8, original);
  std::vector<Kept> together(8);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] { together[i] = decode(forks[i], i); });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < 8; ++i) {
    lethe::policies::Lethe alone = original;
    CHECK(together[i] == decode(alone, i));
  }
  CHECK(together[0] != together[1]);
}

TEMPLATE_TEST_CASE("Policies are made, used and destroyed on threads of their own", "",
                   lethe::policies::SnapKV, lethe::policies::RandomAttention,
                   lethe::policies::StreamingLLM) {
  std::vector<Kept> together(4);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      TestType pruner({.layers = layers, .capacity = 64});
      together[i] = decode(pruner, i);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < 4; ++i) {
    TestType alone({.layers = layers, .capacity = 64});
    CHECK(together[i] == decode(alone, i));
  }
}
