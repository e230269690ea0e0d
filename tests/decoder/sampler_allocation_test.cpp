#include <cstddef>
#include <cstdlib>
#include <new>
#include <vector>

#include "catch.hpp"
#include "sampler.hpp"

namespace {

std::size_t allocations = 0;

void* allocate(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t bytes) { return allocate(bytes); }
// Catch2 uses this one; a sanitizer's own would not match the deletes below.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return std::malloc(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

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
