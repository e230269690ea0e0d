/// How scores are made and how many tokens a layer keeps: the host library's scorers and budgets,
/// by name.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/budget.hpp"
#include "lethe/budget/breakpoint.hpp"
#include "lethe/budget/mass_target.hpp"
#include "lethe/budget/pyramid.hpp"
#include "lethe/score/random.hpp"
#include "lethe/score/window.hpp"

namespace lethe::gpu {

/// Who scores: Rasr, whose weights observe is given, WindowMass, RandomScore or NoScore.
enum class ScoreRule : std::uint8_t { rasr, window, random, none };

/// A round's scores, and what its rule goes by.
struct ScoreSettings {
  ScoreRule rule = ScoreRule::rasr;
  /// Its window is that of the state's shape.
  WindowMassConfig window{};
  RandomScoreConfig random{};
};

/// Who decides how many tokens a layer keeps: SegmentBreakpoint, UniformBudget, MassTarget,
/// PyramidBudget or TableBudget.
enum class BudgetRule : std::uint8_t { breakpoint, uniform, mass_target, pyramid, table };

/// The numbers of a TableBudgetConfig, in device memory.
struct LayerTable {
  const std::uint32_t* budgets = nullptr;
  /// A layer past the end takes the last one.
  std::uint32_t entries = 0;

  [[nodiscard]] LETHE_HOST_DEVICE std::uint32_t of(std::uint32_t layer) const {
    return budgets[layer < entries ? layer : entries - 1];
  }
};

}  // namespace lethe::gpu
