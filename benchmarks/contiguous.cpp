// cache/contiguous.hpp: packing survivors of 16-bit keys and values in place.
#include "lethe/cache/contiguous.hpp"

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <vector>

#include "ratio.hpp"

namespace {

constexpr std::size_t tokens = 8192;
constexpr std::size_t heads = 4;

/// Arrays begin on a cache line, as engines lay out their caches.
template <class T>
struct LineAllocator {
  using value_type = T;
  static constexpr std::align_val_t line{64};

  T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), line));
  }
  void deallocate(T* data, std::size_t) { ::operator delete(data, line); }
  bool operator==(const LineAllocator&) const = default;
};

template <class T>
using Array = std::vector<T, LineAllocator<T>>;

/// Each slot stays with probability 1/4.
std::vector<lethe::Slot> random_survivors() {
  bench::Draw draw(7);
  std::vector<lethe::Slot> kept;
  for (lethe::Slot slot = 0; slot < tokens; ++slot) {
    if (draw() < 0.25f) kept.push_back(slot);
  }
  return kept;
}

/// offset: elements behind the beginning of a cache line at which the rows begin.
void compact_layer(benchmark::State& state, std::size_t dimension, lethe::Strides strides,
                   std::size_t offset = 0) {
  const std::vector<lethe::Slot> kept = random_survivors();
  Array<lethe::Half> keys(offset + tokens * heads * dimension);
  Array<lethe::Half> values(keys.size());
  Array<std::byte> target(kept.size() * heads * dimension * sizeof(lethe::Half));
  lethe::ContiguousCache<lethe::Half> cache({{.keys = keys.data() + offset,
                                              .values = values.data() + offset,
                                              .heads = heads,
                                              .dimension = dimension,
                                              .key_strides = strides,
                                              .value_strides = strides,
                                              .capacity = tokens}});
  const lethe::EvictionPlan plan{
      .tokens = tokens, .first_move = lethe::first_move_of(kept), .kept = kept};
  bench::compare(
      state,
      [&] {
        std::memcpy(target.data(), keys.data(), target.size());
        benchmark::ClobberMemory();
        std::memcpy(target.data(), values.data(), target.size());
      },
      [&] { cache.apply(std::span(&plan, 1)); });
}

void compact_strips(benchmark::State& state) {
  const auto dimension = static_cast<std::size_t>(state.range(0));
  compact_layer(state, dimension, {.token = dimension, .head = tokens * dimension});
}
BENCHMARK(compact_strips)->Arg(64)->Arg(128)->Iterations(101)->UseManualTime();

/// The same, 16 bytes into a line: where std::vector begins an array.
void compact_strips_off_line(benchmark::State& state) {
  const auto dimension = static_cast<std::size_t>(state.range(0));
  compact_layer(state, dimension, {.token = dimension, .head = tokens * dimension}, 8);
}
BENCHMARK(compact_strips_off_line)->Arg(64)->Iterations(101)->UseManualTime();

void compact_tokens(benchmark::State& state) {
  const auto dimension = static_cast<std::size_t>(state.range(0));
  compact_layer(state, dimension, {.token = heads * dimension, .head = dimension});
}
BENCHMARK(compact_tokens)->Arg(64)->Arg(128)->Iterations(101)->UseManualTime();

}  // namespace
