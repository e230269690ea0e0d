/// What happened in a round, told to whoever wants to know.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "lethe/plan.hpp"

namespace lethe {

/// How an examined layer came out of a round.
enum class Outcome : std::uint8_t {
  /// Tokens were dropped.
  pruned,
  /// The scores show no breakpoint; nothing dropped, the trigger length doubled.
  spread_out,
  /// The budget keeps every token.
  nothing_to_drop,
  /// A score is infinite or NaN; the layer was left alone.
  non_finite,
  /// max_lost_mass made the round keep more than its budget.
  guarded,
  /// The layer was busy (its blocks are being copied).
  busy,
  /// max_move_bytes was used up; the layer comes next time.
  postponed,
};

/// The outcome's name, for tables and messages.
[[nodiscard]] constexpr const char* name(Outcome outcome) {
  switch (outcome) {
    case Outcome::pruned:
      return "pruned";
    case Outcome::spread_out:
      return "spread out";
    case Outcome::nothing_to_drop:
      return "nothing to drop";
    case Outcome::non_finite:
      return "non-finite scores";
    case Outcome::guarded:
      return "guarded";
    case Outcome::busy:
      return "busy";
    case Outcome::postponed:
      return "postponed";
  }
  return "unknown";
}

/// One examined layer in one round; with Scope::head, as its neediest head saw it. Tokens of heads
/// with unequal counts are their mean, rounded up.
struct RoundStatistics {
  std::size_t layer = 0;
  Outcome outcome = Outcome::pruned;
  /// Tokens the sequence has seen when the round took place.
  std::size_t tokens_seen = 0;
  std::size_t tokens_before = 0;
  std::size_t tokens_after = 0;
  std::size_t tokens_protected = 0;
  /// Hoyer sparsity of the scores; 0 when the scorer reads no attention.
  double sparsity = 0;
  /// Salient tokens by the segment breakpoint; 0 for other budgets.
  std::size_t breakpoint = 0;
  /// The layer's trigger length after the round.
  std::size_t threshold = 0;
  /// Share of the layer's score that was dropped, in [0, 1]; 0 when the scorer reads no attention.
  double lost_mass = 0;
  /// Seconds spent planning this layer (with Scope::sequence, all of them in the first row), and
  /// applying the whole round (the same in each of its rows).
  double plan_seconds = 0;
  double apply_seconds = 0;
};

/// Takes the statistics of each examined layer.
template <class Receiver>
concept TraceReceiver = std::invocable<Receiver&, const RoundStatistics&>;

/// Takes nothing; clocks are not read for it.
struct NoTrace {
  void operator()(const RoundStatistics&) const {}
};
static_assert(TraceReceiver<NoTrace>);

}  // namespace lethe
