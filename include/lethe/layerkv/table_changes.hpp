/// Which entries of the block tables have changed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "lethe/fixed_list.hpp"
#include "lethe/layerkv/ids.hpp"

namespace lethe::layerkv {

/// `count` entries of one table, from entry `first` on, are not what they were.
struct TableDelta {
  RequestId request = 0;
  std::uint32_t layer = 0;
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  bool operator==(const TableDelta&) const = default;
};

namespace detail {

/// The entries of one table that have changed; `first` is no_id when none have.
struct ChangedEntries {
  std::uint32_t first = no_id;
  std::uint32_t end = 0;
};

/// One range a table, kept beside it and widened by each change. Every call but take is O(1).
class TableChanges {
 public:
  TableChanges(std::size_t tables, std::size_t layers)
      : layers_(static_cast<std::uint32_t>(layers)), tables_(tables), deltas_(tables) {}

  /// Notes entries [first, last) of a table, whose range this is.
  void note(ChangedEntries& range, std::size_t table, std::size_t first, std::size_t last) {
    if (range.first == no_id) tables_.push_back(static_cast<std::uint32_t>(table));
    range.first = std::min(range.first, static_cast<std::uint32_t>(first));
    range.end = std::max(range.end, static_cast<std::uint32_t>(last));
  }

  /// Begins anew; take_range(table) returns a table's range, cut to its length, and empties it. The
  /// span is valid until the next take. O(tables that have changed).
  template <class TakeRange>
  [[nodiscard]] std::span<const TableDelta> take(TakeRange&& take_range) {
    deltas_.clear();
    for (const std::uint32_t table : tables_) {
      const ChangedEntries range = take_range(table);
      if (range.end <= range.first) continue;
      deltas_.push_back({table / layers_, table % layers_, range.first, range.end - range.first});
    }
    tables_.clear();
    return {deltas_.data(), deltas_.size()};
  }

 private:
  std::uint32_t layers_;
  lethe::detail::FixedList<std::uint32_t> tables_;
  lethe::detail::FixedList<TableDelta> deltas_;
};

}  // namespace detail
}  // namespace lethe::layerkv
