#include "lethe/layerkv/block_tables.hpp"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "catch.hpp"

namespace {

using namespace lethe::layerkv;

constexpr BlockTablesConfig small{.layers = 4,
                                  .block_tokens = 4,
                                  .device_blocks = 40,
                                  .host_blocks = 20,
                                  .requests = 3,
                                  .request_blocks = 8,
                                  .migrations = 3};

std::vector<Block> blocks_of(const BlockTables& tables, RequestId id, std::size_t layer) {
  const auto table = tables.table(id, layer);
  return {table.begin(), table.end()};
}

/// Every block is free again, and nothing is wrong.
void require_all_free(const BlockTables& tables) {
  REQUIRE_NOTHROW(tables.check());
  REQUIRE(tables.free_blocks(Tier::device) == tables.config().device_blocks);
  REQUIRE(tables.free_blocks(Tier::host) == tables.config().host_blocks);
}

}  // namespace

TEST_CASE("requests are numbered from 0 on, and numbers are used again") {
  BlockTables tables(small);
  CHECK(tables.open() == 0u);
  CHECK(tables.open() == 1u);
  CHECK(tables.open() == 2u);
  CHECK_FALSE(tables.open().has_value());
  CHECK(tables.open_requests() == 3);
  tables.close(1);
  CHECK_FALSE(tables.is_open(1));
  CHECK(tables.open() == 1u);
  CHECK(tables.is_open(1));
  CHECK_FALSE(tables.is_open(3));
}

TEST_CASE("layers of a request are of unequal length, and each gives back its own blocks") {
  BlockTables tables(small);
  const RequestId id = *tables.open();
  REQUIRE(tables.append(id, 5));
  CHECK(tables.free_blocks(Tier::device) == 40 - 4 * 2);
  REQUIRE(tables.append(id, 2, 12));
  CHECK(tables.tokens(id, 2) == 17);
  CHECK(tables.table(id, 2).size() == 5);
  CHECK(tables.table(id, 1).size() == 2);
  CHECK(tables.blocks_needed(id, 1, 3) == 0);
  CHECK(tables.blocks_needed(id, 1, 4) == 1);
  tables.truncate(id, 2, 4);
  CHECK(tables.table(id, 2).size() == 1);
  CHECK(tables.free_blocks(Tier::device) == 40 - 3 * 2 - 1);
  tables.close(id);
  require_all_free(tables);
}

TEST_CASE("append is all or nothing, in one layer and in all") {
  BlockTables tables(small);
  const RequestId id = *tables.open();
  REQUIRE(tables.append(id, 0, 32));
  REQUIRE(tables.append(id, 1, 32));
  REQUIRE(tables.append(id, 2, 32));
  REQUIRE(tables.append(id, 3, 28));
  const RequestId other = *tables.open();
  CHECK(tables.free_blocks(Tier::device) == 9);
  CHECK_FALSE(tables.append(other, 12));
  CHECK(tables.free_blocks(Tier::device) == 9);
  CHECK(tables.tokens(other, 0) == 0);
  REQUIRE(tables.append(other, 8));
  CHECK_FALSE(tables.append(other, 1, 5));
  REQUIRE(tables.append(other, 1, 5, Tier::host));
  CHECK_FALSE(tables.tier(other, 1).has_value());
  CHECK(tables.tier(other, 0) == Tier::device);
  CHECK(tables.consistent());
}

TEST_CASE("a table longer than the longest is refused, and nothing has changed") {
  BlockTables tables(small);
  const RequestId id = *tables.open();
  REQUIRE(tables.append(id, 3, 30));
  CHECK_THROWS_AS(tables.append(id, 3, 3), std::length_error);
  CHECK_THROWS_WITH(tables.append(id, 3), Catch::Contains("33 tokens") &&
                                              Catch::Contains("8 blocks") &&
                                              Catch::Contains("request_blocks"));
  CHECK(tables.tokens(id, 0) == 0);
  CHECK(tables.append(id, 3, 2));
}

TEST_CASE("the largest numbers of tokens do not wrap round") {
  constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
  BlockTables tables(small);
  const RequestId id = *tables.open();
  REQUIRE(tables.append(id, 0, 5));
  for (const std::size_t tokens : {most, most - 1, most - 3, most / 2}) {
    tables.truncate(id, 0, tokens);
    CHECK_THROWS_AS(tables.append(id, 0, tokens), std::length_error);
    CHECK_THROWS_AS(tables.append(id, tokens), std::length_error);
    CHECK(tables.tokens(id, 0) == 5);
    CHECK(tables.table(id, 0).size() == 2);
  }
  tables.check();
}

TEST_CASE("of two that share a partial block, the first to write gets the copy") {
  BlockTables tables(small);
  const RequestId one = *tables.open();
  REQUIRE(tables.append(one, 0, 6));
  const RequestId two = *tables.open();
  tables.share(one, two, 0, 2);
  CHECK(tables.tokens(two, 0) == 6);
  CHECK(tables.free_blocks(Tier::device) == 38);
  const std::vector<Block> before = blocks_of(tables, one, 0);
  CHECK(tables.blocks_needed(one, 0, 1) == 1);
  CHECK(tables.blocks_needed(one, 0, 3) == 2);
  REQUIRE(tables.append(one, 0, 1));
  CHECK(blocks_of(tables, two, 0) == before);
  const Block own = tables.table(one, 0)[1];
  CHECK_FALSE(own == before[1]);
  // The other writes in place, though the copy is still to be made.
  CHECK(tables.blocks_needed(two, 0, 1) == 0);
  REQUIRE(tables.append(two, 0, 1));
  CHECK(blocks_of(tables, two, 0) == before);
  // Its block is kept for the copy, even when it ends.
  tables.close(two);
  CHECK(tables.free_blocks(Tier::device) == 40 - 2 - 1);
  const auto copies = tables.take_copies();
  REQUIRE(copies.size() == 1);
  CHECK(copies[0] == BlockMove{before[1], own});
  CHECK(tables.free_blocks(Tier::device) == 40 - 2);
  CHECK(tables.take_copies().empty());
  tables.close(one);
  require_all_free(tables);
}

TEST_CASE("a copy that nobody needs any more is not asked for") {
  BlockTables tables(small);
  const RequestId one = *tables.open();
  REQUIRE(tables.append(one, 6));
  const RequestId two = *tables.open();
  for (std::size_t layer = 0; layer < 4; ++layer) tables.share(one, two, layer, 2);
  REQUIRE(tables.append(two, 1));
  const Block left = tables.table(two, 2)[1];
  for (const std::size_t layer : {0u, 3u, 1u}) {
    tables.truncate(two, layer, 4);
    tables.check();
  }
  const auto copies = tables.take_copies();
  REQUIRE(copies.size() == 1);
  CHECK(copies[0].to == left);
  tables.close(two);
  tables.close(one);
  require_all_free(tables);
}

TEST_CASE("copies of both tiers are kept apart, whatever their blocks' numbers") {
  BlockTables tables(small);
  const RequestId one = *tables.open();
  REQUIRE(tables.append(one, 0, 6));
  REQUIRE(tables.append(one, 1, 6, Tier::host));
  const RequestId two = *tables.open();
  tables.share(one, two, 0, 2);
  tables.share(one, two, 1, 2);
  REQUIRE(tables.append(two, 0, 1));
  REQUIRE(tables.append(two, 1, 1, Tier::host));
  REQUIRE(tables.table(two, 0)[1].index() == tables.table(two, 1)[1].index());
  tables.truncate(two, 0, 0);
  tables.check();
  CHECK(tables.take_copies().size() == 1);
  tables.truncate(two, 1, 0);
  tables.check();
}

TEST_CASE("a copy of a block whose own copy is still to be made comes from where the bytes are") {
  BlockTables tables(small);
  RequestId id[3] = {*tables.open(), *tables.open(), *tables.open()};
  REQUIRE(tables.append(id[0], 0, 5));
  const Block bytes = tables.table(id[0], 0)[1];
  tables.share(id[0], id[1], 0, 2);
  REQUIRE(tables.append(id[1], 0, 1));
  tables.share(id[1], id[2], 0, 2);
  REQUIRE(tables.append(id[2], 0, 1));
  const auto copies = tables.take_copies();
  REQUIRE(copies.size() == 2);
  CHECK(copies[0].from == bytes);
  CHECK(copies[1].from == bytes);
  CHECK_FALSE(copies[0].to == copies[1].to);
}

TEST_CASE("old blocks of a migration are free only when it is finished") {
  BlockTables tables(small);
  const RequestId id = *tables.open();
  REQUIRE(tables.append(id, 1, 10));
  const std::vector<Block> before = blocks_of(tables, id, 1);
  const auto migration = tables.begin_migration(id, 1, Tier::host);
  REQUIRE(migration.has_value());
  CHECK(tables.busy(id, 1));
  CHECK_FALSE(tables.busy(id, 0));
  CHECK_FALSE(tables.begin_migration(id, 1, Tier::host).has_value());
  CHECK(blocks_of(tables, id, 1) == before);
  CHECK(tables.free_blocks(Tier::device) == 37);
  CHECK(tables.free_blocks(Tier::host) == 17);
  std::vector<Block> targets;
  for (const BlockMove& move : tables.moves(*migration)) targets.push_back(move.to);
  tables.finish_migration(*migration);
  CHECK(blocks_of(tables, id, 1) == targets);
  CHECK(tables.tier(id, 1) == Tier::host);
  CHECK(tables.free_blocks(Tier::device) == 40);
  CHECK_FALSE(tables.busy(id, 1));
  tables.check();
  const auto back = tables.begin_migration(id, 1, Tier::device);
  tables.cancel_migration(*back);
  CHECK(blocks_of(tables, id, 1) == targets);
  CHECK(tables.free_blocks(Tier::device) == 40);
  tables.close(id);
  require_all_free(tables);
}

TEST_CASE("a request closed in the middle of a migration keeps its blocks until that ends") {
  for (const bool finish : {false, true}) {
    BlockTables tables(small);
    const RequestId id = *tables.open();
    REQUIRE(tables.append(id, 1, 10));
    REQUIRE(tables.append(id, 2, 4));
    const auto migration = tables.begin_migration(id, 1, Tier::host);
    tables.close(id);
    CHECK(tables.free_blocks(Tier::device) == 37);
    CHECK(tables.free_blocks(Tier::host) == 17);
    tables.check();
    // The next of that number has nothing to do with it.
    REQUIRE(tables.open() == id);
    CHECK_FALSE(tables.busy(id, 1));
    REQUIRE(tables.append(id, 1, 3));
    const std::vector<Block> own = blocks_of(tables, id, 1);
    const auto next = tables.begin_migration(id, 1, Tier::host);
    finish ? tables.finish_migration(*migration) : tables.cancel_migration(*migration);
    CHECK(blocks_of(tables, id, 1) == own);
    CHECK(tables.busy(id, 1));
    tables.finish_migration(*next);
    CHECK(tables.tier(id, 1) == Tier::host);
    tables.close(id);
    require_all_free(tables);
  }
}

TEST_CASE("what is appended to, or cut off, during a migration is not what moved") {
  BlockTables tables(small);
  const RequestId id = *tables.open();
  REQUIRE(tables.append(id, 0, 14));
  const auto out = tables.begin_migration(id, 0, Tier::host);
  REQUIRE(tables.append(id, 0, 1));
  CHECK(tables.take_copies().size() == 1);
  tables.truncate(id, 0, 4);
  REQUIRE(tables.append(id, 0, 6));
  tables.finish_migration(*out);
  tables.check();
  const std::vector<Block> table = blocks_of(tables, id, 0);
  REQUIRE(table.size() == 3);
  CHECK(table[0].tier() == Tier::host);
  CHECK(table[1].tier() == Tier::device);
  CHECK(table[2].tier() == Tier::device);
  // Only what stayed behind has to move now.
  const auto rest = tables.begin_migration(id, 0, Tier::host);
  CHECK(tables.moves(*rest).size() == 2);
  tables.finish_migration(*rest);
  CHECK(tables.tier(id, 0) == Tier::host);
  const auto nothing = tables.begin_migration(id, 0, Tier::host);
  CHECK(tables.moves(*nothing).empty());
  tables.finish_migration(*nothing);
  tables.close(id);
  require_all_free(tables);
}

TEST_CASE("a migration needs blocks, and one of those that may be under way") {
  BlockTables tables(small);
  const RequestId id = *tables.open();
  REQUIRE(tables.append(id, 28));
  REQUIRE(tables.begin_migration(id, 0, Tier::host).has_value());
  REQUIRE(tables.begin_migration(id, 1, Tier::host).has_value());
  CHECK_FALSE(tables.begin_migration(id, 2, Tier::host).has_value());
  CHECK_FALSE(tables.busy(id, 2));
  tables.truncate(id, 2, 4);
  tables.truncate(id, 3, 4);
  REQUIRE(tables.begin_migration(id, 2, Tier::host).has_value());
  CHECK_FALSE(tables.begin_migration(id, 3, Tier::host).has_value());
  tables.check();
}

TEST_CASE("changes of tables are told once, one range a table") {
  BlockTables tables(small);
  const RequestId id = *tables.open();
  const RequestId other = *tables.open();
  REQUIRE(tables.append(id, 5));
  REQUIRE(tables.append(other, 1, 3));
  CHECK(tables.take_deltas().size() == 5);
  CHECK(tables.take_deltas().empty());
  REQUIRE(tables.append(id, 1, 3));
  CHECK(tables.take_deltas().empty());
  REQUIRE(tables.append(id, 2, 9));
  REQUIRE(tables.append(id, 2, 8));
  const auto grown = tables.take_deltas();
  REQUIRE(grown.size() == 1);
  CHECK(grown[0] == TableDelta{id, 2, 2, 4});
  tables.truncate(id, 2, 1);
  CHECK(tables.take_deltas().empty());
  const auto migration = tables.begin_migration(id, 1, Tier::host);
  CHECK(tables.take_deltas().empty());
  tables.finish_migration(*migration);
  REQUIRE(tables.append(other, 3, 9));
  tables.truncate(other, 3, 4);
  const auto moved = tables.take_deltas();
  REQUIRE(moved.size() == 2);
  CHECK(moved[0] == TableDelta{id, 1, 0, 2});
  CHECK(moved[1] == TableDelta{other, 3, 0, 1});
  REQUIRE(tables.append(id, 0, 9));
  tables.close(id);
  CHECK(tables.take_deltas().empty());
}

TEST_CASE("a prompt's blocks lie side by side in each layer") {
  BlockTables tables({.layers = 8, .device_blocks = 4096, .requests = 4, .request_blocks = 256});
  for (int i = 0; i < 3; ++i) {
    const RequestId id = *tables.open();
    REQUIRE(tables.append(id, 16 * 150));
    for (std::size_t layer = 0; layer < 8; ++layer) {
      const auto table = tables.table(id, layer);
      std::size_t pieces = 1;
      for (std::size_t k = 1; k < table.size(); ++k) {
        pieces += table[k].index() != table[k - 1].index() + 1 ? 1u : 0u;
      }
      CHECK(pieces == 1);
    }
  }
}

TEST_CASE("blocks held beside the tables stay, and are counted") {
  BlockTables tables(small);
  const RequestId id = *tables.open();
  REQUIRE(tables.append(id, 0, 4));
  const Block block = tables.retain(id, 0, 0);
  CHECK(block == tables.table(id, 0)[0]);
  tables.close(id);
  CHECK(tables.free_blocks(Tier::device) == 39);
  tables.check();
  const RequestId next = *tables.open();
  tables.adopt(next, 0, block);
  CHECK(tables.tokens(next, 0) == 4);
  tables.release(block);
  CHECK(tables.free_blocks(Tier::device) == 39);
  CHECK_FALSE(tables.shared(block));
  tables.close(next);
  require_all_free(tables);
}

TEST_CASE("an entry that is unshared has a block of its own in the same tier") {
  BlockTables tables(small);
  const RequestId one = *tables.open();
  REQUIRE(tables.append(one, 0, 80 / 4, Tier::host));
  const RequestId two = *tables.open();
  tables.share(one, two, 0, 5);
  const Block before = tables.table(one, 0)[2];
  const auto own = tables.unshare(two, 0, 2);
  REQUIRE(own.has_value());
  CHECK(tables.table(two, 0)[2] == *own);
  CHECK(own->tier() == Tier::host);
  CHECK(tables.table(one, 0)[2] == before);
  CHECK_FALSE(tables.shared(before));
  tables.check();
  REQUIRE(tables.append(one, 1, 32, Tier::host));
  REQUIRE(tables.append(one, 2, 24, Tier::host));
  CHECK(tables.free_blocks(Tier::host) == 0);
  CHECK_FALSE(tables.unshare(two, 0, 1).has_value());
  CHECK(tables.shared(tables.table(two, 0)[1]));
}

TEST_CASE("pools of no blocks refuse every token, and say so") {
  BlockTables tables({.layers = 2, .requests = 1, .request_blocks = 4});
  const RequestId id = *tables.open();
  CHECK_FALSE(tables.append(id, 1));
  CHECK_FALSE(tables.append(id, 0, 1, Tier::host));
  CHECK(tables.append(id, 0));
  tables.close(id);
  require_all_free(tables);
}

TEST_CASE("settings that cannot be are refused by name") {
  const auto refuses = [](auto change, const char* text) {
    BlockTablesConfig config = small;
    change(config);
    CHECK_THROWS_AS(BlockTables(config), std::invalid_argument);
    CHECK_THROWS_WITH(BlockTables(config), Catch::Contains(text));
  };
  refuses([](auto& c) { c.layers = 0; }, "layers = 0");
  refuses([](auto& c) { c.block_tokens = 0; }, "block_tokens = 0");
  refuses([](auto& c) { c.requests = 0; }, "requests = 0");
  refuses([](auto& c) { c.request_blocks = 0; }, "request_blocks = 0");
  refuses([](auto& c) { c.request_blocks = 1u << 31; }, "request_blocks = 2147483648");
  refuses([](auto& c) { c.requests = 1u << 30; }, "requests = 1073741824");
  refuses(
      [](auto& c) {
        c.requests = 1u << 24;
        c.request_blocks = 1u << 23;
      },
      "request_blocks = 8388608");
  refuses(
      [](auto& c) {
        c.migrations = 1u << 28;
        c.request_blocks = 1u << 24;
      },
      "request_blocks = 16777216");
  refuses([](auto& c) { c.device_blocks = std::size_t{1} << 40; }, "blocks = 1099511627776");
  refuses([](auto& c) { c.migrations = std::size_t{1} << 32; }, "migrations = 4294967296");
}
