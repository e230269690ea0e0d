/// Which tokens are kept whatever their score: first tokens, a pinned prompt, the most recent ones.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

#include "lethe/plan.hpp"

namespace lethe {

/// A policy's protected tokens.
struct Retention {
  /// Attention sinks (StreamingLLM keeps 4).
  std::size_t first_tokens = 4;
  /// The most recent tokens, at least this many.
  std::size_t recent_tokens = 0;
  /// The most recent share of a layer's tokens, rounded up; the larger of both counts.
  float recent_ratio = 0.0f;
  /// The largest share of what a round keeps that recents may take; below 1, scores always count.
  float recent_share = 1.0f;

  bool operator==(const Retention&) const = default;
};

/// The most recents among `kept` tokens.
[[nodiscard]] LETHE_HOST_DEVICE LETHE_EXACT inline std::size_t most_recents(
    const Retention& retention, std::size_t kept) {
  LETHE_EXACT_BODY
  return static_cast<std::size_t>(static_cast<double>(retention.recent_share) *
                                  static_cast<double>(kept));
}

/// Recent tokens protected in a layer of the given length, before any cap.
[[nodiscard]] LETHE_HOST_DEVICE LETHE_EXACT inline std::size_t recent_count(
    const Retention& retention, std::size_t tokens) {
  LETHE_EXACT_BODY
  const double share = static_cast<double>(retention.recent_ratio) * static_cast<double>(tokens);
  // A float holds 0.3 as a little more: 30% of 1,000 must be 300, not 301.
  const double rounded = std::ceil(share * (1 - 1e-7));
  const auto by_ratio = static_cast<std::size_t>(rounded < 0.0 ? 0.0 : rounded);
  const std::size_t recent =
      by_ratio < retention.recent_tokens ? retention.recent_tokens : by_ratio;
  return tokens < recent ? tokens : recent;
}

/// Tokens of a layer whose position lies below prefix_end. O(log n) when positions ascend, else
/// O(n).
[[nodiscard]] inline std::size_t prefix_count(std::span<const Position> positions, bool ordered,
                                              Position prefix_end) {
  if (ordered) {
    return static_cast<std::size_t>(
        std::lower_bound(positions.begin(), positions.end(), prefix_end) - positions.begin());
  }
  return static_cast<std::size_t>(std::count_if(positions.begin(), positions.end(),
                                                [&](Position p) { return p < prefix_end; }));
}

/// Position from which on the `recent` newest tokens lie. scratch: as many entries as positions,
/// used only when they do not ascend. O(1) when they ascend, else O(n).
[[nodiscard]] inline Position recent_begin(std::span<const Position> positions, bool ordered,
                                           std::size_t recent, std::span<Position> scratch) {
  if (recent == 0) return ~Position{0};
  const std::size_t rank = positions.size() - std::min(recent, positions.size());
  if (ordered) return positions[rank];
  std::copy_n(positions.data(), positions.size(), scratch.data());
  Position* const nth = scratch.data() + rank;
  std::nth_element(scratch.data(), nth, scratch.data() + positions.size());
  return *nth;
}

}  // namespace lethe
