/// A step's queries on their way to a scorer that reads them: shown at once, or held until the step
/// is committed where they may be rejected.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "lethe/attention.hpp"
#include "lethe/score.hpp"

namespace lethe {

/// Rows of one query, its heads side by side. Memory: one row, and layers x draft_tokens x
/// QueryShape::per_token rows. Nothing is allocated after construction.
class StepQueries {
 public:
  /// draft_tokens: most tokens of a step that may be rejected. Throws std::invalid_argument when a
  /// size is 0, or when the rows could not be held.
  StepQueries(const QueryShape& shape, std::size_t layers, std::size_t draft_tokens)
      : shape_(checked(shape, layers, draft_tokens)),
        room_(draft_tokens * shape.per_token),
        row_(shape.width(), 0.0f),
        held_(layers, 0),
        tokens_(layers * room_, 0),
        rows_(layers * room_ * shape.width(), 0.0f) {}

  /// Throws std::invalid_argument when queries are not of the scorer's shape.
  template <class Element>
  void check(const Queries<Element>& seen) const {
    detail::require(seen.heads == shape_.heads, "Queries::heads", seen.heads,
                    "give the query heads that the score was made for");
    detail::require(seen.head_dimension == shape_.head_dimension, "Queries::head_dimension",
                    seen.head_dimension, "give the channels that the score was made for");
  }

  /// Throws std::invalid_argument when so many more queries of a layer could not be held.
  void check_room(std::size_t layer, std::size_t queries) const {
    detail::require(held_[layer] + queries <= room_, "QueryShape::per_token", shape_.per_token,
                    "more queries of a token came: give as many as layers share a cache layer");
  }

  /// Calls visit(token of the step, row) for each query. A row lies in the engine's memory where
  /// its heads lie side by side as floats there. O(queries x width).
  template <class Element, class Visit>
  void for_each(const Queries<Element>& observed, Visit&& visit) {
    const Queries<Element> seen = detail::packed(observed);
    LETHE_ASSERT(seen.data != nullptr);
    for (std::size_t q = 0; q < seen.queries; ++q) {
      visit(seen.first_query + q, row_of(seen, seen.data + q * seen.query_stride));
    }
  }

  /// Keeps a row until the step is committed. check_room must have passed.
  void hold(std::size_t layer, std::size_t token, std::span<const float> row) {
    const std::size_t at = layer * room_ + held_[layer]++;
    tokens_[at] = static_cast<std::uint32_t>(token);
    std::copy(row.begin(), row.end(), rows_.data() + at * row.size());
  }

  /// Shows a layer's rows of the accepted tokens to the scorer, token by token; first: position of
  /// the first of them. O(accepted x held x width).
  template <class Scorer>
  void replay(std::size_t layer, Position first, std::span<const std::uint32_t> accepted,
              Scorer& scorer) const {
    for (std::size_t rank = 0; rank < accepted.size(); ++rank) {
      for (std::size_t i = 0; i < held_[layer]; ++i) {
        const std::size_t at = layer * room_ + i;
        if (tokens_[at] != accepted[rank]) continue;
        scorer.record_query(layer, first + static_cast<Position>(rank),
                            std::span(rows_).subspan(at * shape_.width(), shape_.width()));
      }
    }
  }

  /// Forgets the step.
  void clear() { std::fill(held_.begin(), held_.end(), std::size_t{0}); }

 private:
  [[nodiscard]] static const QueryShape& checked(const QueryShape& shape, std::size_t layers,
                                                 std::size_t draft_tokens) {
    const std::size_t most = std::size_t{1} << 48;
    detail::require(shape.heads >= 1 && shape.heads <= most, "query heads", shape.heads,
                    "give the query heads");
    detail::require(shape.head_dimension >= 1 && shape.head_dimension <= most / shape.heads,
                    "query head_dimension", shape.head_dimension, "give the channels of a head");
    detail::require(shape.per_token >= 1, "QueryShape::per_token", shape.per_token,
                    "give 1, or as many as attention layers share a layer of the cache");
    const std::size_t rows = most / layers / shape.width() / shape.per_token;
    detail::require(draft_tokens <= rows, "draft_tokens", draft_tokens,
                    "keep its product with layers and the floats of a token's queries within 2^48");
    return shape;
  }

  template <class Element>
  [[nodiscard]] std::span<const float> row_of(const Queries<Element>& seen, const Element* query) {
    if constexpr (std::is_same_v<Element, float>) {
      if (seen.head_stride == seen.head_dimension) return {query, shape_.width()};
    }
    float* out = row_.data();
    for (std::size_t head = 0; head < seen.heads; ++head) {
      const Element* row = query + head * seen.head_stride;
      for (std::size_t c = 0; c < seen.head_dimension; ++c) *out++ = to_float(row[c]);
    }
    return row_;
  }

  QueryShape shape_;
  /// Queries of a layer that may be held.
  std::size_t room_;
  std::vector<float> row_;
  std::vector<std::size_t> held_;
  /// Of each row held: its token's index in the step.
  std::vector<std::uint32_t> tokens_;
  std::vector<float> rows_;
};

namespace detail {

/// In the place of StepQueries where a scorer reads no queries.
struct NoStepQueries {
  void clear() {}
};

}  // namespace detail
}  // namespace lethe
