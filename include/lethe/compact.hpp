/// Applies a plan in place to anything that has one row a token.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

#include "lethe/plan.hpp"

namespace lethe {

/// Packs kept rows to the left: rows[i] = rows[kept[i]] for i >= first_move; the rest is left as it
/// is. rows: at least plan.tokens entries. O(kept - first_move).
template <class Row>
void compact(std::span<Row> rows, const EvictionPlan& plan) {
  LETHE_ASSERT(rows.size() >= plan.tokens);
  for (std::size_t i = plan.first_move; i < plan.kept.size(); ++i) rows[i] = rows[plan.kept[i]];
}

namespace detail {

/// Copies a row by cache lines. Survivors lie too far apart for the processor to foresee, so each
/// line of a later row is asked for on the way, and the one that it goes to.
inline void move_row(std::byte* to, const std::byte* from, std::size_t bytes,
                     const std::byte* later_to, const std::byte* later_from) {
  constexpr std::size_t cache_line = 64;
  std::size_t offset = 0;
  for (; offset + cache_line <= bytes; offset += cache_line) {
    LETHE_PREFETCH(later_from + offset);
    LETHE_PREFETCH(later_to + offset);
    std::memcpy(to + offset, from + offset, cache_line);
  }
  if (offset == bytes) return;
  LETHE_PREFETCH(later_from + offset);
  LETHE_PREFETCH(later_to + offset);
  std::memcpy(to + offset, from + offset, bytes - offset);
}

}  // namespace detail

/// Packs rows of bytes: row_bytes bytes from base + slot x stride. stride >= row_bytes.
/// Moves only to lower addresses, so it is safe in place. O(bytes of the rows that move).
inline void compact_bytes(std::byte* base, std::size_t row_bytes, std::size_t stride,
                          const EvictionPlan& plan) {
  constexpr std::size_t moves_ahead = 8;
  // From first_move on kept[i] > i, so no row overlaps its target.
  for (std::size_t i = plan.first_move; i < plan.kept.size(); ++i) {
    const std::size_t later = std::min(i + moves_ahead, plan.kept.size() - 1);
    detail::move_row(base + i * stride, base + plan.kept[i] * stride, row_bytes,
                     base + later * stride, base + plan.kept[later] * stride);
  }
}

}  // namespace lethe
