#include <algorithm>
#include <cstring>
#include <lethe/policies.hpp>
#include <vector>

#include "catch.hpp"
#include "error.hpp"
#include "request_pruners.hpp"
#include "workbench.hpp"

using namespace serving;
namespace layerkv = lethe::layerkv;

namespace {

constexpr std::size_t bound = 96;

/// Two requests under Lethe, whose rows are filled with numbers of their own. What the layers
/// attend to is up to the test.
class Pair {
 public:
  Pair()
      : bench({.file = {}, .threads = 1}),
        empty(bench.model.config(), bench.cache_type, 16),
        tables({.layers = empty.layers(),
                .block_tokens = 16,
                .device_blocks = 40 * empty.layers(),
                .host_blocks = 40 * empty.layers(),
                .requests = 2,
                .request_blocks = 20,
                .migrations = 4}),
        memory({empty.block_bytes(), 16, empty.layers(), false}, tables.config()),
        pruners(decoder::make_pruner("lethe", {.budget = bound}, bench.model.config()), tables,
                memory, empty) {
    for (layerkv::RequestId id = 0; id < 2; ++id) {
      ids.push_back(tables.open().value());
      pruners.begin(ids.back());
    }
  }

  /// One token more in each layer. Layer l spreads its attention over the first 8 (l + 1) tokens.
  void step(layerkv::RequestId id) {
    pruners.make_room(id, 1);
    const std::size_t heads = bench.model.config().heads;
    for (std::size_t layer = 0; layer < empty.layers(); ++layer) {
      const std::size_t held = pruners.held(id)[layer];
      if (tables.tokens(id, layer) < held + 1) REQUIRE(tables.append(id, layer, 16));
      write(id, layer, held, static_cast<unsigned char>(position));
      std::vector<float> seen(heads * (held + 1), 1e-6f);
      for (std::size_t head = 0; head < heads; ++head)
        for (std::size_t i = 0; i < std::min(held, 8 * (layer + 1)); ++i)
          seen[head * (held + 1) + i] = 1.0f / static_cast<float>(8 * (layer + 1));
      pruners.pruner(id).observe(layer,
                                 {.data = seen.data(),
                                  .heads = heads,
                                  .queries = 1,
                                  .columns = held + 1,
                                  .head_stride = held + 1,
                                  .query_stride = held + 1},
                                 nullptr, 1);
    }
    pruners.pruner(id).commit();
    pruners.advance(id, 1);
    ++position;
  }

  std::byte* row(layerkv::RequestId id, std::size_t layer, std::size_t slot) {
    const layerkv::Block block = tables.table(id, layer)[slot / 16];
    return memory.at(block, layer) + empty.strip_offset(empty.heads() - 1, 1) +
           slot % 16 * empty.row_bytes();
  }
  void write(layerkv::RequestId id, std::size_t layer, std::size_t slot, unsigned char value) {
    std::memset(row(id, layer, slot), value, empty.row_bytes());
  }

  decoder::Workbench bench;
  decoder::PagedCache empty;
  layerkv::BlockTables tables;
  BlockMemory memory;
  RequestPruners pruners;
  std::vector<layerkv::RequestId> ids;
  std::size_t position = 0;
};

}  // namespace

TEST_CASE("a layer that is pruned gives its blocks back at once, each as many as it can spare") {
  Pair pair;
  const layerkv::RequestId id = pair.ids[0];
  for (std::size_t i = 0; i < bound; ++i) pair.step(id);
  CHECK(pair.pruners.is_due(id, 1));
  const std::size_t free = pair.tables.free_blocks(layerkv::Tier::device);
  pair.pruners.make_room(id, 1);
  std::size_t given_back = 0;
  for (std::size_t layer = 0; layer < pair.empty.layers(); ++layer) {
    const std::size_t held = pair.pruners.held(id)[layer];
    const std::size_t blocks = pair.tables.table(id, layer).size();
    CHECK(held < bound);
    CHECK(blocks == (held + 15) / 16);
    CHECK(pair.tables.tokens(id, layer) == 16 * blocks);
    given_back += bound / 16 - blocks;
    // The first tokens stay, and the last one moved next to them.
    CHECK(*pair.row(id, layer, 0) == std::byte{0});
    CHECK(*pair.row(id, layer, held - 1) == std::byte{bound - 1});
  }
  CHECK(given_back > 0);
  CHECK(pair.tables.free_blocks(layerkv::Tier::device) == free + given_back);
  const auto held = pair.pruners.held(id);
  CHECK(held.front() != held.back());
  CHECK(pair.pruners.dropped() > 0);
  pair.tables.check();
}

TEST_CASE("a layer on its way, or on the host, is not pruned") {
  Pair pair;
  const layerkv::RequestId id = pair.ids[0];
  for (std::size_t i = 0; i < bound - 1; ++i) pair.step(id);
  const auto migration = pair.tables.begin_migration(id, 0, layerkv::Tier::host);
  REQUIRE(migration);
  const bool is_there = GENERATE(false, true);
  if (is_there) pair.tables.finish_migration(*migration);
  // One more fits; for two a round is due, which layer 0 cannot take part in.
  CHECK_FALSE(pair.pruners.is_due(id, 1));
  CHECK(pair.pruners.is_due(id, 2));
  CHECK_THROWS_AS(pair.pruners.make_room(id, 2), std::length_error);
  CHECK(pair.pruners.held(id)[0] == bound - 1);
}

TEST_CASE("heads with counts of their own are refused where all hold as many tokens") {
  Pair pair;
  RequestPruners unequal(
      decoder::make_pruner("adakv", {.budget = bound}, pair.bench.model.config()), pair.tables,
      pair.memory, pair.empty);
  CHECK_THROWS_AS(unequal.make_room(pair.ids[0], 1), decoder::Error);
}

TEST_CASE("a request that begins again is pruned as one that begins") {
  Pair pair;
  const layerkv::RequestId id = pair.ids[0];
  for (std::size_t i = 0; i < bound + 5; ++i) pair.step(id);
  const std::vector<std::uint32_t> first(pair.pruners.held(id).begin(),
                                         pair.pruners.held(id).end());
  pair.tables.close(id);
  REQUIRE(pair.tables.open() == id);
  pair.pruners.begin(id);
  pair.position = 0;
  for (std::size_t i = 0; i < bound + 5; ++i) pair.step(id);
  CHECK(std::ranges::equal(pair.pruners.held(id), first));
}
