/// What becomes of one sequence's block table when its rows are packed, by one thread block.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/gpu/block.cuh"

namespace lethe::gpu {

/// A layer's table before a plan, and the plan's counts.
struct PageTask {
  /// Blocks in the order of their tokens; `entries` of them, those not filled yet too.
  const std::uint32_t* table = nullptr;
  std::uint32_t entries = 0;
  std::uint32_t block_tokens = 1;
  /// Kept tokens, and the first slot whose row changes: EvictionPlan's.
  std::uint32_t count = 0;
  std::uint32_t first_move = 0;
  /// Owners of each block of the pool, by its number; null: none is shared.
  const std::uint32_t* owners = nullptr;
  /// Blocks handed in for shared ones that would be written.
  const std::uint32_t* fresh = nullptr;
  std::uint32_t fresh_count = 0;
};

/// Where the outcome goes; lists have room for `entries` numbers.
struct PageOutcome {
  /// The table afterwards: ceil(count / block_tokens) blocks.
  std::uint32_t* table = nullptr;
  /// Blocks that the sequence no longer refers to: the replaced, then the tail, each in the order
  /// of the table. They may hold rows that are still to be read until the packing has passed.
  std::uint32_t* freed = nullptr;
  std::uint32_t* freed_count = nullptr;
  /// How many of `fresh` are in the table now: the first ones. None where there were too few; the
  /// table then is what it was, nothing is freed, and begin says that no row moves.
  std::uint32_t* fresh_used = nullptr;
  /// First row that is written, at most first_move, for PackMoves; refused_pages where too few.
  std::uint32_t* begin = nullptr;
};

/// A PageOutcome::begin that means: left alone, for want of fresh blocks.
inline constexpr std::uint32_t refused_pages = 0xFFFFFFFFu;

namespace detail {

/// A task's entries, and which of them have to be replaced.
struct PageEntries {
  PageTask task;

  [[nodiscard]] LETHE_BLOCK_CODE std::uint32_t kept() const {
    const std::uint32_t blocks =
        task.count / task.block_tokens + (task.count % task.block_tokens != 0 ? 1u : 0u);
    return blocks < task.entries ? blocks : task.entries;
  }
  [[nodiscard]] LETHE_BLOCK_CODE bool shared(std::uint32_t entry) const {
    return task.owners != nullptr && task.owners[task.table[entry]] > 1;
  }
  /// Written by the packing, and somebody else's too.
  [[nodiscard]] LETHE_BLOCK_CODE bool replaced(std::uint32_t entry) const {
    return task.first_move < task.count && entry >= task.first_move / task.block_tokens &&
           entry < kept() && shared(entry);
  }
};

template <class Block>
[[nodiscard]] LETHE_BLOCK_CODE std::uint32_t count_replaced(const Block& block,
                                                            const PageEntries& entries) {
  typename Block::template Registers<std::uint32_t, 1> own;
  block.lanes([&](unsigned lane) {
    own(lane, 0) = 0;
    for (std::uint32_t entry = lane; entry < entries.kept(); entry += Block::threads) {
      own(lane, 0) += entries.replaced(entry) ? 1u : 0u;
    }
  });
  return block.sum(own);
}

/// The kept entries with fresh blocks in their places, and the blocks these replace.
template <class Block>
LETHE_BLOCK_CODE void replace_pages(const Block& block, const PageEntries& entries,
                                    const PageOutcome& outcome) {
  std::uint32_t before = 0;
  for (std::uint32_t first = 0; first < entries.kept(); first += Block::threads) {
    typename Block::template Registers<std::uint32_t, 1> rank;
    block.lanes([&](unsigned lane) {
      const std::uint32_t entry = first + lane;
      rank(lane, 0) = entry < entries.kept() && entries.replaced(entry) ? 1u : 0u;
    });
    const std::uint32_t of_tile = block.exclusive_sum(rank);
    block.lanes([&](unsigned lane) {
      const std::uint32_t entry = first + lane;
      if (entry >= entries.kept()) return;
      const std::uint32_t old = entries.task.table[entry];
      const bool replaced = entries.replaced(entry);
      const std::uint32_t place = before + rank(lane, 0);
      outcome.table[entry] = replaced ? entries.task.fresh[place] : old;
      if (replaced) outcome.freed[place] = old;
    });
    before += of_tile;
  }
}

template <class Block>
LETHE_BLOCK_CODE void refuse_pages(const Block& block, const PageTask& task,
                                   const PageOutcome& outcome) {
  block.lanes([&](unsigned lane) {
    for (std::uint32_t entry = lane; entry < task.entries; entry += Block::threads) {
      outcome.table[entry] = task.table[entry];
    }
    if (lane != 0) return;
    *outcome.freed_count = 0;
    *outcome.fresh_used = 0;
    *outcome.begin = refused_pages;
  });
}

}  // namespace detail

/// Works out the table after a plan: rows are packed into the leading blocks, those behind are
/// freed, and shared blocks are left untouched: below the first row that moves they stay in the
/// table, from there on a fresh block takes each one's place. Moves no rows: pack_rows does, with
/// task.table as sources, outcome.table as targets, from *outcome.begin on. The two tables are
/// different arrays. O(entries).
template <ThreadBlock Block>
LETHE_BLOCK_CODE void pack_pages(const Block& block, const PageTask& task,
                                 const PageOutcome& outcome) {
  const detail::PageEntries entries{task};
  const std::uint32_t replaced = detail::count_replaced(block, entries);
  if (replaced > task.fresh_count) {
    detail::refuse_pages(block, task, outcome);
    return;
  }
  detail::replace_pages(block, entries, outcome);
  block.lanes([&](unsigned lane) {
    const std::uint32_t kept = entries.kept();
    for (std::uint32_t entry = kept + lane; entry < task.entries; entry += Block::threads) {
      outcome.freed[replaced + (entry - kept)] = task.table[entry];
    }
    if (lane != 0) return;
    *outcome.freed_count = replaced + (task.entries - kept);
    *outcome.fresh_used = replaced;
    const std::uint32_t first = task.first_move / task.block_tokens;
    const bool whole = task.first_move < task.count && entries.replaced(first);
    *outcome.begin = whole ? first * task.block_tokens : task.first_move;
  });
}

}  // namespace lethe::gpu
