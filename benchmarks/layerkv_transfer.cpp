// layerkv/transfer.hpp, coalescer.hpp and thread_copier.hpp: a layer carried by threads against one
// memcpy of it, and in fragments of 32 KB with and without coalescing.
#include "lethe/layerkv/transfer.hpp"

#include <benchmark/benchmark.h>
#include <time.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <optional>
#include <span>
#include <vector>

#include "lethe/layerkv/coalescer.hpp"
#include "lethe/layerkv/thread_copier.hpp"
#include "ratio.hpp"

namespace {

using namespace lethe::layerkv;
using Clock = std::chrono::steady_clock;

constexpr std::size_t block_bytes = std::size_t{32} << 10;
/// Far more than the caches hold for themselves, as other layers come between two uses of one.
constexpr std::size_t pool_bytes = std::size_t{256} << 20;

struct Move {
  std::uint32_t from;
  std::uint32_t to;
};

/// A source and a target pool, touched, and a layer's place in them that wanders.
struct Pools {
  explicit Pools(std::size_t layer_bytes)
      : source(pool_bytes, std::byte{1}), target(pool_bytes, std::byte{2}), layer(layer_bytes) {}

  /// Where the next layer begins, in both.
  [[nodiscard]] std::size_t next() {
    place = place + 2 * layer <= pool_bytes ? place + layer : 0;
    return place;
  }

  std::vector<std::byte> source;
  std::vector<std::byte> target;
  std::size_t layer;
  std::size_t place = 0;
};

struct Times {
  double wall;
  /// Of all threads of this process: what others take from the processors does not count.
  double processor;
};

[[nodiscard]] Times times_now() {
  std::timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return {std::chrono::duration<double>(Clock::now().time_since_epoch()).count(),
          static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9};
}

template <class Work>
[[nodiscard]] Times times_of(Work& work) {
  const Times begin = times_now();
  work();
  benchmark::ClobberMemory();
  const Times end = times_now();
  return {end.wall - begin.wall, end.processor - begin.processor};
}

/// Runs floor and subject in turn and reports the medians of both and of their ratio, by the wall;
/// and the ratio of the processors' time.
template <class Floor, class Subject>
void compare(benchmark::State& state, Floor floor, Subject subject) {
  std::vector<double> floors, subjects, ratios, processor_ratios;
  for ([[maybe_unused]] auto turn : state) {
    const Times least = times_of(floor);
    const Times taken = times_of(subject);
    floors.push_back(least.wall);
    subjects.push_back(taken.wall);
    ratios.push_back(taken.wall / least.wall);
    processor_ratios.push_back(taken.processor / least.processor);
    state.SetIterationTime(taken.wall);
  }
  state.counters["floor_ns"] = bench::median(floors) * 1e9;
  state.counters["lethe_ns"] = bench::median(subjects) * 1e9;
  state.counters["ratio"] = bench::median(ratios);
  state.counters["processor_ratio"] = bench::median(processor_ratios);
}

template <class Queue>
void carry(Queue& queue, std::span<const ByteCopy> copies) {
  const auto id = queue.start({.copies = copies});
  benchmark::DoNotOptimize(id);
  do {
    queue.poll(Clock::now().time_since_epoch());
  } while (queue.wait());
  while (queue.take_finished()) {
  }
}

void carry_layer(benchmark::State& state, std::size_t bytes, const ThreadCopierConfig& config) {
  Pools pools(bytes);
  ThreadCopier copier(config);
  TransferQueue queue({.transfers = 2, .copies = 1}, copier);
  compare(
      state,
      [&] {
        const std::size_t place = pools.next();
        std::memcpy(&pools.target[place], &pools.source[place], bytes);
      },
      [&] {
        const std::size_t place = pools.next();
        const ByteCopy copy{&pools.source[place], &pools.target[place], bytes};
        carry(queue, {&copy, 1});
      });
}

/// Arguments: KiB of the layer, threads.
void transfer_layer(benchmark::State& state) {
  carry_layer(state, static_cast<std::size_t>(state.range(0)) << 10,
              {.threads = static_cast<std::size_t>(state.range(1))});
}
BENCHMARK(transfer_layer)
    ->ArgsProduct({{512, 2048, 8192, 32768}, {1, 2}})
    ->Iterations(101)
    ->UseManualTime();

/// A layer of 2 MiB. Argument: KiB of the pieces that threads take.
void transfer_pieces(benchmark::State& state) {
  carry_layer(state, std::size_t{2} << 20,
              {.threads = 1, .piece_bytes = static_cast<std::size_t>(state.range(0)) << 10});
}
BENCHMARK(transfer_pieces)->RangeMultiplier(4)->Range(16, 1024)->Iterations(101)->UseManualTime();

/// The blocks of a layer in runs of so many, the runs in mixed order on the source's side.
[[nodiscard]] std::vector<Move> moves_in_runs(std::size_t blocks, std::size_t run) {
  std::vector<Move> moves;
  const std::size_t runs = blocks / run;
  for (std::size_t r = 0; r < runs; ++r) {
    for (std::size_t i = 0; i < run; ++i) {
      moves.push_back({static_cast<std::uint32_t>((r * 5 + 1) % runs * run + i),
                       static_cast<std::uint32_t>(r * run + i)});
    }
  }
  return moves;
}

enum How { one_by_one, in_batches, coalesced };

/// 2 MiB in blocks of 32 KiB, 16 to a run; floor: one memcpy. Argument: how.
void transfer_fragments(benchmark::State& state) {
  constexpr std::size_t blocks = 64;
  const auto how = static_cast<How>(state.range(0));
  const std::vector<Move> moves = moves_in_runs(blocks, 16);
  Pools pools(blocks * block_bytes);
  ThreadCopier copier({.threads = 1});
  TransferQueue queue(
      {.transfers = 2, .copies = blocks, .slice_copies = how == one_by_one ? 1u : 256u}, copier);
  Coalescer coalescer(
      {.blocks = blocks, .arrays = 1, .copy_bytes = how == coalesced ? 0 : block_bytes});
  compare(
      state,
      [&] {
        const std::size_t place = pools.next();
        std::memcpy(&pools.target[place], &pools.source[place], blocks * block_bytes);
      },
      [&] {
        const std::size_t place = pools.next();
        const BlockArray array{.source = &pools.source[place],
                               .target = &pools.target[place],
                               .block_bytes = block_bytes};
        carry(queue, coalescer.copies(std::span<const Move>(moves), {&array, 1}));
      });
}
BENCHMARK(transfer_fragments)
    ->Arg(one_by_one)
    ->Arg(in_batches)
    ->Arg(coalesced)
    ->Iterations(101)
    ->UseManualTime();

/// Copies nothing, so that a simulated link alone takes time.
struct NoCopier {
  std::optional<CopyTicket> submit(std::span<const ByteCopy>, Route) noexcept { return 1; }
  CopyState poll(CopyTicket) noexcept { return CopyState::done; }
  CopyState wait(CopyTicket) noexcept { return CopyState::done; }
};
static_assert(Copier<NoCopier>);

/// A layer of 2 MiB on a link of LinkConfig's published figures, by a clock that goes from one
/// due() to the next; floor: one copy. What is timed is the queue itself. Arguments: how, blocks to
/// a run.
void simulated_link(benchmark::State& state) {
  constexpr std::size_t blocks = 64;
  constexpr LinkConfig link{.bytes_per_second = 58.3e9, .seconds_per_copy = 6e-6};
  const auto how = static_cast<How>(state.range(0));
  const std::vector<Move> moves = moves_in_runs(blocks, static_cast<std::size_t>(state.range(1)));
  const BlockArray array{.source = nullptr, .target = nullptr, .block_bytes = block_bytes};
  Coalescer coalescer(
      {.blocks = blocks, .arrays = 1, .copy_bytes = how == coalesced ? 0 : block_bytes});
  NoCopier copier;
  TransferQueue queue({.transfers = 2, .copies = blocks, .link = link}, copier);
  std::chrono::nanoseconds now{0};
  double seconds = 0;
  for ([[maybe_unused]] auto turn : state) {
    const auto id =
        queue.start({.copies = coalescer.copies(std::span<const Move>(moves), {&array, 1})});
    benchmark::DoNotOptimize(id);
    queue.poll(now);
    while (const auto due = queue.due()) {
      now += std::chrono::nanoseconds(static_cast<std::int64_t>(*due * 1e9) + 1);
      queue.poll(now);
    }
    while (const auto finished = queue.take_finished()) seconds = finished->seconds;
  }
  const double least =
      link.seconds_per_copy + static_cast<double>(blocks * block_bytes) / link.bytes_per_second;
  state.counters["floor_ns"] = least * 1e9;
  state.counters["lethe_ns"] = seconds * 1e9;
  state.counters["ratio"] = seconds / least;
}
BENCHMARK(simulated_link)
    ->Args({in_batches, 1})
    ->Args({coalesced, 1})
    ->Args({coalesced, 4})
    ->Args({coalesced, 16})
    ->Args({coalesced, 64});

}  // namespace
