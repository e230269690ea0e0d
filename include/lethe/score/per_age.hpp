/// Another scorer's scores, each divided by the time the token has had to earn it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "lethe/score.hpp"

namespace lethe {

/// Mass a token has received per query that could see it: an old token no longer wins by its age
/// alone. With Rasr and decay 1 the score is cumulative mass over age.
template <TokenScorer Scorer>
class PerAge {
 public:
  using Config = typename Scorer::Config;
  static constexpr bool reads_mass = Scorer::reads_mass;
  static constexpr std::string_view name = "per age";

  PerAge(const Config& config, const ScoreShape& shape) : scorer_(config, shape) {}

  void record(std::size_t layer, std::size_t group, std::int64_t query, std::size_t first_slot,
              std::span<const float> mass) {
    scorer_.record(layer, group, query, first_slot, mass);
  }

  void advance(std::size_t queries) {
    scorer_.advance(queries);
    seen_ += queries;
  }

  /// O(n) beside the inner scorer's.
  [[nodiscard]] LETHE_EXACT std::span<const float> score(std::size_t layer, std::size_t group,
                                                         std::span<const Position> positions,
                                                         std::span<float> scratch) {
    LETHE_EXACT_BODY
    const std::span<const float> scores = scorer_.score(layer, group, positions, scratch);
    for (std::size_t i = 0; i < positions.size(); ++i) {
      const std::uint64_t age = seen_ - std::min<std::uint64_t>(seen_, positions[i]);
      const double share = 1.0 / static_cast<double>(std::max<std::uint64_t>(age, 1));
      scratch[i] = static_cast<float>(static_cast<double>(scores[i]) * share);
    }
    return scratch.first(positions.size());
  }

  void keep(const EvictionPlan& plan, std::size_t group) { scorer_.keep(plan, group); }
  void forget(std::size_t layer, std::size_t group, Slot slot) {
    scorer_.forget(layer, group, slot);
  }

  void reset() {
    scorer_.reset();
    seen_ = 0;
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    Scorer::archive(archive, self.scorer_);
    archive(self.seen_);
  }

  [[nodiscard]] bool valid() const { return scorer_.valid(); }

 private:
  Scorer scorer_;
  /// Queries committed.
  std::uint64_t seen_ = 0;
};
static_assert(TokenScorer<PerAge<NoScore>>);

}  // namespace lethe
