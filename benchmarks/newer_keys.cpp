// newer_keys.hpp: what a round of supersession reads and compares in one layer.
#include "lethe/newer_keys.hpp"

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "lethe/cache/contiguous.hpp"
#include "lethe/short_keys.hpp"
#include "ratio.hpp"

namespace {

// SmolLM2-135M: three KV heads of 64 channels.
constexpr std::size_t heads = 3;
constexpr std::size_t dimension = 64;

lethe::KeyShape shape() {
  lethe::KeyShape result{.kv_heads = heads, .head_dimension = dimension, .frequencies = {}};
  for (std::size_t pair = 0; pair < dimension / 2; ++pair) {
    result.frequencies.push_back(std::pow(1e5f, -static_cast<float>(pair) / (dimension / 2)));
  }
  return result;
}

/// Halves between 1/2 and 1, of both signs.
std::vector<lethe::Half> draw_keys(std::size_t tokens) {
  bench::Draw draw(1);
  std::vector<lethe::Half> keys(tokens * heads * dimension);
  for (lethe::Half& key : keys) {
    const auto mantissa = static_cast<std::uint32_t>(draw() * 1024.0f);
    const std::uint32_t sign = draw() < 0.5f ? 0x8000u : 0u;
    key.bits = static_cast<std::uint16_t>(sign | 0x3800u | mantissa);
  }
  return keys;
}

/// The widest vectors that the processor has, against those of the compiler's flags.
void newer_keys(benchmark::State& state) {
  const auto tokens = static_cast<std::size_t>(state.range(0));
  std::vector<lethe::Half> keys = draw_keys(tokens);
  const lethe::ContiguousCache<lethe::Half> cache(
      {{.keys = keys.data(),
        .heads = heads,
        .dimension = dimension,
        .key_strides = {.token = heads * dimension, .head = dimension},
        .capacity = tokens}});
  std::vector<lethe::Position> positions(tokens);
  std::iota(positions.begin(), positions.end(), 0u);
  std::vector<lethe::Slot> fresh(tokens / 8);
  std::iota(fresh.begin(), fresh.end(), static_cast<lethe::Slot>(tokens - fresh.size()));
  std::vector<float> nearest(tokens, 0.0f);
  lethe::ShortKeys rows(shape(), 0.5f, heads, tokens);
  const auto round = [&](lethe::detail::Vectors vectors) {
    rows.read(cache, 0, 0, positions, vectors);
    lethe::NewerKeys(rows, positions).raise(fresh, nearest, vectors);
  };
  bench::compare(
      state, [&] { round(lethe::detail::Vectors::plain); },
      [&] { round(lethe::detail::widest_vectors()); });
}
BENCHMARK(newer_keys)->Arg(102)->Arg(256)->Iterations(201)->UseManualTime();

}  // namespace
