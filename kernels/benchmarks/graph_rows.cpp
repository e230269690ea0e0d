// A whole round, plans and paged compaction, replayed from a graph beside direct launches.
#include <string>

#include "launches.hpp"
#include "layouts.hpp"
#include "lethe/gpu/prune_graph.hpp"
#include "lethe/gpu/runtime_calls.hpp"
#include "rows.hpp"
#include "world.hpp"

namespace gpu_bench {
namespace {

using lethe::gpu::RuntimeCalls;

/// A state and a paged cache, and the round that prunes both.
struct Engine {
  explicit Engine(const Bench& bench_) : bench(&bench_), world(bench_), pages(bench_) {}

  [[nodiscard]] lethe::gpu::Status round(cudaStream_t stream) const {
    const lethe::gpu::Status planned =
        launches::plan_round(world.round(lethe::gpu::BudgetRule::uniform), stream);
    if (!planned.ok()) return planned;
    lethe::gpu::Compaction compaction = world.compaction();
    pages.add_to(compaction);
    return launches::compact(compaction, stream);
  }
  void restore() const {
    world.restore();
    pages.restore(*bench);
  }

  const Bench* bench;
  World world;
  Pages pages;
};

struct Replayed : Engine {
  explicit Replayed(const Bench& bench_) : Engine(bench_) {
    require(graph.record(bench_.stream(), [&](cudaStream_t stream) { return round(stream); }));
  }

  RuntimeCalls calls{};
  lethe::gpu::PruneGraph<RuntimeCalls> graph{calls};
};

/// State and tables after a round.
struct After {
  std::vector<std::byte> state;
  std::vector<std::uint32_t> tables, entries;

  bool operator==(const After&) const = default;
};

template <class Run>
After after(const Replayed& engine, Run run) {
  engine.restore();
  engine.world.poison_plans();
  run();
  engine.bench->finish();
  return {engine.world.read_state(), engine.pages.read_tables(), engine.pages.read_entries()};
}

void check(const Replayed& engine) {
  const auto direct = [&] { require(engine.round(engine.bench->stream())); };
  const auto replay = [&] { require(engine.graph.replay(engine.bench->stream())); };
  require(after(engine, direct) == after(engine, replay), "a replayed round is another one");
  for (const std::uint32_t length : engine.world.lengths()) {
    require(length == engine.bench->sizes().kept, "a replayed round does not keep the budget");
  }
}

Row measure(const std::string& name, const Bench& bench, bool host) {
  const Replayed engine(bench);
  check(engine);
  const auto restore = [&] { engine.restore(); };
  std::vector<Times> times =
      bench.time({{[&] { require(engine.round(bench.stream())); }, restore},
                  {[&] { require(engine.graph.replay(bench.stream())); }, restore}});
  if (host) return row_of(name, {times[0].host, times[1].host, times[1].host}, {}, 0);
  return row_of(name, {times[0].device, times[1].device, times[1].host}, {}, 0);
}

}  // namespace

Entries graph_entries() {
  const auto entry = [](bool host) {
    return [=](const std::string& name, const Bench& bench) { return measure(name, bench, host); };
  };
  return {{"graph/replayed round", entry(false)}, {"graph/its time on the host", entry(true)}};
}

}  // namespace gpu_bench
