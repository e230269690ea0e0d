/// A list of copies, cut into slices of bounded size, straight or by way of a staging buffer.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "lethe/config.hpp"
#include "lethe/fixed_list.hpp"
#include "lethe/layerkv/coalescer.hpp"
#include "lethe/layerkv/copier.hpp"

namespace lethe::layerkv::detail {

/// A place in a list of copies.
struct CopyCursor {
  std::size_t copy = 0;
  /// Bytes of that copy before the place, and of all copies before it.
  std::size_t offset = 0;
  std::size_t packed = 0;
};

/// One passage over the copies: from their sources to their targets, or with one of the two
/// replaced by a staging buffer in which the bytes lie one after another.
struct CopyHop {
  std::span<const ByteCopy> copies;
  std::byte* staging_source = nullptr;
  std::byte* staging_target = nullptr;

  [[nodiscard]] bool staged() const {
    return staging_source != nullptr || staging_target != nullptr;
  }
  [[nodiscard]] bool ends_at(const CopyCursor& cursor) const {
    return cursor.copy == copies.size();
  }

  /// What lies at the cursor, at most so many bytes of it.
  [[nodiscard]] ByteCopy at(const CopyCursor& cursor, std::size_t most) const {
    const ByteCopy& copy = copies[cursor.copy];
    return {
        staging_source != nullptr ? staging_source + cursor.packed : copy.source + cursor.offset,
        staging_target != nullptr ? staging_target + cursor.packed : copy.target + cursor.offset,
        std::min(copy.bytes - cursor.offset, most)};
  }

  /// Fills the batch, which has room, with the next `most` bytes in at most `most_copies` copies,
  /// and moves the cursor past them; returns the bytes. On one side of a staged hop all is
  /// contiguous, so copies that neighbour each other on the other side are joined.
  std::size_t take(CopyCursor& cursor, std::size_t most, std::size_t most_copies,
                   lethe::detail::FixedList<ByteCopy>& batch) const {
    batch.clear();
    std::size_t taken = 0;
    while (!ends_at(cursor) && taken < most) {
      const ByteCopy next = at(cursor, most - taken);
      const bool joined = staged() && !batch.empty() && extend(batch[batch.size() - 1], next, most);
      if (!joined) {
        if (batch.size() == most_copies) break;
        batch.push_back(next);
      }
      taken += next.bytes;
      advance(cursor, next.bytes);
    }
    return taken;
  }

 private:
  void advance(CopyCursor& cursor, std::size_t bytes) const {
    cursor.packed += bytes;
    cursor.offset += bytes;
    if (cursor.offset < copies[cursor.copy].bytes) return;
    ++cursor.copy;
    cursor.offset = 0;
  }
};

}  // namespace lethe::layerkv::detail
