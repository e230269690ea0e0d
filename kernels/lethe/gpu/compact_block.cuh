/// What each block of the compaction's grids does.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/gpu/block.cuh"
#include "lethe/gpu/compaction.hpp"
#include "lethe/gpu/pack.cuh"
#include "lethe/gpu/pack_pages.cuh"

namespace lethe::gpu {

namespace detail {

/// A (layer, state slot) and what its plans say.
struct CompactPlace {
  std::uint32_t layer;
  std::uint32_t slot;

  [[nodiscard]] LETHE_BLOCK_CODE std::size_t table_of(const DevicePlans& plans) const {
    return std::size_t{layer} * plans.slots + slot;
  }
  [[nodiscard]] LETHE_BLOCK_CODE std::size_t plan_of(const DevicePlans& plans,
                                                     std::uint32_t head) const {
    return table_of(plans) * plans.heads + (plans.heads == 1 ? 0 : head);
  }
};

/// begin == count where nothing moves.
[[nodiscard]] LETHE_BLOCK_CODE inline PackMoves moves_of(const Compaction& compaction,
                                                         const CompactPlace& place,
                                                         std::size_t plan) {
  const DevicePlans& plans = compaction.plans;
  PackMoves moves{plans.kept + plan * plans.capacity, plans.first_moves[plan * plans.stride],
                  plans.counts[plan * plans.stride]};
  if (compaction.page_count != 0) moves.begin = compaction.tables.begins[place.table_of(plans)];
  return moves;
}

[[nodiscard]] LETHE_BLOCK_CODE inline StripRows strip_rows(const StripArray& array,
                                                           const CompactPlace& place,
                                                           std::uint32_t head) {
  return {array.base + head * array.head_stride + place.slot * array.slot_stride +
              place.layer * array.layer_stride,
          array.token_stride};
}

/// number: layer x slots + slot of `place`.
[[nodiscard]] LETHE_BLOCK_CODE inline PageRows page_rows(const DeviceTables& tables,
                                                         std::size_t number, const PageArray& array,
                                                         const CompactPlace& place,
                                                         std::uint32_t head) {
  const std::size_t first = number * tables.capacity;
  PageRows rows;
  rows.base = array.base + head * array.head_stride + place.layer * array.layer_stride;
  rows.block_stride = array.block_stride;
  rows.token_stride = array.token_stride;
  rows.block_tokens = tables.block_tokens;
  rows.sources = tables.tables + first;
  rows.targets = tables.workspace + first;
  return rows;
}

/// The first slot of a layer whose row changes in any of the heads.
[[nodiscard]] LETHE_BLOCK_CODE inline std::uint32_t first_move_in(const DevicePlans& plans,
                                                                  std::size_t number) {
  std::uint32_t first = ~std::uint32_t{0};
  for (std::size_t plan = number * plans.heads; plan < (number + 1) * plans.heads; ++plan) {
    const std::uint32_t own = plans.first_moves[plan * plans.stride];
    first = own < first ? own : first;
  }
  return first;
}

[[nodiscard]] LETHE_BLOCK_CODE inline PageTask page_task(const Compaction& compaction,
                                                         const CompactPlace& place) {
  const DeviceTables& tables = compaction.tables;
  const std::size_t number = place.table_of(compaction.plans);
  PageTask task;
  task.table = tables.tables + number * tables.capacity;
  task.entries = tables.entries[number];
  task.block_tokens = tables.block_tokens;
  task.count = compaction.plans.counts[number * compaction.plans.heads * compaction.plans.stride];
  task.first_move = first_move_in(compaction.plans, number);
  if (tables.owners != nullptr) task.owners = tables.owners + place.layer * tables.owners_stride;
  if (tables.fresh != nullptr) {
    task.fresh = tables.fresh + number * tables.fresh_capacity;
    task.fresh_count = tables.fresh_counts[number];
  }
  return task;
}

/// The strip's array and head: finds them by counting heads down.
template <class Array>
[[nodiscard]] LETHE_BLOCK_CODE const Array* find_array(const Array* arrays, std::uint32_t count,
                                                       std::uint32_t& strip) {
  for (std::uint32_t i = 0; i < count; ++i) {
    if (strip < arrays[i].heads) return &arrays[i];
    strip -= arrays[i].heads;
  }
  return nullptr;
}

/// Packs one strip; number `strip` below strips_of.
template <class Block>
LETHE_BLOCK_CODE void pack_strip(const Block& block, const Compaction& compaction,
                                 const CompactPlace& place, std::uint32_t strip) {
  std::uint32_t head = strip;
  const StripArray* plain = find_array(compaction.strips, compaction.strip_count, head);
  if (plain != nullptr) {
    const std::size_t plan = place.plan_of(compaction.plans, head);
    pack_rows(block, strip_rows(*plain, place, head), plain->row_bytes,
              moves_of(compaction, place, plan));
    return;
  }
  const PageArray* paged = find_array(compaction.pages, compaction.page_count, head);
  if (paged == nullptr) return;
  const std::size_t number = place.table_of(compaction.plans);
  pack_rows(block, page_rows(compaction.tables, number, *paged, place, head), paged->row_bytes,
            moves_of(compaction, place, place.plan_of(compaction.plans, head)));
}

}  // namespace detail

/// Block (strip, row, layer) of the packing grid. One of each (row, layer) also writes lengths.
template <ThreadBlock Block>
LETHE_BLOCK_CODE void compact_block(const Block& block, const Compaction& compaction,
                                    std::uint32_t strip, std::uint32_t row, std::uint32_t layer) {
  detail::CompactPlace place{layer, 0};
  if (!detail::slot_of_row(compaction.batch, compaction.plans.slots, row, place.slot)) return;
  detail::pack_strip(block, compaction, place, strip);
  const DevicePlans& plans = compaction.plans;
  if (strip != 0 || plans.lengths == nullptr) return;
  const std::size_t first = place.table_of(plans);
  if (compaction.page_count != 0 && compaction.tables.begins[first] == refused_pages) return;
  const std::uint32_t lengths = plans.equal_counts ? 1 : plans.heads;
  block.lanes([&](unsigned lane) {
    for (std::uint32_t head = lane; head < lengths; head += Block::threads) {
      plans.lengths[first * lengths + head] =
          plans.counts[(first * plans.heads + head) * plans.stride];
    }
  });
}

/// Block (row, layer) of the grid before it, for paged arrays: the tables afterwards, in workspace.
template <ThreadBlock Block>
LETHE_BLOCK_CODE void plan_pages_block(const Block& block, const Compaction& compaction,
                                       std::uint32_t row, std::uint32_t layer) {
  detail::CompactPlace place{layer, 0};
  if (!detail::slot_of_row(compaction.batch, compaction.plans.slots, row, place.slot)) return;
  const DeviceTables& tables = compaction.tables;
  const std::size_t number = place.table_of(compaction.plans);
  pack_pages(block, detail::page_task(compaction, place),
             PageOutcome{tables.workspace + number * tables.capacity,
                         tables.freed + number * tables.capacity, tables.freed_counts + number,
                         tables.fresh_used + number, tables.begins + number});
}

/// Block (row, layer) of the grid behind it, once all rows have moved: the tables become those.
template <ThreadBlock Block>
LETHE_BLOCK_CODE void publish_pages_block(const Block& block, const Compaction& compaction,
                                          std::uint32_t row, std::uint32_t layer) {
  detail::CompactPlace place{layer, 0};
  if (!detail::slot_of_row(compaction.batch, compaction.plans.slots, row, place.slot)) return;
  const DeviceTables& tables = compaction.tables;
  const std::size_t number = place.table_of(compaction.plans);
  if (block.read(tables.begins[number]) == refused_pages) return;
  const detail::PageEntries entries{detail::page_task(compaction, place)};
  // Read by all lanes before one of them writes the entries.
  const std::uint32_t kept = block.read(entries.kept());
  block.lanes([&](unsigned lane) {
    for (std::uint32_t entry = lane; entry < kept; entry += Block::threads) {
      tables.tables[number * tables.capacity + entry] =
          tables.workspace[number * tables.capacity + entry];
    }
    if (lane == 0) tables.entries[number] = kept;
  });
}

}  // namespace lethe::gpu
