// Block tables and prefix index over random calls, against an engine's tokens kept one by one.
#include <cstddef>
#include <cstdint>

#include "catch.hpp"
#include "naive/paged_engine.hpp"

// A long run by hand: -DLETHE_LAYERKV_STEPS=1000000.
#if !defined(LETHE_LAYERKV_STEPS)
#define LETHE_LAYERKV_STEPS 2000
#endif

namespace {

using lethe::layerkv::BlockTablesConfig;
using naive::EngineTally;
using naive::PagedEngine;

constexpr std::size_t steps = LETHE_LAYERKV_STEPS;

EngineTally run(const BlockTablesConfig& config, std::size_t entries, std::uint64_t seed) {
  CAPTURE(seed);
  PagedEngine engine(config, entries, seed);
  for (std::size_t step = 0; step < steps; ++step) {
    engine.step();
    if (step % 32 == 0) engine.verify();
  }
  engine.verify();
  engine.finish();
  return engine.tally;
}

void add(EngineTally& sum, const EngineTally& part) {
  sum.refused += part.refused;
  sum.copies += part.copies;
  sum.finished += part.finished;
  sum.cancelled += part.cancelled;
  sum.orphans += part.orphans;
  sum.prefix_blocks += part.prefix_blocks;
  sum.evicted += part.evicted;
}

/// Pools that run dry, and pools that do not; tables of one block and more.
constexpr BlockTablesConfig configs[] = {
    {.layers = 3,
     .block_tokens = 4,
     .device_blocks = 70,
     .host_blocks = 40,
     .requests = 6,
     .request_blocks = 9,
     .migrations = 4},
    {.layers = 2,
     .block_tokens = 1,
     .device_blocks = 200,
     .host_blocks = 130,
     .requests = 9,
     .request_blocks = 30,
     .migrations = 20},
    {.layers = 5,
     .block_tokens = 3,
     .device_blocks = 30,
     .host_blocks = 9,
     .requests = 4,
     .request_blocks = 5,
     .migrations = 2},
    {.layers = 1,
     .block_tokens = 16,
     .device_blocks = 400,
     .host_blocks = 0,
     .requests = 8,
     .request_blocks = 12,
     .migrations = 0},
    {.layers = 2,
     .block_tokens = 2,
     .device_blocks = 0,
     .host_blocks = 64,
     .requests = 3,
     .request_blocks = 8,
     .migrations = 3},
};

}  // namespace

TEST_CASE("whatever is called, every token reads what was written, and no block is lost") {
  EngineTally sum;
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    for (const BlockTablesConfig& config : configs) {
      add(sum, run(config, 0, 10 * seed));
      add(sum, run(config, 5, 10 * seed + 1));
    }
  }
  CHECK(sum.refused > 100);
  CHECK(sum.copies > 100);
  CHECK(sum.finished > 100);
  CHECK(sum.cancelled > 100);
  CHECK(sum.orphans > 20);
  CHECK(sum.prefix_blocks > 100);
  CHECK(sum.evicted > 100);
}

TEST_CASE("ranks that make the same calls have the same tables") {
  PagedEngine one(configs[0], 0, 77);
  PagedEngine other(configs[0], 0, 77);
  for (int step = 0; step < 300; ++step) {
    one.step();
    other.step();
    REQUIRE(one.digest() == other.digest());
  }
}
