#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "catch.hpp"
#include "lethe/gpu/block.cuh"

namespace {

using lethe::gpu::HostBlock;
using lethe::gpu::ThreadBlock;

/// Turns a row about: in two phases; in one, without the barrier between reading and writing.
template <ThreadBlock Block>
LETHE_BLOCK_CODE void reverse(const Block& block, std::uint32_t* row, bool barrier) {
  typename Block::template Registers<std::uint32_t, 1> held;
  const auto take = [&](unsigned lane) { held(lane, 0) = row[Block::threads - 1 - lane]; };
  const auto put = [&](unsigned lane) { row[lane] = held(lane, 0); };
  if (barrier) {
    block.lanes(take);
    block.lanes(put);
  } else {
    block.lanes([&](unsigned lane) {
      take(lane);
      put(lane);
    });
  }
}

std::vector<std::uint32_t> reversed(std::uint64_t seed, bool barrier) {
  std::vector<std::uint32_t> row(64);
  std::iota(row.begin(), row.end(), 0u);
  reverse(HostBlock<64>(seed), row.data(), barrier);
  return row;
}

/// Each lane reads what the one below has written: right in ascending order, barrier or not.
bool passes_on(std::uint64_t seed) {
  std::vector<std::uint32_t> row(64, 0);
  HostBlock<64>(seed).lanes([&](unsigned lane) { row[lane] = lane == 0 ? 1 : row[lane - 1] + 1; });
  return row[63] == 64;
}

}  // namespace

TEST_CASE("a phase runs every lane once, in an order that the seed decides") {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const HostBlock<64> block(seed);
    std::vector<unsigned> first;
    std::vector<unsigned> second;
    block.lanes([&](unsigned lane) { first.push_back(lane); });
    block.lanes_apart([&](unsigned lane) { second.push_back(lane); });
    CHECK((first == second) == (seed == 0));
    std::vector<unsigned> count(64, 0);
    for (const unsigned lane : first) ++count[lane];
    CHECK(count == std::vector<unsigned>(64, 1));
  }
}

TEST_CASE("a barrier that is missing shows in a permuted order") {
  CHECK(passes_on(0));
  for (std::uint64_t seed = 1; seed < 50; ++seed) {
    const std::vector<std::uint32_t> right = reversed(seed, true);
    for (std::uint32_t i = 0; i < 64; ++i) CHECK(right[i] == 63 - i);
    CHECK(reversed(seed, false) != right);
    CHECK_FALSE(passes_on(seed));
  }
}

TEST_CASE("collectives of the host's model") {
  const HostBlock<32> block(7);
  HostBlock<32>::Registers<std::uint32_t, 1> values;
  std::uint32_t counter = 0;
  block.lanes([&](unsigned lane) {
    values(lane, 0) = lane == 5 ? 100 : lane;
    block.add(counter, lane);
  });
  CHECK(block.read(counter) == 31 * 32 / 2);
  CHECK(block.sum(values) == 31 * 32 / 2 + 95);
  CHECK(block.maximum(values) == 100);
  CHECK(block.exclusive_sum(values) == 31 * 32 / 2 + 95);
  CHECK(values(0, 0) == 0);
  CHECK(values(5, 0) == 0 + 1 + 2 + 3 + 4);
  CHECK(values(6, 0) == 110);
}
