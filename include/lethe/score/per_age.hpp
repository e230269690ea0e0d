/// Another scorer's scores, each divided by the time the token has had to earn it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "lethe/score.hpp"
#include "lethe/score/adaptor.hpp"

namespace lethe {

/// Mass a token has received per query that could see it: an old token no longer wins by its age
/// alone. With Rasr and decay 1 the score is cumulative mass over age.
template <TokenScorer Scorer>
class PerAge : public ScorerAdaptor<Scorer> {
 public:
  using Config = typename Scorer::Config;
  static constexpr std::string_view name = "per age";

  PerAge(const Config& config, const ScoreShape& shape) : ScorerAdaptor<Scorer>(config, shape) {}

  void advance(std::size_t queries) {
    ScorerAdaptor<Scorer>::advance(queries);
    seen_ += queries;
  }

  /// O(n) beside the inner scorer's.
  [[nodiscard]] LETHE_EXACT std::span<const float> score(std::size_t layer, std::size_t group,
                                                         std::span<const Position> positions,
                                                         std::span<float> scratch) {
    LETHE_EXACT_BODY
    const std::span<const float> scores = this->scorer_.score(layer, group, positions, scratch);
    for (std::size_t i = 0; i < positions.size(); ++i) {
      const std::uint64_t age = seen_ - std::min<std::uint64_t>(seen_, positions[i]);
      const double share = 1.0 / static_cast<double>(std::max<std::uint64_t>(age, 1));
      scratch[i] = static_cast<float>(static_cast<double>(scores[i]) * share);
    }
    return scratch.first(positions.size());
  }

  void reset() {
    ScorerAdaptor<Scorer>::reset();
    seen_ = 0;
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    ScorerAdaptor<Scorer>::archive(archive, self);
    archive(self.seen_);
  }

 private:
  /// Queries committed.
  std::uint64_t seen_ = 0;
};
static_assert(TokenScorer<PerAge<NoScore>>);

}  // namespace lethe
