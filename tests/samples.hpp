#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "lethe/numeric.hpp"

/// Seeded numbers, the same on every machine.
class Samples {
 public:
  explicit Samples(std::uint64_t seed) : state_(lethe::detail::mix(seed)) {}

  std::uint64_t word() { return state_ = lethe::detail::mix(state_); }
  std::size_t below(std::size_t end) { return static_cast<std::size_t>(word() % end); }
  /// In [0, 1).
  float uniform() { return static_cast<float>(word() >> 40) * 0x1p-24f; }
  float between(float low, float high) { return low + (high - low) * uniform(); }

  std::vector<float> row(std::size_t count, float low = 0.0f, float high = 1.0f) {
    std::vector<float> values(count);
    for (float& value : values) value = between(low, high);
    return values;
  }

  /// Scores that fall off steeply and repeat, as attention mass does.
  std::vector<float> mass(std::size_t count) {
    std::vector<float> values(count);
    for (float& value : values) {
      const float u = uniform();
      value = below(4) == 0 ? 0.125f : u * u * u * u;
    }
    return values;
  }

  /// Ascending and unique: `count` of the slots below `tokens`.
  std::vector<lethe::Slot> slots(std::size_t tokens, std::size_t count) {
    std::vector<lethe::Slot> kept;
    for (std::size_t slot = 0; slot < tokens; ++slot) {
      if (below(tokens - slot) < count - kept.size())
        kept.push_back(static_cast<lethe::Slot>(slot));
    }
    return kept;
  }

 private:
  std::uint64_t state_;
};

inline std::vector<lethe::Position> ascending_positions(std::size_t count) {
  std::vector<lethe::Position> positions(count);
  std::iota(positions.begin(), positions.end(), lethe::Position{0});
  return positions;
}

inline constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
inline constexpr float infinity = std::numeric_limits<float>::infinity();
