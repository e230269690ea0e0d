// All that lethe does in a decode step, as a share of that step.
#include <cmath>
#include <string>

#include "launches.hpp"
#include "layouts.hpp"
#include "rows.hpp"
#include "world.hpp"

namespace gpu_bench {
namespace {

/// Lethe's part of a step, and of a round.
struct Engine {
  explicit Engine(const Bench& bench_)
      : bench(&bench_),
        world(bench_),
        attention(bench_, Attention::Kind::logits),
        compaction(world.compaction()) {
    add_strips(bench_, false, compaction);
  }

  void restore() const { world.restore(); }
  void observe() const {
    require(launches::append(world.state(), world.batch(), 1, bench->stream()));
    attention.observe(world);
  }
  void prune() const {
    require(launches::plan_round(world.round(lethe::gpu::BudgetRule::uniform), bench->stream()));
    require(launches::compact(compaction, bench->stream()));
  }

  const Bench* bench;
  World world;
  Attention attention;
  lethe::gpu::Compaction compaction;
};

void check_lengths(const Engine& engine, std::uint32_t expected, const char* what) {
  engine.bench->finish();
  for (const std::uint32_t length : engine.world.lengths()) require(length == expected, what);
}

/// What a step appends and a round keeps, and one of the scores that a step adds to.
void check(const Engine& engine) {
  const Case& sizes = engine.bench->sizes();
  engine.restore();
  engine.observe();
  check_lengths(engine, sizes.tokens + 1, "a step does not append its token");
  float score = 0;
  require(cudaMemcpy(&score, engine.world.state().scores, sizeof score, cudaMemcpyDeviceToHost),
          "cudaMemcpy");
  const auto before = static_cast<double>(engine.world.scores()[0]);
  const double expected = engine.attention.expected(before, 0, 0, 0);
  require(std::abs(static_cast<double>(score) - expected) <= 1e-4 * expected,
          "a step does not observe its attention");
  // The cache has no row for the token that was appended.
  engine.restore();
  engine.prune();
  check_lengths(engine, sizes.kept, "a round does not keep the budget");
}

/// Floor: the bytes of weights and caches, read once. Subject: what a step appends and observes,
/// and its part of a round.
Row measure(const std::string& name, const Bench& bench) {
  const Engine engine(bench);
  check(engine);
  const std::uint64_t bytes = bench.sizes().weight_bytes + bench.sizes().cache_bytes();
  const auto restore = [&] { engine.restore(); };
  const std::vector<Times> times = bench.time({{[&] { bench.read(bytes); }},
                                               {[&] { engine.observe(); }, restore},
                                               {[&] { engine.prune(); }, restore}});
  Turns turns{times[0].device, {}, {}};
  for (std::size_t turn = 0; turn < turns.floor.size(); ++turn) {
    turns.subject.push_back(times[1].device[turn] + times[2].device[turn] / steps_a_round);
    turns.host.push_back(times[1].host[turn] + times[2].host[turn] / steps_a_round);
  }
  return row_of(name, turns, {Limit::most_ratio, 0.04}, static_cast<double>(bytes));
}

}  // namespace

Entries step_entries() { return {{"step/lethe's share", measure}}; }

}  // namespace gpu_bench
