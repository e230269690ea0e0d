#pragma once

#include <cstddef>

#include "profile.hpp"

namespace serving::test {

/// A machine whose step takes 1 ms, 10 us a token, and a layer's attention 1 ns a token read.
inline Profile machine(std::size_t blocks) {
  StepTimes::Tables tables;
  tables.layers = 4;
  tables.tokens = Curve({0, 1000}, {1e-3, 11e-3});
  tables.decode = Grid<2>({std::vector<double>{0, 1000}, std::vector<double>{0, 1000}});
  tables.decode.at({1, 1}) = 1e-3;
  return {.name = "made-up",
          .model = {"made-up", 4, 64, 4, 2, 16, 128, 1000, 2},
          .times = StepTimes(tables),
          .device_blocks = blocks,
          .link_bytes = 1e9};
}

}  // namespace serving::test
