#include "lethe/gpu/stream_copier.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "lethe/gpu/link_windows.hpp"
#include "lethe/gpu/pinned_memory.hpp"
#include "naive/transfer_world.hpp"
#include "simulated_copier.hpp"
#include "simulated_cuda.hpp"

namespace {

using lethe::gpu::LinkWindows;
using lethe::gpu::PinnedMemory;
using lethe::gpu::Status;
using lethe::gpu::StreamCopierConfig;
using lethe::layerkv::ByteCopy;
using lethe::layerkv::CopyState;
using lethe::layerkv::Route;
using naive::SimulatedCalls;
using naive::SimulatedCuda;
using Copier = lethe::gpu::StreamCopier<SimulatedCalls>;
static_assert(lethe::layerkv::Copier<Copier>);

/// Two memories of 1 KiB and an engine's stream.
struct Bench {
  explicit Bench(const StreamCopierConfig& config = {}) : copier(config, calls) {
    for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 7 + 1);
    CHECK(calls.create_stream(engine) == 0);
  }
  [[nodiscard]] ByteCopy copy(std::size_t from, std::size_t to, std::size_t bytes) {
    return {source.data() + from, target.data() + to, bytes};
  }
  [[nodiscard]] bool arrived(const std::vector<ByteCopy>& copies) const {
    return std::all_of(copies.begin(), copies.end(), [](const ByteCopy& copy) {
      return std::equal(copy.source, copy.source + copy.bytes, copy.target);
    });
  }
  CopyState run(const std::vector<ByteCopy>& copies, Route route = Route::to_host) {
    const auto ticket = copier.submit(copies, route);
    REQUIRE(ticket);
    return copier.wait(*ticket);
  }

  SimulatedCuda cuda{1};
  SimulatedCalls calls{&cuda};
  std::array<std::byte, 1024> source{}, target{};
  std::size_t engine = 0;
  Copier copier;
};

/// Rows of `bytes` at these steps.
std::vector<ByteCopy> rows(Bench& bench, std::size_t count, std::size_t bytes, std::size_t step,
                           std::size_t target_step) {
  std::vector<ByteCopy> copies;
  for (std::size_t i = 0; i < count; ++i) {
    copies.push_back(bench.copy(i * step, i * target_step, bytes));
  }
  return copies;
}

}  // namespace

TEST_CASE("random transfers through streams: none lost, no byte touched by whom it is not for") {
  constexpr std::size_t runs = 60;
  for (const std::size_t count : naive::transfers::outcomes_of<naive::SimulatedCopier>(runs)) {
    CHECK(count > runs);
  }
}

TEST_CASE("a batch costs a call for its even rows and one for all the rest") {
  Bench bench;
  auto copies = rows(bench, 6, 16, 48, 32);
  copies.push_back(bench.copy(600, 600, 8));
  copies.push_back(bench.copy(620, 640, 24));
  copies.push_back(bench.copy(0, 0, 0));
  copies.push_back(bench.copy(700, 700, 24));
  CHECK(bench.run(copies) == CopyState::done);
  CHECK(bench.arrived(copies));
  CHECK(bench.cuda.pitched_calls == 1);
  CHECK(bench.cuda.batch_calls == 1);
  CHECK(bench.cuda.copy_calls == 0);
}

TEST_CASE("each route has a stream of its own") {
  Bench bench;
  bench.cuda.most_work = 0;
  const std::vector<ByteCopy> copies{bench.copy(0, 0, 8)};
  const auto out = bench.copier.submit(copies, Route::to_host);
  const auto in = bench.copier.submit(copies, Route::to_device);
  REQUIRE(out);
  REQUIRE(in);
  CHECK(bench.cuda.pending(0) == 2);
  CHECK(bench.cuda.pending(1) == 2);
}

TEST_CASE("few rows, rows that overlap and rows backwards are no pitched copy") {
  for (const auto& [count, step, target_step] :
       {std::array<std::size_t, 3>{3, 48, 32}, {6, 8, 16}, {6, 16, 8}}) {
    Bench bench;
    const auto copies = rows(bench, count, 16, step, target_step);
    CHECK(bench.run(copies) == CopyState::done);
    CHECK(bench.cuda.pitched_calls == 0);
    CHECK(bench.cuda.batch_calls == 1);
  }
  Bench bench;
  auto copies = rows(bench, 6, 16, 48, 32);
  std::reverse(copies.begin(), copies.end());
  CHECK(bench.run(copies) == CopyState::done);
  CHECK(bench.arrived(copies));
  CHECK(bench.cuda.pitched_calls == 0);
}

TEST_CASE("where the driver has no batches, copies go one by one, and it is not asked again") {
  Bench bench;
  bench.cuda.offers_batches = false;
  for (int turn = 0; turn < 2; ++turn) {
    const std::vector<ByteCopy> copies{bench.copy(0, 0, 8), bench.copy(20, 30, 8)};
    CHECK(bench.run(copies) == CopyState::done);
    CHECK(bench.arrived(copies));
  }
  CHECK(bench.cuda.batch_calls == 1);
  CHECK(bench.cuda.copy_calls == 4);
  CHECK(bench.copier.take_error().ok());
}

TEST_CASE("a batch half enqueued fails only when that half has passed") {
  Bench bench({.batch_calls = false});
  std::size_t made = 0;
  bench.cuda.on_copy = [&](const ByteCopy&) { ++made; };
  bench.cuda.most_work = 0;
  std::vector<ByteCopy> copies;
  for (std::size_t i = 0; i < 40; ++i) copies.push_back(bench.copy(i * 20, i * 21 + i % 2, 8));
  constexpr std::size_t enqueued = 10;
  std::size_t calls = 0;
  bench.cuda.on_enqueue = [&] { return ++calls == enqueued + 1; };
  const auto ticket = bench.copier.submit(copies, Route::to_device);
  REQUIRE(ticket);
  for (int polls = 0; polls < 50; ++polls) {
    CHECK(bench.copier.poll(*ticket) == CopyState::pending);
  }
  CHECK(bench.copier.wait(*ticket) == CopyState::failed);
  CHECK(made == enqueued);
  const Status error = bench.copier.take_error();
  CHECK(error.code == SimulatedCuda::launch_failure);
  CHECK(std::string(error.call) == "cudaMemcpyAsync");
  CHECK(bench.copier.take_error().ok());
  CHECK(bench.run(copies) == CopyState::done);
}

TEST_CASE("where no event could be recorded the stream is asked, and the batch is done") {
  Bench bench;
  bench.cuda.most_work = 0;
  const std::vector<ByteCopy> copies{bench.copy(0, 0, 8)};
  std::size_t calls = 0;
  bench.cuda.on_enqueue = [&] { return ++calls == 2; };
  const auto ticket = bench.copier.submit(copies, Route::to_host);
  REQUIRE(ticket);
  for (int polls = 0; polls < 20; ++polls) {
    CHECK(bench.copier.poll(*ticket) == CopyState::pending);
  }
  bench.cuda.most_work = 4;
  while (bench.copier.poll(*ticket) == CopyState::pending) {
  }
  CHECK(bench.arrived(copies));
  CHECK(std::string(bench.copier.take_error().call) == "cudaEventRecord");
}

TEST_CASE("a question that is refused says nothing about the copies") {
  Bench bench;
  bench.cuda.refuse_percent = 100;
  const std::vector<ByteCopy> copies{bench.copy(0, 0, 8)};
  const auto ticket = bench.copier.submit(copies, Route::to_host);
  REQUIRE(ticket);
  for (int polls = 0; polls < 20; ++polls) {
    CHECK(bench.copier.poll(*ticket) == CopyState::pending);
  }
  bench.cuda.refuse_percent = 50;
  CHECK(bench.copier.wait(*ticket) == CopyState::done);
  bench.cuda.refuse_percent = 0;
}

TEST_CASE("a freed block is overwritten only after its last reader") {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    Bench bench;
    SimulatedCuda cuda(seed);
    SimulatedCalls calls{&cuda};
    std::size_t engine = 0;
    Copier copier({}, calls);
    CHECK(calls.create_stream(engine) == 0);
    bool read = false, fetched = false;
    // The engine's kernel reads the block; the copy must come later, and what leads on, last.
    CHECK(cuda.enqueue(engine, [&] { return read = true; }) == 0);
    CHECK(copier.follow(engine).ok());
    cuda.on_copy = [&](const ByteCopy&) {
      if (!read) FAIL_CHECK("overwritten while it is read");
      fetched = true;
    };
    const ByteCopy copy[] = {bench.copy(0, 0, 64)};
    const auto ticket = copier.submit(copy, Route::to_device);
    REQUIRE(ticket);
    CHECK(copier.lead(engine, Route::to_device).ok());
    bool used = false;
    CHECK(cuda.enqueue(engine, [&] {
      if (!fetched) FAIL_CHECK("read before it is there");
      return used = true;
    }) == 0);
    while (!used) cuda.work();
    CHECK(copier.wait(*ticket) == CopyState::done);
  }
}

TEST_CASE("while the order is not known no byte is touched") {
  Bench bench;
  bench.cuda.fail_percent = 100;
  CHECK(bench.copier.follow(bench.engine).code == SimulatedCuda::launch_failure);
  bench.cuda.fail_percent = 0;
  const std::vector<ByteCopy> copies{bench.copy(0, 0, 8)};
  CHECK(bench.run(copies) == CopyState::failed);
  CHECK_FALSE(bench.arrived(copies));
  CHECK(bench.cuda.copy_calls == 0);
  CHECK(bench.copier.follow(bench.engine).ok());
  CHECK(bench.run(copies) == CopyState::done);
}

TEST_CASE("without streams or events every batch fails, and what was had is given back") {
  for (std::size_t creations = 0; creations < 2 + 4 + 2; ++creations) {
    SimulatedCuda cuda;
    SimulatedCalls calls{&cuda};
    cuda.creations = creations;
    {
      Copier copier({.batches = 4}, calls);
      CHECK_FALSE(copier.usable());
      CHECK(copier.take_error().code == SimulatedCuda::out_of_memory);
      CHECK_FALSE(copier.take_error().ok());
      CHECK_FALSE(copier.follow(0).ok());
      const auto ticket = copier.submit({}, Route::to_host);
      REQUIRE(ticket);
      CHECK(copier.poll(*ticket) == CopyState::failed);
    }
    CHECK(cuda.streams_alive == 0);
    CHECK(cuda.events_alive == 0);
  }
}

TEST_CASE("its end waits for what was enqueued") {
  std::array<std::byte, 64> source{}, target{};
  source.fill(std::byte{9});
  SimulatedCuda cuda;
  SimulatedCalls calls{&cuda};
  {
    Copier copier({}, calls);
    const ByteCopy copy[] = {{source.data(), target.data(), 64}};
    REQUIRE(copier.submit(copy, Route::to_host));
    CHECK(target[0] != source[0]);
    cuda.refuse_percent = 30;
  }
  CHECK(cuda.idle());
  CHECK(target == source);
  CHECK(cuda.events_alive == 0);
}

TEST_CASE("a batch too many has no room, and a ticket is never given twice") {
  Bench bench({.batches = 1});
  const auto first = bench.copier.submit({}, Route::to_host);
  REQUIRE(first);
  CHECK_FALSE(bench.copier.submit({}, Route::to_host));
  CHECK(bench.copier.wait(*first) == CopyState::done);
  CHECK(bench.copier.submit({}, Route::to_host) != first);
}

TEST_CASE("pinned memory is one allocation, cut into blocks") {
  SimulatedCuda cuda;
  SimulatedCalls calls{&cuda};
  {
    PinnedMemory<SimulatedCalls> memory({.blocks = 3, .block_bytes = 40}, calls);
    CHECK(memory.status().ok());
    CHECK(cuda.memory_alive == 1);
    CHECK(memory.bytes().size() == 120);
    CHECK(memory.block(2).data() == memory.bytes().data() + 80);
    CHECK(memory.block(2).size() == 40);
  }
  CHECK(cuda.memory_alive == 0);
  cuda.creations = 0;
  PinnedMemory<SimulatedCalls> none({.blocks = 3, .block_bytes = 40}, calls);
  CHECK(none.status().code == SimulatedCuda::out_of_memory);
  CHECK(std::string(none.status().call) == "cudaHostAlloc");
  CHECK(none.bytes().empty());
  const auto make = [&](std::size_t blocks, std::size_t bytes) {
    PinnedMemory<SimulatedCalls>({.blocks = blocks, .block_bytes = bytes}, calls);
  };
  CHECK_THROWS_WITH(make(0, 1), Catch::Contains("blocks = 0"));
  CHECK_THROWS_WITH(make(1, 0), Catch::Contains("block_bytes = 0"));
  CHECK_THROWS_WITH(make(~std::size_t{0}, 2), Catch::Contains("blocks = "));
}

TEST_CASE("the link is taken while a collective runs, not while it is only enqueued") {
  SimulatedCuda cuda;
  SimulatedCalls calls{&cuda};
  std::size_t stream = 0;
  CHECK(calls.create_stream(stream) == 0);
  for (const std::size_t windows : {1u, 2u, 8u}) {
    LinkWindows<SimulatedCalls> link({.windows = windows}, calls);
    REQUIRE(link.status().ok());
    CHECK(link());
    int running = 0, begun = 0;
    for (int collective = 0; collective < 5; ++collective) {
      CHECK(cuda.enqueue(stream, [] { return true; }) == 0);
      CHECK(link.before(stream).ok());
      CHECK(cuda.enqueue(stream, [&] { return ++begun, ++running != 0; }) == 0);
      CHECK(cuda.enqueue(stream, [&] { return --running == 0; }) == 0);
      CHECK(link.after(stream).ok());
    }
    cuda.most_work = 0;
    bool was_free = false, was_taken = false;
    while (!cuda.idle()) {
      const bool free = link();
      if (running != 0) CHECK_FALSE(free);
      was_free = was_free || (free && begun != 5);
      was_taken = was_taken || !free;
      cuda.most_work = 1;
      cuda.work();
      cuda.most_work = 0;
    }
    CHECK(link());
    CHECK(was_free);
    CHECK(was_taken);
    cuda.most_work = 4;
  }
  CHECK(cuda.events_alive == 0);
}

TEST_CASE("a collective that could not be marked does not hold the link") {
  SimulatedCuda cuda;
  SimulatedCalls calls{&cuda};
  std::size_t stream = 0;
  CHECK(calls.create_stream(stream) == 0);
  LinkWindows<SimulatedCalls> link({}, calls);
  cuda.fail_percent = 100;
  CHECK(std::string(link.before(stream).call) == "cudaEventRecord");
  CHECK(link.after(stream).ok());
  cuda.fail_percent = 0;
  CHECK(link.before(stream).ok());
  cuda.fail_percent = 100;
  CHECK_FALSE(link.after(stream).ok());
  CHECK(calls.wait_for_stream(stream) == 0);
  CHECK(link());
  cuda.creations = 3;
  LinkWindows<SimulatedCalls> none({}, calls);
  CHECK(none.status().code == SimulatedCuda::out_of_memory);
  CHECK_FALSE(none.before(stream).ok());
  CHECK(none());
}

TEST_CASE("settings that cannot be are refused by name") {
  SimulatedCuda cuda;
  SimulatedCalls calls{&cuda};
  const auto refuses = [&](auto change, const char* field) {
    StreamCopierConfig config;
    change(config);
    CHECK_THROWS_AS(Copier(config, calls), std::invalid_argument);
    CHECK_THROWS_WITH(Copier(config, calls), Catch::Contains(field));
  };
  refuses([](auto& c) { c.batches = 0; }, "batches = 0");
  refuses([](auto& c) { c.batch_copies = 0; }, "batch_copies = 0");
  refuses([](auto& c) { c.pitched_rows = 1; }, "pitched_rows = 1");
  CHECK_THROWS_WITH(LinkWindows<SimulatedCalls>({.windows = 0}, calls),
                    Catch::Contains("windows = 0"));
}
