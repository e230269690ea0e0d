/// Mass of queries that may yet be rejected, held row by row until the step is committed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/score.hpp"

namespace lethe {

/// One row for each (layer, query, group) of a speculative step. Memory: layers x queries x groups
/// x slots floats; none when queries is 0.
class DraftRows {
 public:
  DraftRows(const ScoreShape& shape, std::size_t queries)
      : shape_(shape),
        queries_(queries),
        begun_(shape.layers * queries, 0),
        rows_(shape.layers * queries * shape.groups * shape.slots, 0.0f) {}

  [[nodiscard]] bool active() const { return queries_ != 0; }
  [[nodiscard]] std::size_t queries() const { return queries_; }

  void record(std::size_t layer, std::size_t group, std::size_t query, std::size_t first_slot,
              std::span<const float> mass) {
    begin(layer, query);
    detail::add(row(layer, query, group).data() + first_slot, mass.data(), mass.size());
  }

  /// Hands the rows of the accepted queries of one layer to the scorer, in order, as if the step
  /// had held these alone. base(group): tokens before the step; columns of rejected tokens are
  /// left out.
  template <class Scorer, class Base>
  void replay(std::size_t layer, const Base& base, std::span<const std::uint32_t> accepted,
              Scorer& scorer) {
    for (std::size_t rank = 0; rank < accepted.size(); ++rank) {
      if (begun_[layer * queries_ + accepted[rank]] == 0) continue;
      for (std::size_t group = 0; group < shape_.groups; ++group) {
        const std::span<float> mass = row(layer, accepted[rank], group);
        const std::size_t begin = base(group);
        for (std::size_t r = 0; r <= rank; ++r) mass[begin + r] = mass[begin + accepted[r]];
        scorer.record(layer, group, static_cast<std::int64_t>(rank), 0,
                      mass.first(begin + rank + 1));
      }
    }
  }

  /// Forgets the step.
  void clear() { std::fill(begun_.begin(), begun_.end(), std::uint8_t{0}); }

 private:
  [[nodiscard]] std::span<float> row(std::size_t layer, std::size_t query, std::size_t group) {
    const std::size_t index = (layer * queries_ + query) * shape_.groups + group;
    return {rows_.data() + index * shape_.slots, shape_.slots};
  }

  void begin(std::size_t layer, std::size_t query) {
    std::uint8_t& begun = begun_[layer * queries_ + query];
    if (begun != 0) return;
    begun = 1;
    std::fill_n(row(layer, query, 0).data(), shape_.groups * shape_.slots, 0.0f);
  }

  ScoreShape shape_;
  std::size_t queries_;
  std::vector<std::uint8_t> begun_;
  std::vector<float> rows_;
};

}  // namespace lethe
