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

/// Survivors lie too far apart for the processor to foresee: the row some moves ahead is asked for.
inline void prefetch_ahead(const std::byte* base, std::size_t row_bytes, std::size_t stride,
                           std::span<const Slot> kept, std::size_t i) {
  constexpr std::size_t moves = 16;
  constexpr std::size_t cache_line = 64;
  const std::byte* row = base + kept[std::min(i + moves, kept.size() - 1)] * stride;
  for (std::size_t offset = 0; offset < row_bytes; offset += cache_line) {
    LETHE_PREFETCH(row + offset);
  }
}

/// Copies rows of a size known to the compiler, so that each is a few moves instead of a call. From
/// first_move on kept[i] > i, so no row overlaps its target.
template <std::size_t Bytes>
void pack_fixed(std::byte* base, std::size_t stride, const EvictionPlan& plan) {
  for (std::size_t i = plan.first_move; i < plan.kept.size(); ++i) {
    prefetch_ahead(base, Bytes, stride, plan.kept, i);
    std::memcpy(base + i * stride, base + plan.kept[i] * stride, Bytes);
  }
}

inline void pack_rows(std::byte* base, std::size_t row_bytes, std::size_t stride,
                      const EvictionPlan& plan) {
  for (std::size_t i = plan.first_move; i < plan.kept.size(); ++i) {
    prefetch_ahead(base, row_bytes, stride, plan.kept, i);
    std::memcpy(base + i * stride, base + plan.kept[i] * stride, row_bytes);
  }
}

}  // namespace detail

/// Packs rows of bytes: row_bytes bytes from base + slot x stride. stride >= row_bytes.
/// Moves only to lower addresses, so it is safe in place. O(bytes of the rows that move).
inline void compact_bytes(std::byte* base, std::size_t row_bytes, std::size_t stride,
                          const EvictionPlan& plan) {
  switch (row_bytes) {
    case 64:
      return detail::pack_fixed<64>(base, stride, plan);
    case 128:
      return detail::pack_fixed<128>(base, stride, plan);
    case 256:
      return detail::pack_fixed<256>(base, stride, plan);
    default:
      break;
  }
  detail::pack_rows(base, row_bytes, stride, plan);
}

}  // namespace lethe
