#include "lethe/layerkv/coalescer.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "naive/random.hpp"

namespace {

using lethe::layerkv::BlockArray;
using lethe::layerkv::ByteCopy;
using lethe::layerkv::Coalescer;
using naive::Random;

struct Move {
  std::uint32_t from;
  std::uint32_t to;
};
using Moves = std::vector<Move>;
using Bytes = std::vector<std::byte>;

std::span<const Move> view(const Moves& moves) { return moves; }

/// `count` different indices below `end`, in runs as an allocator leaves them.
std::vector<std::uint32_t> indices(Random& random, std::size_t end, std::size_t count) {
  std::vector<std::uint32_t> all(end);
  std::iota(all.begin(), all.end(), 0u);
  for (std::size_t swaps = random.below(end); swaps > 0; --swaps) {
    std::swap(all[random.below(end)], all[random.below(end)]);
  }
  const std::size_t first = random.below(end - count + 1);
  return {all.begin() + static_cast<std::ptrdiff_t>(first),
          all.begin() + static_cast<std::ptrdiff_t>(first + count)};
}

Moves random_moves(Random& random, std::size_t end, std::size_t count) {
  const auto from = indices(random, end, count);
  const auto to = indices(random, end, count);
  Moves moves;
  for (std::size_t i = 0; i < count; ++i) moves.push_back({from[i], to[i]});
  return moves;
}

Bytes noise(Random& random, std::size_t count) {
  Bytes bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.below(256));
  return bytes;
}

/// The length of each run: moves whose predecessor on both sides is no move begin one.
std::vector<std::size_t> naive_runs(const Moves& moves) {
  const auto follows = [&](const Move& move) {
    return std::find_if(moves.begin(), moves.end(), [&](const Move& next) {
      return next.from == move.from + 1 && next.to == move.to + 1;
    });
  };
  std::vector<std::size_t> runs;
  for (const Move& move : moves) {
    const bool begins = std::none_of(moves.begin(), moves.end(), [&](const Move& previous) {
      return previous.from + 1 == move.from && previous.to + 1 == move.to;
    });
    if (!begins) continue;
    std::size_t length = 1;
    for (auto next = follows(move); next != moves.end(); next = follows(*next)) ++length;
    runs.push_back(length);
  }
  return runs;
}

void carry(std::span<const ByteCopy> copies) {
  for (const ByteCopy& copy : copies) std::memcpy(copy.target, copy.source, copy.bytes);
}

struct SelfKnowing {
  std::uint32_t value;
  [[nodiscard]] std::uint32_t index() const { return value; }
};
struct SelfKnowingMove {
  SelfKnowing from;
  SelfKnowing to;
};

}  // namespace

TEST_CASE("blocks in runs on both sides are one copy a run, whatever the order of the table") {
  Bytes device(64), host(64);
  Coalescer coalescer({.blocks = 8, .arrays = 1});
  const BlockArray array[] = {{.source = device.data(), .target = host.data(), .block_bytes = 4}};
  const Moves descending{{5, 9}, {4, 8}, {3, 7}};
  const auto copies = coalescer.copies(view(descending), array);
  REQUIRE(copies.size() == 1);
  CHECK(copies[0] == ByteCopy{device.data() + 12, host.data() + 28, 12});

  const Moves target_broken{{0, 0}, {1, 2}, {2, 3}};
  CHECK(coalescer.copies(view(target_broken), array).size() == 2);
  const Moves source_broken{{0, 0}, {2, 1}, {3, 2}};
  CHECK(coalescer.copies(view(source_broken), array).size() == 2);
  CHECK(coalescer.copies(view({}), array).empty());
}

TEST_CASE("random moves carry the bytes that block by block copies do, in the fewest copies") {
  constexpr std::size_t blocks = 40;
  Random random(7);
  for (int trial = 0; trial < 150; ++trial) {
    const Moves moves = random_moves(random, blocks, 1 + random.below(blocks));
    const std::size_t keys = 1 + random.below(5);
    const std::size_t values = 1 + random.below(5);
    const Bytes source_keys = noise(random, blocks * keys);
    const Bytes source_values = noise(random, blocks * values);
    Bytes target_keys(blocks * keys), target_values(blocks * values);
    Bytes expected_keys = target_keys, expected_values = target_values;
    for (const Move& move : moves) {
      std::memcpy(&expected_keys[move.to * keys], &source_keys[move.from * keys], keys);
      std::memcpy(&expected_values[move.to * values], &source_values[move.from * values], values);
    }
    const BlockArray arrays[] = {
        {.source = source_keys.data(), .target = target_keys.data(), .block_bytes = keys},
        {.source = source_values.data(), .target = target_values.data(), .block_bytes = values}};
    Coalescer coalescer({.blocks = blocks});
    const auto copies = coalescer.copies(view(moves), arrays);
    carry(copies);
    CHECK(target_keys == expected_keys);
    CHECK(target_values == expected_values);
    CHECK(copies.size() == 2 * naive_runs(moves).size());
  }
}

TEST_CASE("no copy is larger than told, and no block is cut") {
  constexpr std::size_t blocks = 60;
  constexpr std::size_t block_bytes = 3;
  Random random(8);
  for (int trial = 0; trial < 150; ++trial) {
    const Moves moves = random_moves(random, blocks, 1 + random.below(blocks));
    const std::size_t most = 1 + random.below(20);
    const Bytes source = noise(random, blocks * block_bytes);
    Bytes target(source.size()), expected(source.size());
    for (const Move& move : moves) {
      std::memcpy(&expected[move.to * block_bytes], &source[move.from * block_bytes], block_bytes);
    }
    const BlockArray array[] = {
        {.source = source.data(), .target = target.data(), .block_bytes = block_bytes}};
    Coalescer coalescer({.blocks = blocks, .arrays = 1, .copy_bytes = most});
    const auto copies = coalescer.copies(view(moves), array);
    carry(copies);
    CHECK(target == expected);
    std::size_t fewest = 0;
    const std::size_t whole = std::max<std::size_t>(1, most / block_bytes);
    for (const std::size_t run : naive_runs(moves)) fewest += (run + whole - 1) / whole;
    CHECK(copies.size() == fewest);
    for (const ByteCopy& copy : copies) CHECK(copy.bytes <= std::max(most, block_bytes));
  }
}

TEST_CASE("blocks apart from each other are copied apart, without what lies between") {
  Bytes source(40, std::byte{1}), target(40, std::byte{0});
  Coalescer coalescer({.blocks = 4, .arrays = 1});
  const Moves moves{{0, 1}, {1, 2}};
  const BlockArray strided[] = {
      {.source = source.data(), .target = target.data(), .block_bytes = 3, .source_stride = 8}};
  const auto apart = coalescer.copies(view(moves), strided);
  REQUIRE(apart.size() == 2);
  CHECK(apart[1] == ByteCopy{source.data() + 8, target.data() + 6, 3});
  const BlockArray target_strided[] = {
      {.source = source.data(), .target = target.data(), .block_bytes = 3, .target_stride = 10}};
  const auto spread = coalescer.copies(view(moves), target_strided);
  REQUIRE(spread.size() == 2);
  CHECK(spread[1] == ByteCopy{source.data() + 3, target.data() + 20, 3});
}

TEST_CASE("packing keeps the table's order and joins what its sources allow") {
  const Bytes keys(64), values(64);
  Coalescer coalescer({.blocks = 8});
  const BlockArray arrays[] = {{.source = keys.data(), .block_bytes = 4},
                               {.source = values.data(), .block_bytes = 2}};
  const std::vector<std::uint32_t> table{6, 7, 8, 2, 3, 1};
  const auto copies = coalescer.packed(std::span<const std::uint32_t>(table), arrays);
  REQUIRE(copies.size() == 6);
  CHECK(copies[0] == ByteCopy{keys.data() + 24, nullptr, 12});
  CHECK(copies[1] == ByteCopy{keys.data() + 8, nullptr, 8});
  CHECK(copies[2] == ByteCopy{keys.data() + 4, nullptr, 4});
  CHECK(copies[3] == ByteCopy{values.data() + 12, nullptr, 6});
  CHECK(copies[5] == ByteCopy{values.data() + 2, nullptr, 2});

  Coalescer capped({.blocks = 8, .arrays = 1, .copy_bytes = 8});
  const auto cut = capped.packed(std::span<const std::uint32_t>(table), std::span(arrays).first(1));
  REQUIRE(cut.size() == 4);
  CHECK(cut[0] == ByteCopy{keys.data() + 24, nullptr, 8});
  CHECK(cut[1] == ByteCopy{keys.data() + 32, nullptr, 4});
}

TEST_CASE("a block is an index, or knows its own") {
  Bytes source(64), target(64);
  Coalescer coalescer({.blocks = 8, .arrays = 1});
  const BlockArray array[] = {{.source = source.data(), .target = target.data(), .block_bytes = 4}};
  const std::vector<SelfKnowingMove> moves{{{2}, {5}}, {{3}, {6}}};
  const auto copies = coalescer.copies(std::span<const SelfKnowingMove>(moves), array);
  REQUIRE(copies.size() == 1);
  CHECK(copies[0] == ByteCopy{source.data() + 8, target.data() + 20, 8});
}

TEST_CASE("a coalescer of nothing is refused by name") {
  CHECK_THROWS_AS(Coalescer({.blocks = 0}), std::invalid_argument);
  CHECK_THROWS_WITH(Coalescer({.blocks = 0}), Catch::Contains("blocks = 0"));
  CHECK_THROWS_WITH(Coalescer({.blocks = 4, .arrays = 0}), Catch::Contains("arrays = 0"));
}
