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

/// One range a table, widened by each change. Every call but take is O(1).
class TableChanges {
 public:
  TableChanges(std::size_t tables, std::size_t layers)
      : layers_(static_cast<std::uint32_t>(layers)), ranges_(tables) {}

  /// Notes entries [first, last) of a table. range: kept beside the table, no_id at first.
  void note(std::uint32_t& range, std::size_t table, std::size_t first, std::size_t last) {
    if (range == no_id) {
      range = static_cast<std::uint32_t>(ranges_.size());
      ranges_.push_back({.request = static_cast<std::uint32_t>(table), .first = no_id});
    }
    TableDelta& known = ranges_[range];
    known.first = std::min(known.first, static_cast<std::uint32_t>(first));
    known.count = std::max(known.count, static_cast<std::uint32_t>(last));
  }

  /// Begins anew; entries_of(table) forgets a table's range and returns its length, to which the
  /// range is cut. The span is valid until the next note. O(ranges).
  template <class EntriesOf>
  [[nodiscard]] std::span<const TableDelta> take(EntriesOf&& entries_of) {
    std::size_t kept = 0;
    for (TableDelta& delta : ranges_) {
      const std::uint32_t table = delta.request;
      const std::uint32_t end = std::min<std::uint32_t>(delta.count, entries_of(table));
      if (end <= delta.first) continue;
      ranges_[kept++] = {table / layers_, table % layers_, delta.first, end - delta.first};
    }
    ranges_.clear();
    return {ranges_.data(), kept};
  }

 private:
  std::uint32_t layers_;
  /// Until take, `request` is the table's number and `count` where the range ends.
  lethe::detail::FixedList<TableDelta> ranges_;
};

}  // namespace detail
}  // namespace lethe::layerkv
