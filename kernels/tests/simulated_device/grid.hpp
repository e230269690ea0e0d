/// A kernel's grid, its blocks one after another.
#pragma once

#include <cstdint>

#include "lethe/gpu/block.cuh"
#include "runtime.hpp"

namespace simulated_device {

/// Lanes in another order in each block.
template <unsigned Threads>
[[nodiscard]] lethe::gpu::HostBlock<Threads> next_block() {
  static std::uint64_t seed = 0;
  return lethe::gpu::HostBlock<Threads>(++seed);
}

struct Grid {
  std::uint32_t x = 1;
  std::uint32_t y = 1;
  std::uint32_t z = 1;
};

/// A kernel that calls body(block, x, y, z) for each block.
template <unsigned Threads, class Body>
[[nodiscard]] lethe::gpu::Status launch_grid(const char* name, cudaStream_t stream, Grid grid,
                                             Body body) {
  return launch(name, stream, [=] {
    for (std::uint32_t z = 0; z < grid.z; ++z) {
      for (std::uint32_t y = grid.y; y-- > 0;) {
        for (std::uint32_t x = grid.x; x-- > 0;) body(next_block<Threads>(), x, y, z);
      }
    }
  });
}

}  // namespace simulated_device
