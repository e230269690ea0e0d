// examples/serving: the time and the memory of simulated runs, on one core. 12,031 requests, as
// many and as long as Mooncake's conversations, are to take less than 20 s; a request is to take as
// long in a run of 1,000,000 as in one of 10,000; memory grows with the requests that are live.
#include <benchmark/benchmark.h>
#include <malloc.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "policy.hpp"
#include "profile.hpp"
#include "ratio.hpp"
#include "trace.hpp"

namespace {

/// Bytes of the heap, and the most there were.
struct Heap {
  std::size_t bytes = 0;
  std::size_t most = 0;
};
Heap heap;

void* allocate(std::size_t size) {
  void* const memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  heap.bytes += malloc_usable_size(memory);
  heap.most = std::max(heap.most, heap.bytes);
  return memory;
}

void release(void* memory) {
  heap.bytes -= malloc_usable_size(memory);
  std::free(memory);
}

}  // namespace

// Not inlined: else g++ takes free for the wrong end of new.
[[gnu::noinline]] void* operator new(std::size_t size) { return allocate(size); }
[[gnu::noinline]] void operator delete(void* memory) noexcept { release(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { release(memory); }

namespace {

constexpr std::size_t mooncake_requests = 12031;
constexpr double mooncake_target = 20e9;

const serving::Profile& machine() {
  static const serving::Profile profile =
      serving::read_profile("estimate", serving::model_shape("llama-3.1-8b"), 1, 16);
  return profile;
}

/// Lengths whose means (12,035 and 343) and 95th percentile (39.6k) are those of Mooncake's
/// conversations, in an hour.
serving::Trace mooncake_like() {
  return serving::synthetic_trace({.requests = mooncake_requests,
                                   .rate = 12031.0 / 3600,
                                   .input_median = 6746,
                                   .input_spread = 1.076,
                                   .output_median = 286,
                                   .longest = 131072});
}

/// What a run took.
struct Cost {
  double nanoseconds = 0;
  double bytes = 0;  ///< of the heap at most, besides the trace and what becomes of each request
  double live = 0;   ///< requests at most that had arrived and were not finished
};

Cost cost_of(const std::string& policy, const serving::Trace& trace) {
  serving::PolicySettings settings;
  settings.engine.has_prefix_cache = false;
  heap.most = heap.bytes;
  const std::size_t before = heap.bytes;
  const double begin = bench::now();
  const auto results = serving::serve_policy(policy, trace, machine(), settings);
  Cost cost{.nanoseconds = bench::now() - begin};
  const std::size_t kept = results.requests.capacity() * sizeof(serving::Served);
  cost.bytes = static_cast<double>(heap.most - before - kept);
  for (const serving::Moment& moment : results.moments)
    cost.live = std::max(cost.live, static_cast<double>(moment.running + moment.waiting));
  return cost;
}

void report(benchmark::State& state, double floor, const Cost& cost) {
  state.SetIterationTime(cost.nanoseconds * 1e-9);
  state.counters["floor_ns"] = floor;
  state.counters["lethe_ns"] = cost.nanoseconds;
  state.counters["ratio"] = cost.nanoseconds / floor;
  state.counters["heap_bytes"] = cost.bytes;
  state.counters["live"] = cost.live;
}

/// Floor: the target.
void whole_trace(benchmark::State& state, const std::string& policy, const serving::Trace& trace) {
  for ([[maybe_unused]] auto turn : state) report(state, mooncake_target, cost_of(policy, trace));
}

/// Nanoseconds a request; floor: those of a run of 10,000 requests at the same rate.
void each_request(benchmark::State& state, const std::string& policy) {
  const auto requests = static_cast<std::size_t>(state.range(0));
  const auto few = serving::synthetic_trace({.requests = 10000});
  const auto many = serving::synthetic_trace({.requests = requests});
  for ([[maybe_unused]] auto turn : state) {
    const double floor = cost_of(policy, few).nanoseconds / 10000;
    Cost cost = cost_of(policy, many);
    cost.nanoseconds /= static_cast<double>(requests);
    report(state, floor, cost);
  }
}

/// As many live requests as there are, since all arrive at once; nanoseconds a request; floor:
/// those of a thousand.
void burst(benchmark::State& state, const std::string& policy) {
  const auto requests = static_cast<std::size_t>(state.range(0));
  const auto few = serving::synthetic_trace({.requests = 1000, .rate = 1e9});
  const auto many = serving::synthetic_trace({.requests = requests, .rate = 1e9});
  for ([[maybe_unused]] auto turn : state) {
    const Cost floor = cost_of(policy, few);
    Cost cost = cost_of(policy, many);
    cost.nanoseconds /= static_cast<double>(requests);
    report(state, floor.nanoseconds / 1000, cost);
    state.counters["bytes_a_live_request"] = (cost.bytes - floor.bytes) / (cost.live - floor.live);
  }
}

template <class Work>
auto* add(const std::string& name, const Work& work) {
  return benchmark::RegisterBenchmark(name.c_str(), work)
      ->UseManualTime()
      ->Iterations(1)
      ->Unit(benchmark::kMillisecond);
}

void add_all(const serving::Trace& trace) {
  for (const std::string policy : {"vllm", "layerkv"}) {
    add(trace.name + "/" + policy,
        [=, &trace](benchmark::State& state) { whole_trace(state, policy, trace); });
    add("each_request/" + policy, [=](benchmark::State& state) { each_request(state, policy); })
        ->Arg(100000)
        ->Arg(1000000);
    add("burst/" + policy, [=](benchmark::State& state) { burst(state, policy); })
        ->Arg(10000)
        ->Arg(100000);
  }
}

}  // namespace

/// --trace=FILE takes a trace (docs/serving.md) in place of the made-up one; the rest is Google
/// Benchmark's.
int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  serving::Trace trace = mooncake_like();
  trace.name = "mooncake_like";
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.substr(0, 8) != "--trace=")
      return benchmark::ReportUnrecognizedArguments(argc, argv);
    trace = serving::read_trace(std::string(argument.substr(8)));
  }
  add_all(trace);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
