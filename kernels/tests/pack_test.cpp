// Packing by a thread block, run lane by lane in permuted orders, beside the host library's. On the
// host a chunk asserts its alignment.
#include "lethe/gpu/pack.cuh"

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "catch.hpp"
#include "lethe/cache/contiguous.hpp"
#include "lethe/compact.hpp"
#include "naive/random.hpp"
#include "survivors.hpp"

namespace {

using gpu_test::plan_of;
using gpu_test::survivors;
using lethe::EvictionPlan;
using lethe::Half;
using lethe::Slot;
using lethe::gpu::HostBlock;
using lethe::gpu::PackMoves;
using lethe::gpu::StripRows;
using naive::Random;
using Bytes = std::vector<std::byte>;

Bytes noise(Random& random, std::size_t count) {
  Bytes bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next() >> 32);
  return bytes;
}

PackMoves moves_of(const EvictionPlan& plan) {
  return {plan.kept.data(), plan.first_move, static_cast<std::uint32_t>(plan.kept.size())};
}

/// One strip at an address of this alignment, packed by a block and by the host.
template <unsigned Threads>
void check_strip(Random& random, const EvictionPlan& plan, std::size_t row_bytes,
                 std::size_t stride, std::size_t skip) {
  Bytes memory = noise(random, plan.tokens * stride + skip + 16);
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  const std::size_t begin = (16 - address % 16) % 16 + skip;
  memory.resize(begin + plan.tokens * stride);
  Bytes expected = memory;
  lethe::compact_bytes(expected.data() + begin, row_bytes, stride, plan);
  const HostBlock<Threads> block(random.next());
  lethe::gpu::pack_rows(block, StripRows{memory.data() + begin, stride},
                        static_cast<std::uint32_t>(row_bytes), moves_of(plan));
  REQUIRE(memory == expected);
}

struct Shape {
  std::size_t heads, dimension, capacity;
  bool heads_first;
  [[nodiscard]] lethe::Strides strides() const {
    if (heads_first) return {.token = dimension, .head = capacity * dimension};
    return {.token = heads * dimension, .head = dimension};
  }
};

/// A whole layer, head by head, beside ContiguousCache.
void check_layer(Random& random, const Shape& shape, const EvictionPlan& plan) {
  std::vector<Half> keys(shape.heads * shape.capacity * shape.dimension);
  for (Half& value : keys) value.bits = static_cast<std::uint16_t>(random.next() >> 32);
  std::vector<Half> packed = keys;
  lethe::ContiguousCache<Half> cache({{.keys = keys.data(),
                                       .heads = shape.heads,
                                       .dimension = shape.dimension,
                                       .key_strides = shape.strides(),
                                       .capacity = shape.capacity}});
  cache.append(0, plan.tokens);
  cache.apply(std::span(&plan, 1));
  for (std::size_t head = 0; head < shape.heads; ++head) {
    auto* base = reinterpret_cast<std::byte*>(packed.data() + head * shape.strides().head);
    lethe::gpu::pack_rows(
        HostBlock<32>(random.next()), StripRows{base, shape.strides().token * sizeof(Half)},
        static_cast<std::uint32_t>(shape.dimension * sizeof(Half)), moves_of(plan));
  }
  const auto same = [](Half a, Half b) { return a.bits == b.bits; };
  REQUIRE(std::equal(packed.begin(), packed.end(), keys.begin(), keys.end(), same));
}

}  // namespace

TEST_CASE("a strip packed by a block is what compact_bytes makes of it") {
  Random random(1);
  // Keys and values of 2-byte and 1-byte elements, scales, scores, and rows that fit nothing.
  const std::vector<std::size_t> sizes{1, 2, 4, 6, 8, 12, 16, 17, 64, 72, 100, 144};
  for (int turn = 0; turn < 600; ++turn) {
    const auto tokens = static_cast<std::uint32_t>(random.between(1, 300));
    const std::vector<Slot> kept = survivors(random, tokens);
    const std::size_t row_bytes = random.pick(sizes);
    const std::size_t gap = random.chance(50) ? 0 : random.below(40);
    const std::size_t skip = random.chance(50) ? 0 : random.below(16);
    INFO("turn " << turn << ": " << kept.size() << " of " << tokens << ", " << row_bytes
                 << " bytes");
    check_strip<32>(random, plan_of(kept, tokens), row_bytes, row_bytes + gap, skip);
  }
}

TEST_CASE("a strip of one token, all kept, none kept, and all but one kept or evicted") {
  Random random(2);
  for (const std::uint32_t tokens : {1u, 2u, 128u, 129u, 257u}) {
    std::vector<Slot> all(tokens);
    std::iota(all.begin(), all.end(), 0u);
    for (const std::size_t row_bytes : {4u, 16u, 32u}) {
      check_strip<32>(random, plan_of(all, tokens), row_bytes, row_bytes, 0);
      check_strip<32>(random, plan_of({}, tokens), row_bytes, row_bytes, 0);
      for (const Slot one : {0u, tokens / 2, tokens - 1}) {
        std::vector<Slot> others = all;
        others.erase(others.begin() + one);
        check_strip<32>(random, plan_of({one}, tokens), row_bytes, row_bytes, 0);
        check_strip<32>(random, plan_of(others, tokens), row_bytes, row_bytes, 0);
      }
    }
  }
}

TEST_CASE("blocks of 256 lanes pack as blocks of 32 do") {
  Random random(3);
  for (int turn = 0; turn < 30; ++turn) {
    const auto tokens = static_cast<std::uint32_t>(random.between(1, 900));
    const std::vector<Slot> kept = survivors(random, tokens);
    check_strip<256>(random, plan_of(kept, tokens), 16 * random.between(1, 16), 256, 0);
  }
}

TEST_CASE("heads within tokens and tokens within heads, beside ContiguousCache") {
  Random random(4);
  for (int turn = 0; turn < 60; ++turn) {
    const Shape shape{random.between(1, 4), random.between(1, 40), random.between(1, 120),
                      random.chance(50)};
    const auto tokens = static_cast<std::uint32_t>(random.between(1, shape.capacity));
    const std::vector<Slot> kept = survivors(random, tokens);
    check_layer(random, shape, plan_of(kept, tokens));
  }
}
