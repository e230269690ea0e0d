// attention.hpp: what a layer pays each step to be observed.
#include "lethe/attention.hpp"

#include <benchmark/benchmark.h>

#include <cstddef>
#include <span>
#include <vector>

#include "lethe/policies.hpp"
#include "ratio.hpp"

namespace {

/// A cache that counts tokens and has no rows.
class Counts {
 public:
  [[nodiscard]] std::size_t layers() const { return 1; }
  [[nodiscard]] std::size_t size(std::size_t) const { return size_; }
  void append(std::size_t count) { size_ += count; }
  void apply(std::span<const lethe::EvictionPlan> plans) { size_ = plans.front().kept.size(); }

 private:
  std::size_t size_ = 0;
};

/// A pruner in a step of one token whose layer then holds n tokens.
lethe::policies::Lethe pruner_in_step(std::size_t n) {
  Counts cache;
  lethe::policies::Lethe pruner({.layers = 1, .capacity = n + 64}, {.first_threshold = 0});
  for (const std::size_t tokens : {n - 1, std::size_t{1}}) {
    pruner.make_room(cache, tokens);
    if (tokens == 1) break;
    pruner.commit();
    cache.append(tokens);
  }
  return pruner;
}

[[gnu::noinline]] void plain_add(float* score, const float* mass, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) score[i] += mass[i];
}

/// Every element once, in as many running sums as hide the latency of an addition.
[[gnu::noinline]] float plain_sum(const float* values, std::size_t count) {
  constexpr std::size_t lanes = 32;
  float sums[lanes] = {};
  for (std::size_t i = 0; i < count; i += lanes) {
    for (std::size_t lane = 0; lane < lanes; ++lane) sums[lane] += values[i + lane];
  }
  float total = 0;
  for (const float sum : sums) total += sum;
  return total;
}

void observe_mass(benchmark::State& state) {
  const auto n = static_cast<std::size_t>(state.range(0));
  const std::vector<float> mass = bench::skewed(n, 1);
  std::vector<float> score(n, 0.0f);
  lethe::policies::Lethe pruner = pruner_in_step(n);
  bench::compare(
      state, [&] { plain_add(score.data(), mass.data(), n); },
      [&] { pruner.observe(0, lethe::Mass<float>{.data = mass.data(), .columns = n}); }, 20);
}
BENCHMARK(observe_mass)
    ->Arg(672)
    ->Arg(2048)
    ->Arg(8192)
    ->Arg(32768)
    ->Iterations(401)
    ->UseManualTime();

void observe_heads(benchmark::State& state) {
  constexpr std::size_t heads = 32;
  const auto n = static_cast<std::size_t>(state.range(0));
  const std::vector<float> data = bench::skewed(heads * n, 2);
  lethe::policies::Lethe pruner = pruner_in_step(n);
  const lethe::Probabilities<float> seen{.data = data.data(), .heads = heads, .columns = n};
  bench::compare(
      state, [&] { benchmark::DoNotOptimize(plain_sum(data.data(), data.size())); },
      [&] { pruner.observe(0, seen); });
}
BENCHMARK(observe_heads)->Arg(2048)->Arg(8192)->Iterations(401)->UseManualTime();

}  // namespace
