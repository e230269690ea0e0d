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
  TableChanges(std::size_t tables, std::size_t layers) : layers_(layers), ranges_(tables) {}

  /// Notes entries [first, last) of a table. range: kept beside the table, no_id at first.
  void note(std::uint32_t& range, std::size_t table, std::size_t first, std::size_t last) {
    const auto begin = static_cast<std::uint32_t>(first);
    const auto end = static_cast<std::uint32_t>(last);
    if (range == no_id) {
      range = static_cast<std::uint32_t>(ranges_.size());
      ranges_.push_back({static_cast<RequestId>(table / layers_),
                         static_cast<std::uint32_t>(table % layers_), begin, end - begin});
      return;
    }
    TableDelta& known = ranges_[range];
    const bool empty = known.count == 0;
    const std::uint32_t known_end = known.first + known.count;
    known.first = empty ? begin : std::min(known.first, begin);
    known.count = (empty ? end : std::max(known_end, end)) - known.first;
  }

  /// A table that was given up has no changes.
  void forget(std::uint32_t range) {
    if (range != no_id) ranges_[range].count = 0;
  }

  /// Begins anew; prepare(delta) cuts a range to what its table still has. The span is valid until
  /// the next note. O(ranges).
  template <class Prepare>
  [[nodiscard]] std::span<const TableDelta> take(Prepare&& prepare) {
    std::size_t kept = 0;
    for (TableDelta& delta : ranges_) {
      prepare(delta);
      if (delta.count != 0) ranges_[kept++] = delta;
    }
    ranges_.clear();
    return {ranges_.data(), kept};
  }

 private:
  std::size_t layers_;
  lethe::detail::FixedList<TableDelta> ranges_;
};

}  // namespace detail
}  // namespace lethe::layerkv
