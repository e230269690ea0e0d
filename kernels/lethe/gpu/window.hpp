/// The last queries' mass of one layer of one sequence, in device memory: the host's WindowRows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/config.hpp"
#include "lethe/numeric.hpp"

namespace lethe::gpu {

/// Rows of mass by slot; the query number n, counted from 1, has row n % window. A null `rows`: no
/// window is kept.
struct MassWindow {
  float* rows = nullptr;
  /// Of each row the number of its query; 0: none.
  std::uint32_t* queries = nullptr;
  std::uint32_t window = 0;
  /// Slots of a row.
  std::uint32_t capacity = 0;

  /// A query's mass in a token. Each token of a layer is told of every query that may attend to it,
  /// 0 where it did not, by one thread in the order of the queries.
  LETHE_HOST_DEVICE LETHE_EXACT void record(std::uint32_t token, std::uint32_t number,
                                            float mass) const {
    LETHE_EXACT_BODY
    const std::uint32_t row = number % window;
    // From 0 on, as the host adds: -0 becomes 0.
    rows[std::size_t{row} * capacity + token] = 0.0f + mass;
    if (token == 0) queries[row] = number;
  }

  /// What the last queries of `seen` paid the token in `slot`, row after row as the host adds them.
  /// Queries before its position are older than what its slot holds.
  [[nodiscard]] LETHE_HOST_DEVICE LETHE_EXACT float sum(std::uint32_t slot, Position position,
                                                        std::uint32_t seen) const {
    LETHE_EXACT_BODY
    float total = 0.0f;
    for (std::uint32_t row = 0; row < window; ++row) {
      const std::uint32_t number = queries[row];
      const bool counts = number > position && seen - number < window;
      if (counts) total = total + rows[std::size_t{row} * capacity + slot];
    }
    return total;
  }
};

}  // namespace lethe::gpu
