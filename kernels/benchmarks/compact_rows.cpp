// Keys and values of all layers packed to the left, in each layout.
#include <functional>
#include <string>

#include "launches.hpp"
#include "layouts.hpp"
#include "rows.hpp"
#include "world.hpp"

namespace gpu_bench {
namespace {

using lethe::gpu::Compaction;

/// Plans of the best tokens, and the rows that they move.
struct Planned {
  explicit Planned(const Bench& bench) : world(bench) {
    require(launches::plan_round(world.round(lethe::gpu::BudgetRule::uniform), bench.stream()));
    bench.finish();
    const std::vector<std::uint32_t> counts = world.counts();
    const std::vector<std::uint32_t> first_moves = world.first_moves();
    for (std::size_t number = 0; number < counts.size(); ++number) {
      require(counts[number] == bench.sizes().kept, "a count is not the budget");
      moves += counts[number] - first_moves[number];
    }
  }
  /// Bytes of keys and values, read once and written once.
  [[nodiscard]] std::uint64_t bytes(const Bench& bench) const {
    return 2 * moves * 2 * bench.sizes().heads * bench.sizes().row_bytes();
  }
  /// Of keys and values alone; the lengths stay, so that it can be carried out again.
  [[nodiscard]] Compaction bare() const {
    Compaction compaction = world.compaction();
    compaction.strip_count = 0;
    compaction.plans.lengths = nullptr;
    return compaction;
  }

  World world;
  std::uint64_t moves = 0;
};

/// Where the key of head 0 of a token of the last layer's last sequence lies, before and after.
using Place = std::function<const std::byte*(std::uint32_t token, bool before)>;

/// Every 50th of the kept rows of the last layer's last sequence.
void check(const Bench& bench, const Planned& planned, const Compaction& compaction,
           const Place& place) {
  const std::size_t number = std::size_t{bench.sizes().layers} * bench.sizes().batch - 1;
  const std::vector<lethe::Slot> kept = planned.world.kept(number);
  const std::size_t row = bench.sizes().row_bytes();
  std::vector<std::vector<std::byte>> expected;
  for (std::size_t i = 0; i < kept.size(); i += 50) {
    expected.push_back(bytes_at(place(kept[i], true), row));
  }
  require(launches::compact(compaction, bench.stream()));
  bench.finish();
  for (std::size_t i = 0; i < kept.size(); i += 50) {
    const auto token = static_cast<std::uint32_t>(i);
    require(bytes_at(place(token, false), row) == expected[i / 50],
            "row " + std::to_string(i) + " of the last layer");
  }
}

Place place_in_strips(const Bench& bench, const Compaction& compaction) {
  const lethe::gpu::StripArray keys = compaction.strips[compaction.strip_count - 2];
  const Case& sizes = bench.sizes();
  const std::byte* base =
      keys.base + (sizes.layers - 1) * keys.layer_stride + (sizes.batch - 1) * keys.slot_stride;
  return [=](std::uint32_t token, bool) { return base + token * keys.token_stride; };
}

Row measure_strips(const std::string& name, const Bench& bench, bool heads_first) {
  const Planned planned(bench);
  Compaction compaction = planned.bare();
  add_strips(bench, heads_first, compaction);
  check(bench, planned, compaction, place_in_strips(bench, compaction));
  const std::uint64_t bytes = planned.bytes(bench);
  const Turns turns =
      bench.turns({[&] { bench.copy(bytes / 2); }},
                  {[&] { require(launches::compact(compaction, bench.stream())); }});
  return row_of(name, turns, {Limit::most_ratio, 1.25}, static_cast<double>(bytes));
}

Row measure_pages(const std::string& name, const Bench& bench) {
  const Planned planned(bench);
  const Pages pages(bench);
  Compaction compaction = planned.bare();
  pages.add_to(compaction);
  const std::size_t last = std::size_t{bench.sizes().layers} * bench.sizes().batch - 1;
  check(bench, planned, compaction,
        [&](std::uint32_t token, bool before) { return pages.key(last, token, before); });
  for (const std::uint32_t blocks : pages.read_entries()) {
    require(blocks == (bench.sizes().kept + Pages::block_tokens - 1) / Pages::block_tokens,
            "blocks in use of a table");
  }
  const std::uint64_t bytes = planned.bytes(bench);
  const Turns turns = bench.turns({[&] { bench.copy(bytes / 2); }},
                                  {[&] { require(launches::compact(compaction, bench.stream())); },
                                   [&] { pages.restore(bench); }});
  return row_of(name, turns, {Limit::most_ratio, 1.25}, static_cast<double>(bytes));
}

/// Floor: the same rows without scores and positions.
Row measure_along(const std::string& name, const Bench& bench) {
  const Planned planned(bench);
  Compaction alone = planned.bare();
  add_strips(bench, false, alone);
  Compaction along = planned.world.compaction();
  along.plans.lengths = nullptr;
  add_strips(bench, false, along);
  check(bench, planned, along, place_in_strips(bench, along));
  const std::size_t number = std::size_t{bench.sizes().layers} * bench.sizes().batch - 1;
  const std::size_t begin = number * planned.world.state().shape.capacity;
  const std::uint32_t last = bench.sizes().kept - 1;
  lethe::Position position = 0;
  require(cudaMemcpy(&position, planned.world.state().positions + begin + last, sizeof position,
                     cudaMemcpyDeviceToHost),
          "cudaMemcpy");
  require(position == planned.world.kept(number)[last], "the last position of the last layer");
  const auto run = [&](const Compaction& compaction) {
    return [&] { require(launches::compact(compaction, bench.stream())); };
  };
  const Turns turns = bench.turns({run(alone)}, {run(along)});
  return row_of(name, turns, {}, static_cast<double>(planned.bytes(bench) + planned.moves * 16));
}

}  // namespace

Entries compact_entries() {
  const auto strips = [](bool heads_first) {
    return [=](const std::string& name, const Bench& bench) {
      return measure_strips(name, bench, heads_first);
    };
  };
  return {{"compact/token, head", strips(false)},
          {"compact/head, token", strips(true)},
          {"compact/pages", measure_pages},
          {"compact/with scores and positions", measure_along}};
}

}  // namespace gpu_bench
