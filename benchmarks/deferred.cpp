// deferred.hpp: scoring the last queries in one pass over the keys.
#include "lethe/deferred.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/cache/contiguous.hpp"
#include "lethe/score/rasr.hpp"
#include "ratio.hpp"

namespace {

constexpr std::size_t tokens = 8192;
constexpr std::size_t dimension = 64;
constexpr std::size_t waiting = 16;

/// Logits of all queries of one KV head, in blocks of 64 keys that stay in the nearest cache and of
/// 4 queries by 16 keys that stay in registers. keys: [tokens / 64][dimension][64], so that nothing
/// need be transposed.
[[gnu::noinline]] void plain_logits(const float* queries, std::size_t rows, const float* keys,
                                    float* out) {
  constexpr std::size_t block = 64;
  constexpr std::size_t strip = 16;
  for (std::size_t begin = 0; begin < tokens; begin += block, keys += block * dimension) {
    for (std::size_t row = 0; row < rows; row += 4) {
      for (std::size_t k = 0; k < block; k += strip) {
        float sums[4][strip] = {};
        for (std::size_t c = 0; c < dimension; ++c) {
          for (std::size_t r = 0; r < 4; ++r) {
            const float query = queries[(row + r) * dimension + c];
            for (std::size_t i = 0; i < strip; ++i) sums[r][i] += query * keys[c * block + k + i];
          }
        }
        for (std::size_t r = 0; r < 4; ++r) {
          std::copy(sums[r], sums[r] + strip, out + (row + r) * block + k);
        }
      }
    }
  }
}

void deferred_flush(benchmark::State& state) {
  const auto heads = static_cast<std::size_t>(state.range(0));
  const auto kv_heads = static_cast<std::size_t>(state.range(1));
  const std::vector<float> queries = bench::uniform(waiting * heads * dimension, 1);
  const std::vector<float> lse(waiting * heads, 10.0f);
  std::vector<float> keys = bench::uniform(kv_heads * tokens * dimension, 2);
  std::vector<float> logits(waiting * heads * 64);
  const lethe::Strides strides{.token = dimension, .head = tokens * dimension};
  lethe::ContiguousCache<float> cache({{.keys = keys.data(),
                                        .heads = kv_heads,
                                        .dimension = dimension,
                                        .key_strides = strides,
                                        .capacity = tokens}});
  lethe::DeferredQueries deferred({waiting, heads, kv_heads, dimension}, 1);
  lethe::Rasr scorer({}, {.layers = 1, .slots = tokens});
  const lethe::Queries<float> seen{.data = queries.data(),
                                   .lse = lse.data(),
                                   .heads = heads,
                                   .queries = waiting,
                                   .head_dimension = dimension};
  bench::compare(
      state,
      [&] {
        for (std::size_t kv = 0; kv < kv_heads; ++kv) {
          plain_logits(queries.data(), waiting * heads / kv_heads,
                       keys.data() + kv * tokens * dimension, logits.data());
        }
      },
      [&] {
        deferred.push(0, seen, tokens - waiting, 0);
        deferred.flush(
            0, 1, waiting,
            [&](std::size_t head, std::size_t first, std::span<float> out) {
              cache.read_keys(0, head, first, out);
            },
            [&](std::int64_t query, std::size_t group, std::size_t first,
                std::span<const float> mass) { scorer.record(0, group, query, first, mass); });
      });
}
BENCHMARK(deferred_flush)->Args({1, 1})->Args({9, 3})->Iterations(51)->UseManualTime();

}  // namespace
