/// What a trace is made of: its settings, its attention, its complaint.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "catch.hpp"
#include "lethe/lethe.hpp"
#include "naive/pruner.hpp"
#include "naive/random.hpp"

namespace naive {

/// Everything a trace needs; drawn from its seed.
struct TraceSetup {
  std::uint64_t seed = 0;
  lethe::PrunerConfig config;
  ScoreRule score;
  RoundRule round;
  std::size_t first_tokens = 0;
  std::size_t steps = 150;
  std::size_t chunk = 4;
  bool pins = false;
  std::vector<lethe::LayerState> states;
  std::vector<std::size_t> bytes;
  std::size_t block = 1;
  std::vector<std::size_t> classes;
  /// Scores are a draw, not what the queries paid.
  bool drawn_scores = false;

  [[nodiscard]] bool tracked(std::size_t layer) const {
    return states[layer] == lethe::LayerState::prunable || states[layer] == lethe::LayerState::busy;
  }
  [[nodiscard]] std::size_t bound(std::size_t layer, bool sized) const {
    if (config.capacity_bytes == 0 || !sized) return config.capacity;
    return std::min(config.capacity, config.capacity_bytes / bytes[layer]);
  }
  [[nodiscard]] bool guards() const { return !drawn_scores && config.max_lost_mass < 1.0f; }
};

/// A layer before the round.
struct View {
  std::vector<Selection> sets;
  std::vector<Verdict> verdicts;
  std::size_t before = 0;
  std::size_t bound = 0;
  bool due = false;
  bool busy = false;
  /// What the layer claims of a budget that all layers share.
  double weight = 1;
  std::size_t threshold = 0;

  /// Heads keep equally many tokens, and as many recents as these allow.
  void protect_alike(const RoundRule& rule) {
    std::size_t most = 0;
    for (const Verdict& verdict : verdicts) most = std::max(most, verdict.tokens);
    protect(rule, most);
  }

  /// Every set has the recents of one that keeps so many.
  void protect(const RoundRule& rule, std::size_t kept) {
    for (Selection& set : sets) {
      set.recent = rule.recents(set.positions.size(), set.prefix_tokens(), kept);
    }
  }

  /// Protected tokens of a set that keeps so many, the most of any.
  [[nodiscard]] std::size_t protected_by(const RoundRule& rule, std::size_t kept) const {
    std::size_t most = 0;
    for (const Selection& set : sets) {
      const std::size_t prefix = set.prefix_tokens();
      most = std::max(most, prefix + rule.recents(set.positions.size(), prefix, kept));
    }
    return most;
  }

  /// What the set that loses most would lose.
  [[nodiscard]] double lost_share(std::size_t count) const {
    double worst = 0;
    for (const Selection& set : sets) worst = std::max(worst, set.lost_share(count));
    return worst;
  }
};

/// How often things happened: a trace that never prunes shows nothing.
struct Tally {
  std::size_t rounds = 0;
  std::size_t guarded = 0;
  /// Rounds under a total, those whose shares rounding could change, and steps that cannot fit.
  std::size_t shared = 0;
  std::size_t unsure = 0;
  std::size_t refused = 0;
  std::size_t overwritten = 0;
  std::size_t postponed = 0;

  void operator+=(const Tally& other) {
    rounds += other.rounds;
    guarded += other.guarded;
    shared += other.shared;
    unsure += other.unsure;
    refused += other.refused;
    overwritten += other.overwritten;
    postponed += other.postponed;
  }
};

[[noreturn, gnu::cold, gnu::noinline]] inline void complain(const char* what, std::size_t step,
                                                            std::size_t layer) {
  FAIL(what << ", step " << step << ", layer " << layer);
  std::abort();
}

/// Ties, zeros, denormals and now and then a huge one; multiples of 2^-10 else, so that plain sums
/// are exact.
[[nodiscard]] inline float draw_mass(Random& random) {
  const std::size_t kind = random.below(100);
  if (kind < 25) return 0.0f;
  if (kind < 26) return 1e-40f;
  if (kind < 27) return 512.0f;
  if (kind < 60) return 0x1p-10f;
  return static_cast<float>(random.below(256)) * 0x1p-10f;
}

}  // namespace naive
