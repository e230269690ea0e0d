/// Applies a plan in place to anything that has one row a token.
#pragma once

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

/// Copies rows of a size known to the compiler, so that each is a few moves instead of a call.
template <std::size_t Bytes>
void pack_fixed(std::byte* base, std::size_t stride, const EvictionPlan& plan) {
  for (std::size_t i = plan.first_move; i < plan.kept.size(); ++i) {
    std::memmove(base + i * stride, base + plan.kept[i] * stride, Bytes);
  }
}

/// Rows that follow each other in the source travel as one block.
inline void pack_runs(std::byte* base, std::size_t row_bytes, const EvictionPlan& plan) {
  std::size_t i = plan.first_move;
  while (i < plan.kept.size()) {
    std::size_t run = 1;
    while (i + run < plan.kept.size() && plan.kept[i + run] == plan.kept[i] + run) ++run;
    std::memmove(base + i * row_bytes, base + plan.kept[i] * row_bytes, run * row_bytes);
    i += run;
  }
}

inline void pack_strided(std::byte* base, std::size_t row_bytes, std::size_t stride,
                         const EvictionPlan& plan) {
  for (std::size_t i = plan.first_move; i < plan.kept.size(); ++i) {
    std::memmove(base + i * stride, base + plan.kept[i] * stride, row_bytes);
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
  if (stride == row_bytes) return detail::pack_runs(base, row_bytes, plan);
  detail::pack_strided(base, row_bytes, stride, plan);
}

}  // namespace lethe
