#pragma once

#include <cstddef>
#include <random>
#include <vector>

namespace decoder::test {

/// Normally distributed numbers, the same for the same seed.
inline std::vector<float> random_values(std::size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

}  // namespace decoder::test
