/// The mass of the last few queries, a row for each.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/score.hpp"

namespace lethe {

/// For scores of what the last `window` queries paid: the mass of each of them, in each (layer,
/// group), by slot. Memory: layers x groups x window x slots floats. Nothing is allocated after
/// construction.
class WindowRows {
 public:
  /// Throws std::invalid_argument when window is 0.
  WindowRows(std::size_t window, const ScoreShape& shape)
      : window_(checked(window, shape)),
        shape_(shape),
        row_query_(shape.layers * shape.groups * window, 0),
        rows_(row_query_.size() * shape.slots, 0.0f) {}

  /// As TokenScorer's. O(mass.size()), and O(slots) at a query's first row.
  void record(std::size_t layer, std::size_t group, std::int64_t query, std::size_t first_slot,
              std::span<const float> mass) {
    const std::int64_t number = queries_ + query + 1;
    if (number <= 0) return;
    const std::size_t row = row_index(layer, group, static_cast<std::uint64_t>(number));
    if (row_query_[row] > number) return;
    if (row_query_[row] < number) {
      std::fill_n(rows_.begin() + static_cast<std::ptrdiff_t>(row * shape_.slots), shape_.slots,
                  0.0f);
      row_query_[row] = number;
    }
    detail::add(rows_.data() + row * shape_.slots + first_slot, mass.data(), mass.size());
  }

  void advance(std::size_t queries) { queries_ += static_cast<std::int64_t>(queries); }

  /// Queries committed.
  [[nodiscard]] std::uint64_t queries() const { return static_cast<std::uint64_t>(queries_); }

  /// Calls visit(row) for each of the last queries that paid anything, where row holds the mass of
  /// the first `tokens` slots. O(window).
  template <class Visit>
  void for_each_recent(std::size_t layer, std::size_t group, std::size_t tokens,
                       Visit&& visit) const {
    const std::size_t first = row_index(layer, group, 0);
    for (std::size_t w = 0; w < window_; ++w) {
      const std::int64_t age = queries_ - row_query_[first + w];
      if (row_query_[first + w] == 0 || age >= static_cast<std::int64_t>(window_)) continue;
      visit(std::span<const float>(rows_.data() + (first + w) * shape_.slots, tokens));
    }
  }

  void keep(const EvictionPlan& plan, std::size_t group) {
    for_each_row(plan.layer, group, [&](std::span<float> row) { keep_row(row, plan); });
  }

  void forget(std::size_t layer, std::size_t group, Slot slot) {
    for_each_row(layer, group, [&](std::span<float> row) { row[slot] = 0.0f; });
  }

  void reset() {
    std::fill(row_query_.begin(), row_query_.end(), 0);
    std::fill(rows_.begin(), rows_.end(), 0.0f);
    queries_ = 0;
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    archive(self.queries_);
    archive(self.row_query_);
    archive(self.rows_);
  }

  [[nodiscard]] bool valid() const {
    const bool past = std::all_of(row_query_.begin(), row_query_.end(), [this](std::int64_t query) {
      return query >= 0 && query <= queries_;
    });
    return past && queries_ < (std::int64_t{1} << 62);
  }

 private:
  [[nodiscard]] static std::size_t checked(std::size_t window, const ScoreShape& shape) {
    const std::size_t most = (std::size_t{1} << 48) / shape.layers / shape.groups / shape.slots;
    detail::require(window >= 1 && window <= most, "window", window,
                    "choose at least 1 query, and window x layers x groups x slots within 2^48");
    return window;
  }

  [[nodiscard]] std::size_t row_index(std::size_t layer, std::size_t group,
                                      std::uint64_t number) const {
    return (layer * shape_.groups + group) * window_ + number % window_;
  }

  template <class Visit>
  void for_each_row(std::size_t layer, std::size_t group, Visit&& visit) {
    float* first = rows_.data() + row_index(layer, group, 0) * shape_.slots;
    for (std::size_t w = 0; w < window_; ++w) {
      visit(std::span<float>(first + w * shape_.slots, shape_.slots));
    }
  }

  std::size_t window_;
  ScoreShape shape_;
  std::int64_t queries_ = 0;
  /// Number (from 1) of the query whose mass a row holds; 0: none.
  std::vector<std::int64_t> row_query_;
  std::vector<float> rows_;
};

}  // namespace lethe
