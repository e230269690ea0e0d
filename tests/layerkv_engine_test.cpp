// The code shown in docs/layerkv.md for block tables: each region between "// [name]" lines stands
// there word for word.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "catch.hpp"
#include "lethe/layerkv/block_tables.hpp"
#include "lethe/layerkv/prefix_index.hpp"
#include "lethe/layerkv/table_view.hpp"
#include "lethe/policies.hpp"

namespace {

namespace layerkv = lethe::layerkv;

constexpr std::size_t layers = 4;
constexpr std::size_t heads = 2;

/// The engine's own memory: a row of `width` floats a token.
struct Memory {
  static constexpr std::size_t width = 8;
  std::vector<float> device = std::vector<float>(160 * 16 * width);
  std::vector<float> host = std::vector<float>(64 * 16 * width);

  float* row(layerkv::RowPlace place) {
    std::vector<float>& tier = place.block.tier() == layerkv::Tier::host ? host : device;
    return tier.data() + (place.block.index() * 16 + place.row) * width;
  }
  void copy(const layerkv::BlockMove& move) {
    std::memcpy(row({move.to}), row({move.from}), 16 * width * sizeof(float));
  }
};

// [layerkv_mover]
struct MyRows {
  Memory* memory;  // your blocks
  void copy_rows(std::size_t, std::uint32_t, layerkv::RowPlace from, layerkv::RowPlace to,
                 std::size_t rows) {
    std::memmove(memory->row(to), memory->row(from), rows * Memory::width * sizeof(float));
  }
};
static_assert(layerkv::RowMover<MyRows>);
// [layerkv_mover]

struct Engine {
  layerkv::BlockTables tables{{.layers = layers,
                               .device_blocks = 160,
                               .host_blocks = 64,
                               .requests = 8,
                               .request_blocks = 32}};
  Memory memory{};
  std::size_t written = 0;
  std::size_t sent = 0;

  void send(const layerkv::TableDelta& delta, std::span<const layerkv::Block> entries) {
    sent += delta.count;
    CHECK(entries.size() == delta.count);
  }
  void compute(layerkv::RequestId, std::size_t tokens) { written += tokens; }
};

}  // namespace

TEST_CASE("a step of an engine with block tables") {
  Engine engine;
  layerkv::BlockTables& tables = engine.tables;
  // [layerkv_step]
  const layerkv::RequestId request = *tables.open();
  if (!tables.append(request, 100)) return;    // every layer, or none: wait, evict or preempt
  if (!tables.append(request, 3, 20)) return;  // or one layer alone

  // Before the step's kernels: copies on write, then table entries that changed.
  for (const layerkv::BlockMove& move : tables.take_copies()) engine.memory.copy(move);
  for (const layerkv::TableDelta& delta : tables.take_deltas()) {
    engine.send(delta, tables.table(delta.request, delta.layer).subspan(delta.first, delta.count));
  }
  engine.compute(request, 100);
  // [layerkv_step]
  CHECK(engine.sent == 3 * 7 + 8);

  // [layerkv_migrate]
  if (const auto migration = tables.begin_migration(request, 1, layerkv::Tier::host)) {
    for (const layerkv::BlockMove& move : tables.moves(*migration)) engine.memory.copy(move);
    tables.finish_migration(*migration);  // when the last copy is done; or cancel_migration
  }
  // [layerkv_migrate]
  CHECK(tables.tier(request, 1) == layerkv::Tier::host);
  tables.close(request);
  tables.check();
  CHECK(tables.free_blocks(layerkv::Tier::device) == 160);
}

TEST_CASE("a prompt that begins as an earlier one did") {
  Engine engine;
  layerkv::BlockTables& tables = engine.tables;
  layerkv::PrefixIndex index(tables.config());
  const auto serve = [&](const std::vector<std::uint32_t>& prompt) {
    // [layerkv_prefix]
    std::vector<layerkv::BlockHash> chain;  // one hash for each full block but the last token's
    layerkv::BlockHash parent;
    for (std::size_t first = 0; first + 16 < prompt.size(); first += 16) {
      parent = layerkv::hash_block(parent, std::span(prompt).subspan(first, 16));
      chain.push_back(parent);
    }
    const layerkv::RequestId request = *tables.open();
    const std::size_t cached = 16 * index.acquire(tables, request, chain);
    // Evicts what no request uses where blocks are missing.
    if (!index.append(tables, request, prompt.size() - cached)) return cached;
    engine.compute(request, prompt.size() - cached);
    index.insert(tables, request, chain);  // full blocks, written

    index.release(request);
    tables.close(request);
    // [layerkv_prefix]
    return cached;
  };
  std::vector<std::uint32_t> prompt(100, 7);
  CHECK(serve(prompt) == 0);
  prompt.resize(64, 7);
  prompt.resize(90, 8);
  CHECK(serve(prompt) == 64);
  CHECK(index.consistent());
}

TEST_CASE("pruning a request gives each layer's blocks back") {
  Engine engine;
  layerkv::BlockTables& tables = engine.tables;
  const layerkv::RequestId request = *tables.open();
  const std::size_t steps = 300;
  std::vector<float> p(heads * 200);
  // [layerkv_view]
  lethe::policies::H2O pruner{{.layers = layers, .capacity = 128}, {.budget = 96}};
  layerkv::TableView view(tables, request, MyRows{&engine.memory});
  for (std::size_t step = 0; step < steps; ++step) {
    pruner.make_room(view, 1);  // may give blocks back, in each layer as many as it can spare
    if (!tables.append(request, 1)) break;
    for (std::size_t layer = 0; layer < layers; ++layer) {
      // your code: keys, values and attention
      pruner.observe(layer, {.data = p.data(), .heads = heads, .columns = view.size(layer)});
    }
    pruner.commit();
  }
  // [layerkv_view]
  CHECK(pruner.tokens_seen() == steps);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    CHECK(view.size(layer) <= 128);
    CHECK(tables.table(request, layer).size() <= 8);
  }
  tables.check();
}
