// Once constructed, block tables, a prefix index and a view of a request allocate nothing.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "allocation_count.hpp"
#include "catch.hpp"
#include "lethe/layerkv/prefix_index.hpp"
#include "lethe/layerkv/table_view.hpp"

namespace {

using namespace lethe::layerkv;

constexpr std::size_t layers = 4;
constexpr BlockTablesConfig config{.layers = layers,
                                   .block_tokens = 4,
                                   .device_blocks = 200,
                                   .host_blocks = 100,
                                   .requests = 8,
                                   .request_blocks = 12};

struct NoRows {
  void copy_rows(std::size_t, std::uint32_t, RowPlace, RowPlace, std::size_t rows) {
    *moved += rows;
  }
  std::size_t* moved;
};

/// What a turn has done, of each kind.
struct Done {
  std::size_t copies = 0;
  std::size_t deltas = 0;
  std::size_t migrations = 0;
  std::size_t found = 0;
  std::size_t moved = 0;
};

/// A prompt with a cached beginning, a fork, layers that leave and come back, a round of pruning.
void turn(BlockTables& tables, PrefixIndex& index, TableView<NoRows>& pruned, std::uint64_t prompt,
          Done& done) {
  BlockHash chain[10] = {};
  for (std::size_t i = 0; i < 10; ++i) chain[i] = {i < 6 ? i : i + 100 * prompt, 7};
  const RequestId one = *tables.open();
  done.found += index.acquire(tables, one, chain);
  const bool read = index.append(tables, one, 42 - tables.tokens(one, 0));
  if (read) index.insert(tables, one, chain);
  const RequestId two = *tables.open();
  for (std::size_t layer = 0; layer < layers; ++layer) {
    tables.share(one, two, layer, tables.table(one, layer).size());
  }
  static_cast<void>(index.append(tables, two, 1));
  static_cast<void>(tables.append(one, 1, 3, Tier::host));
  done.copies += tables.take_copies().size();
  for (std::size_t layer = 0; layer < layers; ++layer) {
    const auto out = tables.begin_migration(two, layer, Tier::host);
    if (!out) continue;
    layer % 2 == 0 ? tables.finish_migration(*out) : tables.cancel_migration(*out);
    ++done.migrations;
  }
  done.deltas += tables.take_deltas().size();
  const lethe::Slot kept[] = {0, 1, 2, 3, 5, 9, 11};
  const lethe::EvictionPlan plan{.layer = 2, .tokens = 20, .first_move = 4, .kept = kept};
  pruned.apply({&plan, 1});
  static_cast<void>(tables.append(0, 2, 13));
  index.release(one);
  tables.close(one);
  tables.close(two);
}

}  // namespace

TEST_CASE("nothing is allocated once sized, also when pools run dry") {
  BlockTables tables(config);
  PrefixIndex index(config, 24);
  const RequestId pruned = *tables.open();
  REQUIRE(pruned == 0);
  REQUIRE(tables.append(pruned, 2, 20));
  Done done;
  TableView<NoRows> view(tables, pruned, NoRows{&done.moved});
  const std::size_t before = allocations;
  for (std::uint64_t prompt = 0; prompt < 60; ++prompt) turn(tables, index, view, prompt, done);
  const std::size_t after = allocations;
  CHECK(after == before);
  CHECK(done.copies > 60);
  CHECK(done.deltas > 60);
  CHECK(done.migrations > 60);
  CHECK(done.found > 60);
  CHECK(done.moved == 60 * 3);
  CHECK(tables.consistent());
}

TEST_CASE("the counter counts") {
  const std::size_t before = allocations;
  std::vector<int> some(10);
  const std::size_t after = allocations;
  CHECK(after == before + 1);
  CHECK(some.size() == 10);
}
