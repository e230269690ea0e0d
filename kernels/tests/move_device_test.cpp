// Compaction and transfers on a device, beside the host's emulation of the same code. Without a
// device every test says so and passes.
#include <cuda_runtime_api.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "catch.hpp"
#include "compact_cases.hpp"
#include "device_memory.hpp"
#include "launches.hpp"
#include "lethe/gpu/pinned_memory.hpp"
#include "lethe/gpu/prune_graph.hpp"
#include "lethe/gpu/read_back.hpp"
#include "lethe/gpu/runtime_calls.hpp"
#include "lethe/gpu/stream_copier.hpp"
#include "lethe/layerkv/transfer.hpp"
#include "mirrored_compaction.hpp"

namespace {

using lethe::gpu::Compaction;
using lethe::gpu::RuntimeCalls;
using lethe::layerkv::ByteCopy;
using lethe::layerkv::Route;
using naive::DeviceMemory;
using naive::Mirror;
using naive::Random;
using naive::Stream;
using naive::succeed;
using namespace naive::compactions;

/// Launched directly, or captured in a graph that is then launched.
void launch(const Compaction& compaction, bool captured) {
  const Stream own;
  if (!captured) {
    REQUIRE(launches::compact(compaction, own.stream).ok());
    return succeed(cudaStreamSynchronize(own.stream));
  }
  RuntimeCalls calls;
  lethe::gpu::PruneGraph<RuntimeCalls> graph(calls);
  const auto compact = [&](cudaStream_t on) { return launches::compact(compaction, on); };
  REQUIRE(graph.record(own.stream, compact).ok());
  REQUIRE(graph.replay(own.stream).ok());
  succeed(cudaStreamSynchronize(own.stream));
}

/// Keys of a pinned block each, at random places of both sides.
std::vector<ByteCopy> random_copies(Random& random, std::byte* from, std::byte* to,
                                    std::size_t blocks, std::size_t bytes) {
  std::vector<ByteCopy> copies;
  const std::size_t first = random.below(blocks), step = 1 + 2 * random.below(blocks / 2);
  for (std::size_t i = 0; i < blocks; ++i) {
    if (!random.chance(80)) continue;
    copies.push_back({from + i * bytes, to + (first + i * step) % blocks * bytes, bytes});
  }
  return copies;
}

/// Queues the copies and polls until they have ended.
template <class Queue>
void carry(Queue& queue, const std::vector<ByteCopy>& copies, Route route) {
  REQUIRE(queue.start({.copies = copies, .route = route}));
  std::optional<lethe::layerkv::FinishedTransfer> finished;
  while (!finished) {
    queue.poll(std::chrono::steady_clock::now().time_since_epoch());
    finished = queue.take_finished();
  }
  REQUIRE(finished->outcome == lethe::layerkv::TransferOutcome::done);
}

}  // namespace

TEST_CASE("plain rows are packed on the device as on the host") {
  if (!naive::has_device()) return;
  Random random(1);
  for (int turn = 0; turn < 60; ++turn) {
    Contiguous given(random, turn % 2 == 0 ? 1 : 2);
    Mirror mirror;
    add(mirror, given.plans);
    for (const Bytes& memory : given.memories) mirror.add(memory);
    launch(on_device(mirror, given.compaction), turn % 3 == 0);
    run(random, given.compaction);
    REQUIRE(mirror.equal());
  }
}

TEST_CASE("paged rows, tables and lists of blocks are those of the host") {
  if (!naive::has_device()) return;
  Random random(2);
  for (int turn = 0; turn < 60; ++turn) {
    Paged given(random, turn % 2 == 0, turn % 5 < 2 ? 2 : 1);
    Mirror mirror;
    add(mirror, given.plans);
    add(mirror, given.tables);
    for (const Bytes* memory : {&given.keys, &given.values, &given.positions}) mirror.add(*memory);
    launch(on_device(mirror, given.compaction), turn % 3 == 0);
    run(random, given.compaction);
    REQUIRE(mirror.equal());
  }
}

TEST_CASE("blocks go to the device and back whole, through batches and pitched copies") {
  if (!naive::has_device()) return;
  constexpr std::size_t blocks = 64, bytes = 4096;
  Random random(3);
  RuntimeCalls calls;
  const Stream engine;
  for (const bool batches : {true, false}) {
    const DeviceMemory device = naive::device_memory(blocks * bytes);
    // [gpu_transfer]
    lethe::gpu::PinnedMemory<RuntimeCalls> pinned({.blocks = 2 * blocks, .block_bytes = bytes},
                                                  calls);
    lethe::gpu::StreamCopier<RuntimeCalls> copier({.batch_calls = batches}, calls);
    lethe::layerkv::TransferQueue queue({.transfers = 4, .copies = blocks}, copier);
    // [gpu_transfer]
    REQUIRE(pinned.status().ok());
    REQUIRE(copier.take_error().ok());
    std::byte* source = pinned.bytes().data();
    std::byte* back = source + blocks * bytes;
    for (int turn = 0; turn < 20; ++turn) {
      for (std::byte& byte : pinned.bytes()) byte = static_cast<std::byte>(random.next() >> 32);
      // Behind the last kernel that reads the blocks which are overwritten.
      REQUIRE(copier.follow(engine.stream).ok());
      const auto in = random_copies(random, source, device.get(), blocks, bytes);
      carry(queue, in, Route::to_device);
      std::vector<ByteCopy> out;
      for (const ByteCopy& copy : in) {
        out.push_back({copy.target, back + (copy.source - source), copy.bytes});
      }
      carry(queue, out, Route::to_host);
      for (std::size_t i = 0; i < in.size(); ++i) {
        REQUIRE(std::equal(in[i].source, in[i].source + bytes, out[i].target));
      }
    }
    REQUIRE(copier.lead(engine.stream, Route::to_host).ok());
    REQUIRE(copier.take_error().ok());
  }
}

TEST_CASE("numbers are read back without waiting") {
  if (!naive::has_device()) return;
  RuntimeCalls calls;
  const Stream engine;
  const std::vector<std::uint32_t> numbers{3, 1, 4, 1, 5, 9};
  Mirror mirror;
  mirror.add(numbers);
  lethe::gpu::ReadBack<RuntimeCalls> read_back(8, calls);
  REQUIRE(read_back.status().ok());
  const std::span<const std::uint32_t> all[] = {{mirror.on_device(numbers.data()), 6}};
  REQUIRE(read_back.begin(all, engine.stream).ok());
  std::optional<std::span<const std::uint32_t>> read;
  while (!read) read = read_back.poll();
  CHECK(std::vector<std::uint32_t>(read->begin(), read->end()) == numbers);
}

TEST_CASE("an error of the runtime is told by name and leaves nothing behind") {
  if (!naive::has_device()) return;
  CHECK(std::string(launches::compact({}, nullptr).call) == "compact");
  CHECK(cudaGetLastError() == cudaSuccess);
}
