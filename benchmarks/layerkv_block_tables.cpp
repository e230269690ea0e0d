// block_tables.hpp: blocks that a decoding request takes and gives back, in every layer.
#include "lethe/layerkv/block_tables.hpp"

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ratio.hpp"

namespace {

using namespace lethe::layerkv;

constexpr std::size_t layers = 32;
constexpr std::size_t block_tokens = 16;
constexpr std::size_t requests = 64;
constexpr std::size_t prompt = 1024;

/// Requests that have read a prompt, by turns.
struct Engine {
  Engine()
      : tables({.layers = layers,
                .block_tokens = block_tokens,
                .device_blocks = requests * layers * (prompt / block_tokens + 2),
                .requests = requests,
                .request_blocks = 4096}) {
    for (std::size_t i = 0; i < requests; ++i) {
      failed = failed || !tables.append(*tables.open(), prompt);
    }
  }
  [[nodiscard]] RequestId next() { return static_cast<RequestId>(turn++ % requests); }

  BlockTables tables;
  std::size_t turn = 0;
  bool failed = false;
};

/// As many vectors as there are tables, each as long as a prompt's.
struct Vectors {
  Vectors() : lists(requests * layers, std::vector<std::uint32_t>(prompt / block_tokens)) {
    for (auto& list : lists) list.reserve(4096);
  }
  std::vector<std::vector<std::uint32_t>> lists;
  std::size_t turn = 0;
};

/// One block in each of 32 layers, and back, against a push and a pop of 32 vectors.
void append_and_free(benchmark::State& state) {
  Engine engine;
  Vectors vectors;
  bench::compare(
      state,
      [&] {
        const std::size_t first = vectors.turn++ % requests * layers;
        for (std::size_t i = first; i < first + layers; ++i) {
          vectors.lists[i].push_back(static_cast<std::uint32_t>(i));
        }
        benchmark::ClobberMemory();
        for (std::size_t i = first; i < first + layers; ++i) vectors.lists[i].pop_back();
      },
      [&] {
        const RequestId id = engine.next();
        engine.failed = engine.failed || !engine.tables.append(id, 1);
        benchmark::ClobberMemory();
        engine.tables.truncate(id, prompt);
      });
  if (engine.failed) state.SkipWithError("a block was missing");
}
BENCHMARK(append_and_free)->Iterations(401)->UseManualTime();

/// The same against vectors of tables and one of free blocks: what keeps the same books but for
/// references, tiers and changes.
void append_and_free_listed(benchmark::State& state) {
  Engine engine;
  Vectors vectors;
  std::vector<std::uint32_t> unused(engine.tables.config().device_blocks);
  bench::compare(
      state,
      [&] {
        const std::size_t first = vectors.turn++ % requests * layers;
        for (std::size_t i = first; i < first + layers; ++i) {
          vectors.lists[i].push_back(unused.back());
          unused.pop_back();
        }
        benchmark::ClobberMemory();
        for (std::size_t i = first; i < first + layers; ++i) {
          unused.push_back(vectors.lists[i].back());
          vectors.lists[i].pop_back();
        }
      },
      [&] {
        const RequestId id = engine.next();
        engine.failed = engine.failed || !engine.tables.append(id, 1);
        benchmark::ClobberMemory();
        engine.tables.truncate(id, prompt);
      });
  if (engine.failed) state.SkipWithError("a block was missing");
}
BENCHMARK(append_and_free_listed)->Iterations(401)->UseManualTime();

/// 32 tables and a list of free blocks, all plain vectors.
struct Lists {
  static constexpr std::size_t blocks = 2048 / block_tokens;

  Lists() : unused(layers * blocks), tables(layers) {
    for (auto& table : tables) table.reserve(4096);
  }
  void take() {
    for (auto& table : tables) {
      for (std::size_t i = 0; i < blocks; ++i) {
        table.push_back(unused.back());
        unused.pop_back();
      }
    }
  }
  void give() {
    for (auto& table : tables) {
      for (; !table.empty(); table.pop_back()) unused.push_back(table.back());
    }
  }

  std::vector<std::uint32_t> unused;
  std::vector<std::vector<std::uint32_t>> tables;
};

/// A prompt's blocks in 32 layers, and back, against as many pops and pushes of vectors.
void append_prompt(benchmark::State& state) {
  constexpr std::size_t tokens = Lists::blocks * block_tokens;
  Engine engine;
  Lists lists;
  for (RequestId id = requests / 2; id < requests; ++id) engine.tables.close(id);
  bench::compare(
      state,
      [&] {
        lists.take();
        benchmark::ClobberMemory();
        lists.give();
      },
      [&] {
        const RequestId id = *engine.tables.open();
        engine.failed = engine.failed || !engine.tables.append(id, tokens);
        benchmark::ClobberMemory();
        engine.tables.close(id);
      });
  if (engine.failed) state.SkipWithError("a block was missing");
}
BENCHMARK(append_prompt)->Iterations(401)->UseManualTime();

}  // namespace
