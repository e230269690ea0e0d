/// A kernel as a value: its arguments as members, and what one block of its grid does. A device
/// launches it; the host's emulation of one runs its blocks one after another.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace cuda_decode {

/// Blocks of a launch.
struct Grid {
  std::uint32_t x = 1;
  std::uint32_t y = 1;
  std::uint32_t z = 1;
};

/// Which of them a block is.
struct Index {
  std::uint32_t x = 0;
  std::uint32_t y = 0;
  std::uint32_t z = 0;
};

/// Shared memory of a kernel that needs none.
struct NoShared {};

/// What a step's time is counted under.
enum class Phase : std::uint8_t { products, attention, rows, observe, plan, compact };
inline constexpr std::size_t phase_count = 6;

/// Seconds of each.
using PhaseSeconds = std::array<double, phase_count>;

[[nodiscard]] constexpr const char* name(Phase phase) {
  constexpr const char* names[phase_count] = {"products", "attention", "rows",
                                              "observe",  "plan",      "compact"};
  return names[static_cast<std::size_t>(phase)];
}

/// out[row][output] = sum over inputs of weights[output][input] x in[row][input]; added to what is
/// there, if asked.
template <class Element>
struct Product {
  const Element* weights = nullptr;
  const Element* in = nullptr;
  float* out = nullptr;
  std::uint32_t rows = 0;
  std::uint32_t outputs = 0;
  std::uint32_t inputs = 0;
  bool adds = false;
};

}  // namespace cuda_decode
