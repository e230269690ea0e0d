/// What a policy makes of mass over time: the TokenScorer concept, and the scorer that has no
/// opinion.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include "lethe/archive.hpp"
#include "lethe/plan.hpp"

namespace lethe {

/// Sizes a scorer keeps state for.
struct ScoreShape {
  std::size_t layers = 0;
  std::size_t groups = 1;
  /// The most tokens a layer ever holds.
  std::size_t slots = 0;

  bool operator==(const ScoreShape&) const = default;
};

namespace detail {

/// What a fork copies. std::copyable asks for swaps as well, which nothing here needs and which
/// take a twentieth of the time of compiling the library.
template <class Part>
concept Copied = std::is_copy_constructible_v<Part> && std::is_copy_assignable_v<Part>;

}  // namespace detail

/// A score for each token of each (layer, group). Copying a scorer forks it.
///
/// - reads_mass: whether record is wanted at all; name: what saved state is recognised by.
/// - record(layer, group, query, first_slot, mass): adds mass that a query paid to slots from
///   first_slot on. query counts from the current step's first token; negative: of earlier steps.
///   May come several times for one query, for other heads or other slots.
/// - advance(queries): a step of so many queries is over, in all layers.
/// - score(layer, group, positions, scratch): one score a token, higher stays; the span returned is
///   the scorer's own row or scratch. positions has one entry a token.
/// - keep(plan, group): slots moved; state follows, and slots past the kept ones are as new.
/// - forget(layer, group, slot): the slot now belongs to a new token.
/// - archive(archive, self): lists the state; valid() says whether what was read can be used.
template <class Scorer>
concept TokenScorer = detail::Copied<Scorer> &&
    std::constructible_from<Scorer, const typename Scorer::Config&, const ScoreShape&> &&
    requires(Scorer scorer, const Scorer& constant, std::size_t index, std::int64_t query,
             std::span<const float> mass, std::span<const Position> positions,
             std::span<float> scratch, const EvictionPlan& plan, Slot slot,
             detail::StateWriter& writer, detail::StateReader& reader) {
  { Scorer::reads_mass } -> std::convertible_to<bool>;
  { Scorer::name } -> std::convertible_to<std::string_view>;
  scorer.record(index, index, query, index, mass);
  scorer.advance(index);
  { scorer.score(index, index, positions, scratch) } -> std::same_as<std::span<const float>>;
  scorer.keep(plan, index);
  scorer.forget(index, index, slot);
  scorer.reset();
  Scorer::archive(writer, constant);
  Scorer::archive(reader, scorer);
  { constant.valid() } -> std::same_as<bool>;
};

/// A scorer that needs keys or values says `reads_cache = true`: before it scores a layer it is
/// shown the cache, once for each group, with the position of every slot.
template <class Scorer, class Cache>
concept CacheReadingScorer = requires(Scorer scorer, const Cache& cache, std::size_t index,
                                      std::span<const Position> positions) {
  scorer.read(cache, index, index, positions);
};

/// How the attention of a window of recent queries lay on the tokens before the window.
struct WindowStatistics {
  /// -sum a log a of the mean a that a token got: the more tokens share it, the larger.
  double entropy = 0;
  /// Sum over the tokens of the variance over the queries: the more it moved, the larger.
  double variance = 0;
};

/// A scorer that can say so of a (layer, group), for budgets that ask (BudgetAllocator). positions
/// has one entry a token.
template <class Scorer>
concept WindowScorer = requires(Scorer scorer, std::size_t index,
                                std::span<const Position> positions) {
  { scorer.window_statistics(index, index, positions) } -> std::same_as<WindowStatistics>;
};

/// A scorer that finds out that a (layer, group) has come to need more tokens: growth says how many
/// rounds found so, for budgets that ask (BudgetAllocator).
template <class Scorer>
concept GrowthScorer = requires(const Scorer& scorer, std::size_t index) {
  { scorer.growth(index, index) } -> std::same_as<std::size_t>;
};

/// The queries of one token in one layer of the cache.
struct QueryShape {
  /// Query heads.
  std::size_t heads = 0;
  std::size_t head_dimension = 0;
  /// Queries that a token brings: more than one where attention layers share a layer of the cache.
  /// Only steps whose queries may be rejected need to know.
  std::size_t per_token = 1;

  /// Floats of one query, all its heads.
  [[nodiscard]] std::size_t width() const { return heads * head_dimension; }
  bool operator==(const QueryShape&) const = default;
};

/// A scorer that needs queries says `reads_queries = true`, and by query_shape() what they look
/// like. record_query(layer, position, query) shows it every query that stands, once, those of a
/// layer in the order in which they were observed: query_shape().width() floats, head by head, as
/// they enter attention (rotated). It may be shown none: engines need not hand them over.
template <class Scorer>
concept QueryReadingScorer = requires(Scorer scorer, const Scorer& constant, std::size_t layer,
                                      Position position, std::span<const float> query) {
  { Scorer::reads_queries } -> std::convertible_to<bool>;
  { constant.query_shape() } -> std::same_as<QueryShape>;
  scorer.record_query(layer, position, query);
};

namespace detail {

/// A scorer that wants to be shown the cache (CacheReadingScorer).
template <class Scorer>
concept ReadsCache = requires {
  Scorer::reads_cache;
};

/// A scorer that wants to be shown queries (QueryReadingScorer).
template <class Scorer>
concept ReadsQueries = requires {
  Scorer::reads_queries;
};

}  // namespace detail

/// Packs one row of a scorer's state along with its slots, and clears what lies behind the kept
/// ones. row: at least plan.tokens entries. O(tokens).
inline void keep_row(std::span<float> row, const EvictionPlan& plan) {
  for (std::size_t i = plan.first_move; i < plan.kept.size(); ++i) row[i] = row[plan.kept[i]];
  std::fill(row.begin() + static_cast<std::ptrdiff_t>(plan.kept.size()),
            row.begin() + static_cast<std::ptrdiff_t>(plan.tokens), 0.0f);
}

/// Scores every token the same, so that only protection and age decide (StreamingLLM).
class NoScore {
 public:
  struct Config {};
  static constexpr bool reads_mass = false;
  static constexpr std::string_view name = "none";

  NoScore(const Config&, const ScoreShape&) {}

  void record(std::size_t, std::size_t, std::int64_t, std::size_t, std::span<const float>) {}
  void advance(std::size_t) {}
  [[nodiscard]] std::span<const float> score(std::size_t, std::size_t,
                                             std::span<const Position> positions,
                                             std::span<float> scratch) const {
    const std::span<float> scores = scratch.first(positions.size());
    std::fill(scores.begin(), scores.end(), 0.0f);
    return scores;
  }
  void keep(const EvictionPlan&, std::size_t) {}
  void forget(std::size_t, std::size_t, Slot) {}
  void reset() {}
  template <class Archive, class Self>
  static void archive(Archive&, Self&) {}
  [[nodiscard]] bool valid() const { return true; }
};
static_assert(TokenScorer<NoScore>);

}  // namespace lethe
