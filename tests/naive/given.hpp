/// Scorers whose scores a test says.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "lethe/score.hpp"

namespace naive {

/// A score for each position.
class Given : public lethe::NoScore {
 public:
  struct Config {
    std::vector<float> scores;
  };
  Given(const Config& config, const lethe::ScoreShape& shape)
      : lethe::NoScore({}, shape), scores_(config.scores) {}

  [[nodiscard]] std::span<const float> score(std::size_t, std::size_t,
                                             std::span<const lethe::Position> positions,
                                             std::span<float> scratch) const {
    for (std::size_t i = 0; i < positions.size(); ++i) scratch[i] = scores_[positions[i]];
    return scratch.first(positions.size());
  }

 private:
  std::vector<float> scores_;
};

/// What GivenCache holds, by position.
struct GivenCache {
  std::vector<float> scores;
};

/// Reads its scores from the cache, and keeps them as its own row.
class Shown : public lethe::NoScore {
 public:
  struct Config {};
  static constexpr bool reads_cache = true;
  Shown(const Config&, const lethe::ScoreShape& shape)
      : lethe::NoScore({}, shape), row_(shape.slots, 0.0f) {}

  void read(const GivenCache& cache, std::size_t, std::size_t,
            std::span<const lethe::Position> positions) {
    for (std::size_t i = 0; i < positions.size(); ++i) row_[i] = cache.scores[positions[i]];
  }

  [[nodiscard]] std::span<const float> score(std::size_t, std::size_t,
                                             std::span<const lethe::Position> positions,
                                             std::span<float>) const {
    return std::span<const float>(row_).first(positions.size());
  }

 private:
  std::vector<float> row_;
};

static_assert(lethe::TokenScorer<Given> && lethe::TokenScorer<Shown>);
static_assert(lethe::CacheReadingScorer<Shown, GivenCache>);

/// Any scorer's scores, by slot.
template <class Scorer>
std::vector<float> scores_of(Scorer& scorer, const std::vector<lethe::Position>& positions,
                             std::size_t layer = 0, std::size_t group = 0) {
  std::vector<float> scratch(positions.size());
  const std::span<const float> row = scorer.score(layer, group, positions, scratch);
  return {row.begin(), row.end()};
}

/// Another scorer of the same settings, with the first one's saved state.
template <class Scorer>
Scorer restored(const Scorer& scorer, const typename Scorer::Config& config,
                const lethe::ScoreShape& shape) {
  lethe::detail::StateWriter writer;
  Scorer::archive(writer, scorer);
  Scorer copy(config, shape);
  lethe::detail::StateReader reader(writer.bytes());
  Scorer::archive(reader, copy);
  if (!reader.at_end() || !copy.valid()) throw "the saved state cannot be read";
  return copy;
}

}  // namespace naive
