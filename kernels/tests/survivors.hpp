/// Plans of one layer, drawn at random.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "lethe/plan.hpp"
#include "naive/random.hpp"

namespace gpu_test {

/// Survivors of `tokens`: a share of them, after an untouched beginning.
inline std::vector<lethe::Slot> survivors(naive::Random& random, std::uint32_t tokens) {
  const std::size_t percent = random.below(101);
  const std::size_t whole = random.chance(50) ? random.below(tokens + 1) : 0;
  std::vector<lethe::Slot> kept;
  for (lethe::Slot slot = 0; slot < tokens; ++slot) {
    if (slot < whole || random.chance(percent)) kept.push_back(slot);
  }
  return kept;
}

/// `kept` outlives the plan.
inline lethe::EvictionPlan plan_of(const std::vector<lethe::Slot>& kept, std::uint32_t tokens) {
  return {.tokens = tokens, .first_move = lethe::first_move_of(kept), .kept = kept};
}

}  // namespace gpu_test
