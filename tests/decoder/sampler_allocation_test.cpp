#include <cstddef>
#include <vector>

#include "allocation_count.hpp"
#include "catch.hpp"
#include "sampler.hpp"

TEST_CASE("sampling allocates in its first call only") {
  std::vector<float> logits(1000);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i * 7 % 13);
  for (const float temperature : {0.0f, 1.0f}) {
    decoder::Sampler sampler({.temperature = temperature});
    sampler(logits);
    const std::size_t before = allocations;
    for (int draw = 0; draw < 100; ++draw) {
      logits[static_cast<std::size_t>(draw)] += 1.0f;
      sampler(logits);
    }
    CHECK(allocations == before);
  }
}
