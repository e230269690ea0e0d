/// What scorers share that are made of other scorers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "lethe/retention.hpp"
#include "lethe/score.hpp"

namespace lethe {

namespace detail {

/// A cache that offers what a scorer reads, where it reads any.
template <class Cache, class Scorer>
concept SuitsScorer = !ReadsCache<Scorer> || CacheReadingScorer<Scorer, Cache>;

/// Says reads_cache where one of the scorers within does, and nothing where none does.
template <class... Scorers>
struct CacheReading {};

template <class... Scorers>
requires(ReadsCache<Scorers> || ...) struct CacheReading<Scorers...> {
  static constexpr bool reads_cache = true;
};

/// Shows the cache to a scorer that reads it.
template <class Scorer, SuitsScorer<Scorer> Cache>
void show_cache(Scorer& scorer, const Cache& cache, std::size_t layer, std::size_t group,
                std::span<const Position> positions) {
  if constexpr (ReadsCache<Scorer>) scorer.read(cache, layer, group, positions);
}

/// Scorers of which one at least reads queries.
template <class... Scorers>
concept AnyReadsQueries = (ReadsQueries<Scorers> || ...);

/// Says reads_queries where one of the scorers within does, and nothing where none does.
template <class... Scorers>
struct QueryReading {};

template <class... Scorers>
requires AnyReadsQueries<Scorers...>
struct QueryReading<Scorers...> {
  static constexpr bool reads_queries = true;
};

/// Shows a query to a scorer that reads them.
template <class Scorer>
void show_query(Scorer& scorer, std::size_t layer, Position position,
                std::span<const float> query) {
  if constexpr (ReadsQueries<Scorer>) scorer.record_query(layer, position, query);
}

/// A finite number above `score`, unless that is the largest there is; never below 1/2^126.
[[nodiscard]] inline float above(float score) {
  if (!(score > 0.0f)) return 1.0f;
  return score < 0x1p127f ? 2.0f * score : std::numeric_limits<float>::max();
}

/// The first and most recent tokens, pinned ones not counted. scratch: as many entries as
/// positions.
[[nodiscard]] inline Protection protection_of(std::size_t first_tokens, std::size_t recent_tokens,
                                              std::span<const Position> positions, bool ordered,
                                              std::span<Position> scratch) {
  const std::size_t most = std::numeric_limits<Position>::max();
  return {.prefix_end = static_cast<Position>(std::min(first_tokens, most)),
          .recent_begin =
              recent_begin(positions, ordered, std::min(recent_tokens, positions.size()), scratch)};
}

}  // namespace detail

/// All that a scorer does but its score: what a class derives from that makes its scores of
/// another's.
template <TokenScorer Scorer>
class ScorerAdaptor : public detail::CacheReading<Scorer>, public detail::QueryReading<Scorer> {
 public:
  static constexpr bool reads_mass = Scorer::reads_mass;

  void record(std::size_t layer, std::size_t group, std::int64_t query, std::size_t first_slot,
              std::span<const float> mass) {
    scorer_.record(layer, group, query, first_slot, mass);
  }

  void advance(std::size_t queries) { scorer_.advance(queries); }

  template <class Cache>
  requires CacheReadingScorer<Scorer, Cache>
  void read(const Cache& cache, std::size_t layer, std::size_t group,
            std::span<const Position> positions) {
    scorer_.read(cache, layer, group, positions);
  }

  void record_query(std::size_t layer, Position position,
                    std::span<const float> query) requires QueryReadingScorer<Scorer> {
    scorer_.record_query(layer, position, query);
  }

  [[nodiscard]] QueryShape query_shape() const requires QueryReadingScorer<Scorer> {
    return scorer_.query_shape();
  }

  void keep(const EvictionPlan& plan, std::size_t group) { scorer_.keep(plan, group); }
  void forget(std::size_t layer, std::size_t group, Slot slot) {
    scorer_.forget(layer, group, slot);
  }
  void reset() { scorer_.reset(); }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    Scorer::archive(archive, self.scorer_);
  }

  [[nodiscard]] bool valid() const { return scorer_.valid(); }

 protected:
  ScorerAdaptor(const typename Scorer::Config& config, const ScoreShape& shape)
      : scorer_(config, shape) {}

  Scorer scorer_;
};

/// A ScorerAdaptor that keeps a float for each slot and group beside the inner scorer's state; 0
/// for a new token.
template <TokenScorer Scorer>
class RowAdaptor : public ScorerAdaptor<Scorer> {
 public:
  void keep(const EvictionPlan& plan, std::size_t group) {
    ScorerAdaptor<Scorer>::keep(plan, group);
    keep_row(row_of(plan.layer, group), plan);
  }

  void forget(std::size_t layer, std::size_t group, Slot slot) {
    ScorerAdaptor<Scorer>::forget(layer, group, slot);
    row_of(layer, group)[slot] = 0.0f;
  }

  void reset() {
    ScorerAdaptor<Scorer>::reset();
    std::fill(rows_.begin(), rows_.end(), 0.0f);
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    ScorerAdaptor<Scorer>::archive(archive, self);
    archive(self.rows_);
  }

 protected:
  RowAdaptor(const typename Scorer::Config& config, const ScoreShape& shape)
      : ScorerAdaptor<Scorer>(config, shape),
        shape_(shape),
        rows_(shape.layers * shape.groups * shape.slots, 0.0f) {}

  [[nodiscard]] std::span<float> row_of(std::size_t layer, std::size_t group) {
    return std::span(rows_).subspan((layer * shape_.groups + group) * shape_.slots, shape_.slots);
  }

  ScoreShape shape_;
  std::vector<float> rows_;
};

}  // namespace lethe
