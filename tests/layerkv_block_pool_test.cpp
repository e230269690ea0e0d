#include "lethe/layerkv/block_pool.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"

namespace {

using lethe::layerkv::Block;
using lethe::layerkv::BlockPool;
using lethe::layerkv::Tier;
using lethe::layerkv::detail::IndexSet;

std::vector<Block> run_of(BlockPool& pool, std::size_t count) {
  std::vector<Block> blocks(count, Block(Tier::device, 0));
  REQUIRE(pool.allocate(std::span<Block>(blocks)));
  return blocks;
}

/// Runs of neighbours in the order handed out.
std::size_t pieces(const std::vector<Block>& blocks) {
  std::size_t count = blocks.empty() ? 0 : 1;
  for (std::size_t i = 1; i < blocks.size(); ++i) {
    if (blocks[i].index() != blocks[i - 1].index() + 1) ++count;
  }
  return count;
}

/// A pool, and who holds and reads what by a map.
struct Model {
  explicit Model(std::size_t blocks) : size(blocks), pool(Tier::host, blocks) {}

  void took(Block block) {
    REQUIRE(block.tier() == Tier::host);
    REQUIRE(block.index() < size);
    REQUIRE(holders[block.index()] == 0);
    REQUIRE(pins[block.index()] == 0);
    holders[block.index()] = 1;
  }

  [[nodiscard]] std::size_t free() {
    std::size_t count = 0;
    for (std::uint32_t i = 0; i < size; ++i) count += holders[i] == 0 && pins[i] == 0 ? 1u : 0u;
    return count;
  }

  void allocate_one() {
    const std::size_t before = free();
    const auto block = pool.allocate();
    REQUIRE(block.has_value() == (before != 0));
    if (block) took(*block);
  }

  void allocate_run(Samples& samples) {
    std::vector<Block> out(samples.below(samples.below(4) == 0 ? 150 : 20), Block(Tier::host, 0));
    const std::size_t before = free();
    const bool follow = samples.below(2) == 0;
    const std::optional<Block> after =
        follow ? std::optional(Block(Tier::host, samples.below(size))) : std::nullopt;
    const bool done = pool.allocate(std::span<Block>(out), after);
    REQUIRE(done == (out.size() <= before));
    for (std::size_t i = 0; done && i < out.size(); ++i) took(out[i]);
  }

  void change(Samples& samples, std::uint32_t index) {
    const Block block(Tier::host, index);
    const std::size_t what = samples.below(8);
    if (holders[index] != 0 && what == 0) {
      pool.retain(block);
      ++holders[index];
    } else if (holders[index] != 0 && what == 1) {
      pool.pin(block);
      ++pins[index];
    } else if (pins[index] != 0 && what < 4) {
      pool.unpin(block);
      --pins[index];
    } else if (holders[index] != 0 && what == 4) {
      // The second is another tier's.
      const Block blocks[] = {block, Block(Tier::device, index)};
      REQUIRE(pool.release(blocks) == 1);
      --holders[index];
    } else if (holders[index] != 0) {
      REQUIRE(pool.release(block) == (--holders[index] == 0));
    }
    REQUIRE(pool.holders(block) == holders[index]);
    REQUIRE(pool.pins(block) == pins[index]);
    REQUIRE(pool.shared(block) == (holders[index] > 1));
  }

  std::size_t size;
  BlockPool pool;
  std::map<std::uint32_t, std::uint32_t> holders{};
  std::map<std::uint32_t, std::uint32_t> pins{};
};

}  // namespace

TEST_CASE("a set of indices finds its members as std::set does") {
  for (const std::size_t end :
       {std::size_t{1}, std::size_t{64}, std::size_t{65}, std::size_t{5000}, std::size_t{300000}}) {
    Samples samples(end);
    IndexSet set(end);
    std::set<std::size_t> naive;
    for (int i = 0; i < 3000; ++i) {
      const std::size_t number = samples.below(2) == 0 ? samples.below(end) : end - 1;
      if (samples.below(2) == 0) {
        set.insert(number);
        naive.insert(number);
      } else {
        set.erase(number);
        naive.erase(number);
      }
      REQUIRE(set.empty() == naive.empty());
      if (!naive.empty()) REQUIRE(set.first() == *naive.begin());
      const std::size_t from = samples.below(end);
      const auto above = naive.upper_bound(from);
      REQUIRE(set.next(from) == (above == naive.end() ? IndexSet::none : *above));
      REQUIRE(set.contains(number) == naive.contains(number));
    }
  }
}

TEST_CASE("a block knows its tier and index") {
  const Block last(Tier::host, BlockPool::most_blocks - 1);
  CHECK(last.tier() == Tier::host);
  CHECK(last.index() == BlockPool::most_blocks - 1);
  CHECK(Block(Tier::device, 7).tier() == Tier::device);
  CHECK_FALSE(Block(Tier::device, 7) == Block(Tier::host, 7));
}

TEST_CASE("each block is handed out once, and again when its last holder is gone") {
  for (const std::size_t blocks : {std::size_t{0}, std::size_t{1}, std::size_t{63}, std::size_t{64},
                                   std::size_t{200}, std::size_t{448}}) {
    Samples samples(blocks + 17);
    Model model(blocks);
    REQUIRE(model.pool.free() == blocks);
    for (int i = 0; i < 800; ++i) {
      if (samples.below(3) == 0) model.allocate_one();
      if (samples.below(8) == 0 && blocks != 0) model.allocate_run(samples);
      for (int k = 0; k < 3 && blocks != 0; ++k) {
        model.change(samples, static_cast<std::uint32_t>(samples.below(blocks)));
      }
      if (i % 16 != 0) continue;
      REQUIRE(model.pool.free() == model.free());
      REQUIRE(model.pool.consistent());
    }
  }
}

TEST_CASE("a run comes in neighbouring blocks while there are any") {
  BlockPool pool(Tier::device, 1024);
  CHECK(pieces(run_of(pool, 40)) == 1);
  CHECK(pieces(run_of(pool, 24)) == 1);
  CHECK(pieces(run_of(pool, 30)) == 1);
  const std::vector<Block> wide = run_of(pool, 300);
  CHECK(pieces(wide) == 1);
  // A single block comes out of a broken group, so that whole ones last.
  CHECK(wide.back().index() == 393);
  CHECK(pool.allocate()->index() == 394);
  // A long run begins with what a broken group has left at its end.
  CHECK(run_of(pool, 500).front().index() == 395);
  for (const Block block : wide) pool.release(block);
  CHECK(pieces(run_of(pool, 256)) == 1);
}

TEST_CASE("a run follows the block it is told of") {
  BlockPool pool(Tier::device, 256);
  const std::vector<Block> first = run_of(pool, 10);
  const std::vector<Block> other = run_of(pool, 10);
  std::vector<Block> more(100, Block(Tier::device, 0));
  REQUIRE(pool.allocate(std::span<Block>(more), other.back()));
  CHECK(more.front().index() == other.back().index() + 1);
  CHECK(pieces(more) == 1);
  std::vector<Block> elsewhere(8, Block(Tier::device, 0));
  REQUIRE(pool.allocate(std::span<Block>(elsewhere), first.back()));
  CHECK(elsewhere.front().index() == more.back().index() + 1);
}

TEST_CASE("of broken groups the first that has the whole run gives it") {
  BlockPool pool(Tier::device, 192);
  const std::vector<Block> all = run_of(pool, 192);
  const auto free = [&](std::size_t first, std::size_t count) {
    for (std::size_t i = first; i < first + count; ++i) pool.release(all[i]);
  };
  free(3, 19);
  free(30, 11);
  free(64 + 5, 18);
  free(64 + 40, 21);
  free(128, 30);
  CHECK(run_of(pool, 21).front().index() == 64 + 40);
  CHECK(run_of(pool, 19).front().index() == 3);
  CHECK(run_of(pool, 12).front().index() == 64 + 5);
  CHECK(run_of(pool, 11).front().index() == 30);
  CHECK(run_of(pool, 30).front().index() == 128);
}

TEST_CASE("a broken pool hands out its last blocks in pieces") {
  BlockPool pool(Tier::device, 192);
  const std::vector<Block> all = run_of(pool, 192);
  for (std::size_t i = 0; i < all.size(); i += 2) pool.release(all[i]);
  CHECK(pieces(run_of(pool, 96)) == 96);
  CHECK(pool.free() == 0);
  CHECK_FALSE(pool.allocate().has_value());
}

TEST_CASE("the same calls give the same blocks") {
  const auto blocks = [] {
    BlockPool pool(Tier::device, 300);
    Samples samples(3);
    std::vector<std::uint32_t> order;
    std::vector<Block> held;
    for (int i = 0; i < 2000; ++i) {
      if (samples.below(2) == 0 || held.empty()) {
        const auto block = pool.allocate();
        if (!block) continue;
        held.push_back(*block);
        order.push_back(block->index());
      } else {
        std::swap(held[samples.below(held.size())], held.back());
        pool.release(held.back());
        held.pop_back();
      }
    }
    return order;
  };
  CHECK(blocks() == blocks());
}

TEST_CASE("a tier has fewer than 2^31 blocks") {
  CHECK_THROWS_WITH(BlockPool(Tier::device, (std::size_t{1} << 31) + 1),
                    Catch::Contains("blocks = 2147483649"));
}
