/// What a compaction on the device is told: arrays, plans and block tables, all in device memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/gpu/batch.hpp"
#include "lethe/gpu/status.hpp"

namespace lethe::gpu {

/// Rows of one kind (keys, values, their scales, scores, positions) in plain memory: that of token
/// t, head h, state slot s and layer l lies at base + t x token_stride + h x head_stride + s x
/// slot_stride + l x layer_stride, all in bytes, so that a row may be of any element.
struct StripArray {
  std::byte* base = nullptr;
  std::uint32_t row_bytes = 0;
  std::uint32_t heads = 1;
  std::size_t token_stride = 0;
  std::size_t head_stride = 0;
  std::size_t slot_stride = 0;
  std::size_t layer_stride = 0;
};

/// The same in a pool of blocks: that of token t within its block b lies at base + b x block_stride
/// + t x token_stride + h x head_stride + l x layer_stride.
struct PageArray {
  std::byte* base = nullptr;
  std::uint32_t row_bytes = 0;
  std::uint32_t heads = 1;
  std::size_t token_stride = 0;
  std::size_t head_stride = 0;
  std::size_t block_stride = 0;
  std::size_t layer_stride = 0;
};

/// Plans in device memory, one for each (layer, state slot, plan head): number (layer x slots +
/// slot) x heads + head.
struct DevicePlans {
  /// Kept slots of a plan, ascending, from kept + number x capacity on.
  const std::uint32_t* kept = nullptr;
  /// Of each plan EvictionPlan's kept.size() and first_move; a layer left alone has both equal to
  /// its tokens.
  const std::uint32_t* counts = nullptr;
  const std::uint32_t* first_moves = nullptr;
  /// From one plan's count to the next, in numbers of 4 bytes, and the same of first moves: more
  /// than 1 where they are members of a larger record.
  std::uint32_t stride = 1;
  /// Tokens of each afterwards, if not null: written where the plan was carried out.
  std::uint32_t* lengths = nullptr;
  /// The heads of a layer keep equally many tokens: a block table may serve them all, and lengths
  /// has one number for each (layer, state slot).
  bool equal_counts = false;
  std::uint32_t layers = 1;
  std::uint32_t slots = 1;
  /// 1: one plan for all heads. Else every array has so many heads.
  std::uint32_t heads = 1;
  /// Most tokens of a layer.
  std::uint32_t capacity = 0;
};

/// Block tables in device memory, one for each (layer, state slot): number layer x slots + slot,
/// `capacity` entries each. Numbers and lists as in PageTask and PageOutcome.
struct DeviceTables {
  std::uint32_t* tables = nullptr;
  /// Blocks in use of each table, before and after.
  std::uint32_t* entries = nullptr;
  std::uint32_t capacity = 0;
  std::uint32_t block_tokens = 0;
  /// Owners of block b of layer l: owners[l x owners_stride + b]; stride 0 where one pool serves
  /// all layers. Null: no block is shared.
  const std::uint32_t* owners = nullptr;
  std::size_t owners_stride = 0;
  /// fresh_counts[number] blocks handed in, from fresh + number x fresh_capacity on. Null: none.
  const std::uint32_t* fresh = nullptr;
  const std::uint32_t* fresh_counts = nullptr;
  std::uint32_t fresh_capacity = 0;
  /// Told of each table: blocks it no longer refers to (from freed + number x capacity on), how
  /// many, how many fresh ones it took, and first rows written (refused_pages: left alone).
  std::uint32_t* freed = nullptr;
  std::uint32_t* freed_counts = nullptr;
  std::uint32_t* fresh_used = nullptr;
  std::uint32_t* begins = nullptr;
  /// As large as `tables`; overwritten.
  std::uint32_t* workspace = nullptr;
};

inline constexpr std::size_t most_strip_arrays = 8;
inline constexpr std::size_t most_page_arrays = 4;

/// One compaction, passed to the kernels by value: hence plain arrays, which device code may index.
struct Compaction {
  DevicePlans plans{};
  StripArray strips[most_strip_arrays]{};
  std::uint32_t strip_count = 0;
  PageArray pages[most_page_arrays]{};
  std::uint32_t page_count = 0;
  /// Used where page_count is not 0.
  DeviceTables tables{};
  Batch batch{};
};

namespace detail {

/// pack_bytes of pack.cuh, which host code need not include.
inline constexpr std::uint64_t most_strip_bytes = (std::uint64_t{1} << 32) - (1u << 17);

template <class Array>
[[nodiscard]] inline const char* fault_of_array(const Array& array, const DevicePlans& plans) {
  if (array.base == nullptr) return "base: give the array's device memory";
  if (array.row_bytes == 0) return "row_bytes: give a row's bytes";
  if (array.token_stride < array.row_bytes) return "token_stride: rows may not overlap";
  if (array.heads == 0) return "heads: give at least 1";
  if (array.heads > 1 && array.head_stride < array.row_bytes) {
    return "head_stride: rows may not overlap";
  }
  if (plans.heads != 1 && array.heads != plans.heads) {
    return "heads: as many as the plans have, or one plan for all";
  }
  if (std::uint64_t{plans.capacity} * array.row_bytes >= most_strip_bytes) {
    return "row_bytes: a strip has less than 4 GiB; give heads one by one";
  }
  return nullptr;
}

[[nodiscard]] inline const char* fault_of_plans(const DevicePlans& plans) {
  if (plans.kept == nullptr) return "kept: give the plans' slots";
  if (plans.counts == nullptr) return "counts: give the plans' counts";
  if (plans.first_moves == nullptr) return "first_moves: give the first slots that move";
  if (plans.stride == 0) return "stride: give at least 1";
  if (plans.layers == 0 || plans.layers > most_rows) return "layers: give 1 to 65535";
  if (plans.slots == 0) return "slots: give at least 1";
  if (plans.heads == 0) return "heads: give at least 1";
  if (plans.capacity == 0) return "capacity: give the most tokens of a layer";
  return nullptr;
}

[[nodiscard]] inline const char* fault_of_tables(const DeviceTables& tables,
                                                 const DevicePlans& plans) {
  if (plans.heads != 1 && !plans.equal_counts) {
    return "heads: a table serves all heads, so give one plan for all, or plans of equal_counts";
  }
  if (tables.tables == nullptr || tables.entries == nullptr) return "tables: give the block tables";
  if (tables.workspace == nullptr) return "workspace: give as much as the tables take";
  if (tables.workspace == tables.tables) return "workspace: give memory of its own";
  if (tables.block_tokens == 0) return "block_tokens: give a block's tokens";
  if (tables.capacity == 0) return "capacity: give the most blocks of a table";
  if (tables.freed == nullptr || tables.freed_counts == nullptr) {
    return "freed: give room for the list, and for its length";
  }
  if (tables.fresh_used == nullptr) return "fresh_used: give room for a number a table";
  if (tables.begins == nullptr) return "begins: give room for a number a table";
  if ((tables.fresh == nullptr) != (tables.fresh_counts == nullptr)) {
    return "fresh: give the blocks and their counts, or neither";
  }
  return nullptr;
}

[[nodiscard]] inline const char* fault_of_arrays(const Compaction& compaction) {
  if (compaction.strip_count > most_strip_arrays) return "strip_count: give at most 8";
  if (compaction.page_count > most_page_arrays) return "page_count: give at most 4";
  if (compaction.strip_count + compaction.page_count == 0) return "strip_count: give an array";
  for (std::size_t i = 0; i < compaction.strip_count; ++i) {
    const char* fault = fault_of_array(compaction.strips[i], compaction.plans);
    if (fault != nullptr) return fault;
  }
  for (std::size_t i = 0; i < compaction.page_count; ++i) {
    const PageArray& array = compaction.pages[i];
    const char* fault = fault_of_array(array, compaction.plans);
    if (fault != nullptr) return fault;
    if (array.block_stride < array.row_bytes) return "block_stride: blocks may not overlap";
  }
  return nullptr;
}

}  // namespace detail

/// Blocks of the grid for each (row, layer): one a head of each array.
[[nodiscard]] inline std::uint32_t strips_of(const Compaction& compaction) {
  std::uint32_t strips = 0;
  for (std::uint32_t i = 0; i < compaction.strip_count; ++i) strips += compaction.strips[i].heads;
  for (std::uint32_t i = 0; i < compaction.page_count; ++i) strips += compaction.pages[i].heads;
  return strips;
}

/// What the host can tell before anything is launched; the status names the field and the remedy.
/// O(arrays).
[[nodiscard]] inline Status check(const Compaction& compaction) {
  const char* fault = detail::fault_of_plans(compaction.plans);
  if (fault == nullptr) fault = detail::fault_of_arrays(compaction);
  if (fault == nullptr && compaction.page_count != 0) {
    fault = detail::fault_of_tables(compaction.tables, compaction.plans);
  }
  if (fault == nullptr) {
    fault = detail::fault_of_batch(compaction.batch, compaction.plans.slots);
  }
  return fault == nullptr ? Status{} : refused("compact", fault);
}

}  // namespace lethe::gpu
