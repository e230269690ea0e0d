// From all layers' scores to checked plans.
#include <algorithm>
#include <memory>
#include <string>

#include "launches.hpp"
#include "lethe/gpu/block.cuh"
#include "lethe/gpu/plan.cuh"
#include "rows.hpp"
#include "world.hpp"

namespace gpu_bench {
namespace {

using lethe::gpu::BudgetRule;

/// What the host's blocks make of one layer.
std::vector<lethe::Slot> planned_on_host(const World& world, const lethe::gpu::Round& round,
                                         std::size_t number, std::uint32_t tokens) {
  const std::size_t first = number * world.state().shape.capacity;
  const lethe::gpu::LayerInput input{.scores = world.scores().data() + first,
                                     .positions = world.positions().data() + first,
                                     .tokens = tokens,
                                     .cadence = world.cadence()};
  std::vector<lethe::Slot> kept(tokens);
  const auto shared = std::make_unique<lethe::gpu::detail::PlanShared>();
  const lethe::gpu::LayerPlan plan = lethe::gpu::plan_layer(lethe::gpu::HostBlock<256>(), *shared,
                                                            round.settings, input, kept.data());
  require(plan.outcome == lethe::Outcome::pruned, "a layer is left alone on the host");
  kept.resize(plan.kept);
  return kept;
}

/// The first and the last layer's plans, slot by slot; and that all others are plans.
void check(const Bench& bench, const World& world, const lethe::gpu::Round& round) {
  world.restore();
  world.poison_plans();
  require(launches::plan_round(round, bench.stream()));
  bench.finish();
  const std::vector<std::uint32_t> counts = world.counts();
  for (const std::uint32_t count : counts) {
    require(count > 0 && count < bench.sizes().tokens, "a layer is left alone");
  }
  for (const std::size_t number : {std::size_t{0}, counts.size() - 1}) {
    require(world.kept(number) == planned_on_host(world, round, number, bench.sizes().tokens),
            "the kept slots of layer " + std::to_string(number / bench.sizes().batch));
  }
}

Row measure(const std::string& name, const Bench& bench, BudgetRule rule) {
  const World world(bench);
  const lethe::gpu::Round round = world.round(rule);
  check(bench, world, round);
  const Case& sizes = bench.sizes();
  const std::uint64_t bytes = std::uint64_t{4} * sizes.layers * sizes.batch * sizes.tokens;
  const Turns turns = bench.turns(
      {[&] { bench.read(bytes); }},
      {[&] { require(launches::plan_round(round, bench.stream())); }, [&] { world.restore(); }});
  return row_of(name, turns, {Limit::most_time, 25}, static_cast<double>(bytes));
}

Entry entry(const std::string& name, BudgetRule rule) {
  return {name,
          [=](const std::string& row, const Bench& bench) { return measure(row, bench, rule); }};
}

}  // namespace

Entries plan_entries() {
  return {entry("plan/breakpoint", BudgetRule::breakpoint),
          entry("plan/best under the cap", BudgetRule::uniform)};
}

}  // namespace gpu_bench
