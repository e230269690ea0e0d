/// The slots of a layer in the order of their tokens' positions.
#pragma once

#include <algorithm>
#include <numeric>
#include <span>

#include "lethe/numeric.hpp"

namespace lethe {

/// Writes the slots, the oldest token's first, into the front of `order`, and returns them.
/// positions: one entry a token, unique; order: at least as many. O(n); a sort more where slots
/// were overwritten.
inline std::span<const Slot> order_by_position(std::span<const Position> positions,
                                               std::span<Slot> order) {
  const std::span<Slot> slots = order.first(positions.size());
  std::iota(slots.begin(), slots.end(), Slot{0});
  if (!std::is_sorted(positions.begin(), positions.end())) {
    std::sort(slots.begin(), slots.end(),
              [&](Slot a, Slot b) { return positions[a] < positions[b]; });
  }
  return slots;
}

}  // namespace lethe
