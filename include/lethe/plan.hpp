/// The common currency: which slots of a layer survive, and the check made before anything moves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "lethe/numeric.hpp"

namespace lethe {

/// An EvictionPlan::head that means every head of the layer.
inline constexpr std::uint32_t all_heads = 0xFFFFFFFFu;

/// What survives in one layer (or in one head of it).
/// Row kept[i] moves to slot i; kept[i] == i below first_move, so nothing changes there.
struct EvictionPlan {
  std::uint32_t layer = 0;
  std::uint32_t head = all_heads;
  /// Tokens in the layer before the plan.
  std::uint32_t tokens = 0;
  /// First slot whose row changes; kept.size() when the plan only cuts the tail.
  std::uint32_t first_move = 0;
  /// Surviving slots, ascending and unique.
  std::span<const Slot> kept{};
  /// Position of every slot before the plan (tokens entries), for caches without slots of their
  /// own.
  std::span<const Position> positions{};
};

/// Positions that no plan may drop: below prefix_end (first and pinned tokens), and from
/// recent_begin on.
struct Protection {
  Position prefix_end = 0;
  Position recent_begin = ~Position{0};

  [[nodiscard]] LETHE_HOST_DEVICE constexpr bool covers(Position position) const {
    return (position < prefix_end) | (position >= recent_begin);
  }
  bool operator==(const Protection&) const = default;
};

/// What check_plan found.
enum class PlanFault { none, out_of_range, not_ascending, wrong_first_move, drops_protected };

/// The fault's name, for messages.
[[nodiscard]] constexpr const char* name(PlanFault fault) {
  switch (fault) {
    case PlanFault::none:
      return "none";
    case PlanFault::out_of_range:
      return "a slot is out of range";
    case PlanFault::not_ascending:
      return "slots are not ascending and unique";
    case PlanFault::wrong_first_move:
      return "first_move is wrong";
    case PlanFault::drops_protected:
      return "a protected token would be dropped";
  }
  return "unknown";
}

/// The first index i with kept[i] != i, or kept.size().
[[nodiscard]] inline std::uint32_t first_move_of(std::span<const Slot> kept) {
  std::size_t low = 0;
  std::size_t high = kept.size();
  while (low < high) {
    const std::size_t middle = low + (high - low) / 2;
    if (kept[middle] == middle) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return static_cast<std::uint32_t>(low);
}

namespace detail {

[[nodiscard]] inline bool ascending(std::span<const Slot> kept) {
  std::uint32_t faults = 0;
  for (std::size_t i = 1; i < kept.size(); ++i) faults |= kept[i - 1] >= kept[i] ? 1u : 0u;
  return faults == 0;
}

/// Counts suffice, the kept slots being unique; and counting, unlike a merge, has no branch to
/// miss.
[[nodiscard]] inline bool keeps_protected(const EvictionPlan& plan, const Protection& protection) {
  std::uint32_t covered = 0;
  for (const Position position : plan.positions.first(plan.tokens)) {
    covered += static_cast<std::uint32_t>(protection.covers(position));
  }
  std::uint32_t kept = 0;
  for (const Slot slot : plan.kept) {
    kept += static_cast<std::uint32_t>(protection.covers(plan.positions[slot]));
  }
  return kept == covered;
}

}  // namespace detail

/// Checks a plan against the rules every cache relies on; protected tokens are checked when
/// plan.positions is given. O(tokens).
[[nodiscard]] inline PlanFault check_plan(const EvictionPlan& plan, const Protection& protection) {
  if (plan.kept.size() > plan.tokens) return PlanFault::out_of_range;
  if (!detail::ascending(plan.kept)) return PlanFault::not_ascending;
  if (!plan.kept.empty() && plan.kept.back() >= plan.tokens) return PlanFault::out_of_range;
  if (plan.first_move != first_move_of(plan.kept)) return PlanFault::wrong_first_move;
  if (plan.positions.size() >= plan.tokens && !detail::keeps_protected(plan, protection)) {
    return PlanFault::drops_protected;
  }
  return PlanFault::none;
}

/// Calls visit(begin, end) for every maximal run of dropped slots, in ascending order; for caches
/// that erase cells or free ranges instead of moving rows. O(kept).
template <class Visit>
void for_each_dropped_range(const EvictionPlan& plan, Visit&& visit) {
  std::uint32_t next = plan.first_move;
  for (std::size_t i = plan.first_move; i < plan.kept.size(); ++i) {
    if (plan.kept[i] > next) visit(next, plan.kept[i]);
    next = plan.kept[i] + 1;
  }
  if (next < plan.tokens) visit(next, plan.tokens);
}

}  // namespace lethe
