#include "lethe/compact.hpp"

#include <cstddef>
#include <string>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"

namespace {

lethe::EvictionPlan plan_of(const std::vector<lethe::Slot>& kept, std::size_t tokens) {
  return {.tokens = static_cast<std::uint32_t>(tokens),
          .first_move = lethe::first_move_of(kept),
          .kept = kept};
}

std::vector<std::byte> noise(Samples& samples, std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(samples.below(256));
  return bytes;
}

std::vector<std::byte> naive_pack(const std::vector<std::byte>& before, std::size_t row_bytes,
                                  std::size_t stride, const std::vector<lethe::Slot>& kept) {
  std::vector<std::byte> after = before;
  for (std::size_t i = 0; i < kept.size(); ++i) {
    for (std::size_t b = 0; b < row_bytes; ++b) {
      after[i * stride + b] = before[kept[i] * stride + b];
    }
  }
  return after;
}

}  // namespace

TEST_CASE("typed rows travel with the survivors") {
  std::vector<std::string> rows{"a", "b", "c", "d", "e"};
  const std::vector<lethe::Slot> kept{0, 2, 4};
  lethe::compact(std::span(rows), plan_of(kept, 5));
  CHECK(rows[0] == "a");
  CHECK(rows[1] == "c");
  CHECK(rows[2] == "e");
}

TEST_CASE("bytes pack as a copy would, for every row size and stride") {
  Samples samples(9);
  for (const std::size_t row_bytes : {1u, 3u, 64u, 100u, 128u, 300u, 512u}) {
    for (const std::size_t gap : {0u, 5u, 64u}) {
      for (int trace = 0; trace < 20; ++trace) {
        const std::size_t tokens = 1 + samples.below(40);
        const std::size_t stride = row_bytes + gap;
        const auto kept = samples.slots(tokens, samples.below(tokens + 1));
        std::vector<std::byte> bytes = noise(samples, tokens * stride);
        const auto expected = naive_pack(bytes, row_bytes, stride, kept);
        lethe::compact_bytes(bytes.data(), row_bytes, stride, plan_of(kept, tokens));
        const std::size_t used = kept.size() * stride;
        REQUIRE(std::equal(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(used),
                           expected.begin()));
      }
    }
  }
}

TEST_CASE("what lies between rows and below first_move is not touched") {
  Samples samples(10);
  std::vector<std::byte> bytes = noise(samples, 10 * 80);
  const std::vector<std::byte> before = bytes;
  const std::vector<lethe::Slot> kept{0, 1, 5, 9};
  lethe::compact_bytes(bytes.data(), 64, 80, plan_of(kept, 10));
  for (std::size_t slot = 0; slot < 10; ++slot) {
    for (std::size_t b = slot < 2 ? 0 : 64; b < 80; ++b) {
      REQUIRE(bytes[slot * 80 + b] == before[slot * 80 + b]);
    }
  }
}
