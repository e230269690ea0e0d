/// The mass of single queries, gathered until each is whole.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/score.hpp"

namespace lethe {

/// For scores that judge what one query paid as a whole, though mass comes in pieces (heads, tiles,
/// attention layers that share a cache). Keeps the rows of the last few queries of each (layer,
/// group); a row is handed on when a later query needs its place, or when its owner finishes it.
/// Mass that comes for a query already handed on is left out. Memory: layers x groups x queries x
/// slots floats. Nothing is allocated after construction.
class StepRows {
 public:
  /// queries: how many may be open at once. Throws std::invalid_argument when it is 0.
  StepRows(std::size_t queries, const ScoreShape& shape)
      : queries_(checked(queries, shape)),
        shape_(shape),
        done_(shape.layers * shape.groups, 0),
        rows_(done_.size() * queries),
        mass_(rows_.size() * shape.slots, 0.0f) {}

  /// Adds mass of query `number`, counted from 1 in the whole sequence. fold(number, row) is called
  /// for every row that gives way, the oldest first; row has an entry for each token that the
  /// query's mass reached. O(mass.size() + queries), and O(slots) for each row that gives way.
  template <class Fold>
  void record(std::size_t layer, std::size_t group, std::int64_t number, std::size_t first_slot,
              std::span<const float> mass, Fold&& fold) {
    const std::size_t index = layer * shape_.groups + group;
    if (number <= done_[index]) return;
    Row& row = row_of(index, number);
    if (row.number > number) return;
    if (row.number < number) {
      const std::int64_t last = number - static_cast<std::int64_t>(queries_);
      finish(layer, group, last, fold);
      done_[index] = std::max(done_[index], last);
      row.number = number;
    }
    row.tokens = std::max<std::uint64_t>(row.tokens, first_slot + mass.size());
    detail::add(mass_of(row).data() + first_slot, mass.data(), mass.size());
  }

  /// Folds the open rows of queries up to `last`, the oldest first.
  template <class Fold>
  void finish(std::size_t layer, std::size_t group, std::int64_t last, Fold&& fold) {
    const std::size_t index = layer * shape_.groups + group;
    const std::int64_t end = std::min(last, done_[index] + static_cast<std::int64_t>(queries_));
    for (std::int64_t number = done_[index] + 1; number <= end; ++number) {
      Row& row = row_of(index, number);
      if (row.number != number) continue;
      const std::span<float> mass = mass_of(row).first(row.tokens);
      fold(number, std::span<const float>(mass));
      std::fill(mass.begin(), mass.end(), 0.0f);
      row.tokens = 0;
      done_[index] = number;
    }
  }

  void keep(const EvictionPlan& plan, std::size_t group) {
    for (Row& row : rows_of(plan.layer * shape_.groups + group)) {
      keep_row(mass_of(row), plan);
      const auto end = std::lower_bound(plan.kept.begin(), plan.kept.end(), row.tokens);
      row.tokens = static_cast<std::uint64_t>(end - plan.kept.begin());
    }
  }

  void forget(std::size_t layer, std::size_t group, Slot slot) {
    for (Row& row : rows_of(layer * shape_.groups + group)) mass_of(row)[slot] = 0.0f;
  }

  void reset() {
    std::fill(done_.begin(), done_.end(), 0);
    std::fill(rows_.begin(), rows_.end(), Row{});
    std::fill(mass_.begin(), mass_.end(), 0.0f);
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    archive(self.done_);
    archive(self.rows_);
    archive(self.mass_);
  }

  /// Whether restored rows can be worked with, `queries` having been committed.
  [[nodiscard]] bool valid(std::int64_t queries) const {
    const auto past = [&](std::int64_t number) { return number >= 0 && number <= queries; };
    return std::all_of(done_.begin(), done_.end(), past) &&
           std::all_of(rows_.begin(), rows_.end(), [&](const Row& row) {
             return past(row.number) && row.tokens <= shape_.slots;
           });
  }

 private:
  struct Row {
    /// Of the query whose mass it holds or held last; 0: none.
    std::int64_t number = 0;
    std::uint64_t tokens = 0;
  };

  [[nodiscard]] static std::size_t checked(std::size_t queries, const ScoreShape& shape) {
    const std::size_t rows = std::max<std::size_t>(1, shape.layers * shape.groups * shape.slots);
    detail::require(queries >= 1 && queries <= (std::size_t{1} << 48) / rows, "open_queries",
                    queries,
                    "choose at least 1, and its product with layers x groups x slots "
                    "within 2^48");
    return queries;
  }

  [[nodiscard]] std::span<Row> rows_of(std::size_t index) {
    return std::span(rows_).subspan(index * queries_, queries_);
  }

  [[nodiscard]] Row& row_of(std::size_t index, std::int64_t number) {
    return rows_[index * queries_ + static_cast<std::uint64_t>(number) % queries_];
  }

  [[nodiscard]] std::span<float> mass_of(const Row& row) {
    const auto index = static_cast<std::size_t>(&row - rows_.data());
    return std::span(mass_).subspan(index * shape_.slots, shape_.slots);
  }

  std::size_t queries_;
  ScoreShape shape_;
  /// Queries up to this one are handed on, or will not be.
  std::vector<std::int64_t> done_;
  std::vector<Row> rows_;
  std::vector<float> mass_;
};

}  // namespace lethe
