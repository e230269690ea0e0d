/// The block tables themselves: which blocks each shows, and what becomes of blocks that it takes,
/// shares and gives up.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "lethe/config.hpp"
#include "lethe/layerkv/block_pool.hpp"
#include "lethe/layerkv/ids.hpp"
#include "lethe/layerkv/pending_copies.hpp"
#include "lethe/layerkv/raw_rows.hpp"
#include "lethe/layerkv/table_changes.hpp"

namespace lethe::layerkv::detail {

/// One layer of one request.
struct TableRow {
  std::uint32_t tokens = 0;
  std::uint32_t blocks = 0;
  /// Of these, those that lie on the host.
  std::uint32_t host_blocks = 0;
  /// The migration under way, or no_id.
  std::uint32_t migration = no_id;
  /// Entries from here on are the table's alone; of those before, others may hold some.
  std::uint32_t shared_end = 0;
  ChangedEntries changed{};
};

/// Blocks that are needed, of each tier.
using BlockNeed = std::array<std::size_t, 2>;

/// Tables by number: request x layers + layer. Calls are O(blocks taken or given back).
class TableRows {
 public:
  /// blocks: of the longest table.
  TableRows(std::size_t requests, std::size_t layers, std::size_t block_tokens, std::size_t blocks,
            std::size_t device_blocks, std::size_t host_blocks)
      : block_tokens_(block_tokens),
        most_blocks_(blocks),
        pools_{BlockPool(Tier::device, device_blocks), BlockPool(Tier::host, host_blocks)},
        rows_(requests * layers),
        entries_(requests * layers, blocks),
        singles_(1, layers),
        copies_(device_blocks, host_blocks),
        changes_(requests * layers, layers) {}

  [[nodiscard]] std::size_t size() const { return rows_.size(); }
  [[nodiscard]] TableRow& operator[](std::size_t table) { return rows_[table]; }
  [[nodiscard]] const TableRow& operator[](std::size_t table) const { return rows_[table]; }
  [[nodiscard]] std::span<const Block> blocks(std::size_t table) const {
    return entries_[table].first(rows_[table].blocks);
  }
  [[nodiscard]] std::span<const BlockPool> pools() const { return pools_; }
  [[nodiscard]] BlockPool& pool(Tier tier) { return pools_[static_cast<std::size_t>(tier)]; }
  [[nodiscard]] const BlockPool& pool(Tier tier) const {
    return pools_[static_cast<std::size_t>(tier)];
  }

  void hold(Block block) { pool(block.tier()).retain(block); }

  /// A block that nobody holds any more needs no copy either.
  void drop(Block block) {
    if (!pool(block.tier()).release(block)) return;
    const BlockMove* copy = copies_.find(block);
    if (copy == nullptr) return;
    pool(copy->from.tier()).unpin(copy->from);
    copies_.erase(copy);
  }

  /// The same for many.
  void drop(std::span<const Block> blocks) {
    if (!copies_.empty()) {
      for (const Block block : blocks) drop(block);
      return;
    }
    while (!blocks.empty()) blocks = blocks.subspan(pool(blocks[0].tier()).release(blocks));
  }

  /// Adds what `tokens` more take. Throws std::length_error when the table cannot be that long.
  void add_need(std::size_t table, std::size_t tokens, Tier tier, BlockNeed& need) const {
    const TableRow& row = rows_[table];
    const std::size_t count = new_blocks(row, tokens);
    if (count > most_blocks_ - row.blocks) refuse_length(row.tokens, tokens);
    need[static_cast<std::size_t>(tier)] += count;
    if (tokens != 0 && ends_in_shared(table)) {
      ++need[static_cast<std::size_t>(blocks(table).back().tier())];
    }
  }

  /// Makes room for `tokens` more in the tables [first, last); all or nothing.
  [[nodiscard]] bool append(std::size_t first, std::size_t last, std::size_t tokens, Tier tier) {
    if (const auto singles = singles_needed(first, last, tokens)) {
      if (*singles > pool(tier).free()) return false;
      extend_singly(first, last, tokens, tier, singles_[0].first(*singles));
      return true;
    }
    BlockNeed need{};
    for (std::size_t table = first; table < last; ++table) add_need(table, tokens, tier, need);
    if (need[0] > pools_[0].free() || need[1] > pools_[1].free()) return false;
    for (std::size_t table = first; table < last; ++table) extend(table, tokens, tier);
    return true;
  }

  /// Goes on with a full block that somebody holds.
  void adopt(std::size_t table, Block block) {
    TableRow& row = rows_[table];
    LETHE_ASSERT(row.tokens == row.blocks * block_tokens_ && row.blocks < most_blocks_);
    hold(block);
    entries_[table][row.blocks] = block;
    row.tokens += static_cast<std::uint32_t>(block_tokens_);
    show(table, 1, block.tier() == Tier::host ? 1 : 0);
    row.shared_end = row.blocks;
  }

  /// Others hold blocks of entries below `end` from now on.
  void lend(std::size_t table, std::size_t end) {
    std::uint32_t& known = rows_[table].shared_end;
    known = std::max(known, static_cast<std::uint32_t>(end));
  }

  /// Keeps the first `tokens` tokens, or all, of each of the tables [first, last).
  void cut(std::size_t first, std::size_t last, std::size_t tokens) {
    const std::size_t kept = tokens / block_tokens_ + (tokens % block_tokens_ != 0 ? 1 : 0);
    std::size_t singles = 0;
    for (std::size_t table = first; table < last; ++table) {
      TableRow& row = rows_[table];
      row.tokens = static_cast<std::uint32_t>(std::min<std::size_t>(row.tokens, tokens));
      // Single blocks, as decoding takes them, are given back together.
      if (row.blocks == kept + 1 && row.host_blocks == 0) {
        singles_[0][singles++] = entries_[table][kept];
        row.blocks = static_cast<std::uint32_t>(kept);
      } else {
        give_back(table, kept);
      }
      row.shared_end = std::min(row.shared_end, row.blocks);
    }
    drop(singles_[0].first(singles));
  }

  /// An empty table. Its range of changes stays: what is appended widens it, or it ends as empty.
  void clear(std::size_t table) {
    cut(table, table + 1, 0);
    rows_[table] = {.changed = rows_[table].changed};
  }

  /// Shows another block in an entry, held on the table's behalf; the old one is dropped.
  void replace(std::size_t table, std::size_t entry, Block block) {
    TableRow& row = rows_[table];
    const Block old = entries_[table][entry];
    row.host_blocks += static_cast<std::uint32_t>(block.tier() == Tier::host);
    row.host_blocks -= static_cast<std::uint32_t>(old.tier() == Tier::host);
    entries_[table][entry] = block;
    changes_.note(row.changed, table, entry, entry + 1);
    drop(old);
  }

  /// A block of its own, in the same tier, for an entry whose block others hold; none: pool empty.
  [[nodiscard]] std::optional<Block> unshare(std::size_t table, std::size_t entry) {
    const std::optional<Block> own = pool(blocks(table)[entry].tier()).allocate();
    if (own) replace(table, entry, *own);
    return own;
  }

  [[nodiscard]] std::span<const BlockMove> copies() const { return copies_.moves(); }
  [[nodiscard]] std::span<const BlockMove> take_copies() {
    const std::span<const BlockMove> taken = copies_.moves();
    for (const BlockMove& move : taken) pool(move.from.tier()).unpin(move.from);
    copies_.clear();
    return taken;
  }

  [[nodiscard]] std::span<const TableDelta> take_deltas() {
    return changes_.take([this](std::size_t table) {
      const ChangedEntries range = std::exchange(rows_[table].changed, {});
      return ChangedEntries{range.first, std::min(range.end, rows_[table].blocks)};
    });
  }

  /// The invariant of one table that does not hold, or null.
  [[nodiscard]] const char* fault(std::size_t table) const {
    const TableRow& row = rows_[table];
    const std::span<const Block> held = blocks(table);
    const auto on_host = std::count_if(held.begin(), held.end(),
                                       [](Block block) { return block.tier() == Tier::host; });
    const std::size_t needed = (row.tokens + block_tokens_ - 1) / block_tokens_;
    if (row.blocks != needed) return "a table's length is not what its tokens need";
    if (row.host_blocks != static_cast<std::size_t>(on_host)) return "a count of host blocks";
    if (row.shared_end > row.blocks) return "a table ends before its shared blocks do";
    for (const Block block : held.subspan(row.shared_end)) {
      if (pool(block.tier()).shared(block)) return "a shared block is not known to be one";
    }
    return nullptr;
  }

 private:
  /// Whether the next token goes into a block that others hold.
  [[nodiscard]] bool ends_in_shared(std::size_t table) const {
    const TableRow& row = rows_[table];
    if (row.shared_end != row.blocks || row.tokens == row.blocks * block_tokens_) return false;
    const Block last = entries_[table][row.blocks - 1];
    return pool(last.tier()).shared(last);
  }

  [[nodiscard]] std::size_t new_blocks(const TableRow& row, std::size_t tokens) const {
    const std::size_t room = row.blocks * block_tokens_ - row.tokens;
    if (tokens <= room) return 0;
    if (tokens - room <= block_tokens_) return 1;
    return (tokens - room - 1) / block_tokens_ + 1;
  }

  /// The blocks to take when none of the tables takes two, or a copy, or is full, as when decoding;
  /// none when it is not that simple.
  [[nodiscard]] std::optional<std::size_t> singles_needed(std::size_t first, std::size_t last,
                                                          std::size_t tokens) const {
    std::size_t singles = 0;
    bool simple = tokens <= block_tokens_;
    for (std::size_t table = first; table < last && simple; ++table) {
      const TableRow& row = rows_[table];
      const std::size_t room = row.blocks * block_tokens_ - row.tokens;
      singles += tokens > room ? 1u : 0u;
      simple = row.blocks != most_blocks_ && (room == 0 || row.shared_end != row.blocks);
    }
    return simple ? std::optional(singles) : std::nullopt;
  }

  void extend(std::size_t table, std::size_t tokens, Tier tier) {
    TableRow& row = rows_[table];
    if (tokens != 0 && ends_in_shared(table)) copy_last(table);
    const std::size_t count = new_blocks(row, tokens);
    row.tokens += static_cast<std::uint32_t>(tokens);
    if (count == 0) return;
    const std::span<Block> entries = entries_[table].subspan(row.blocks, count);
    static_cast<void>(pool(tier).allocate(entries, last_in(table, tier)));
    show(table, count, tier == Tier::host ? count : 0);
  }

  /// What decoding does, in one go: no table takes more than one block. taken: room for all.
  void extend_singly(std::size_t first, std::size_t last, std::size_t tokens, Tier tier,
                     std::span<Block> taken) {
    pool(tier).allocate_singly(taken);
    const Block* next = taken.data();
    const std::size_t on_host = tier == Tier::host ? 1 : 0;
    for (std::size_t table = first; table < last; ++table) {
      TableRow& row = rows_[table];
      row.tokens += static_cast<std::uint32_t>(tokens);
      if (row.tokens <= row.blocks * block_tokens_) continue;
      entries_[table][row.blocks] = *next++;
      show(table, 1, on_host);
    }
  }

  /// The table's last block, when it lies in the tier.
  [[nodiscard]] std::optional<Block> last_in(std::size_t table, Tier tier) const {
    const std::span<const Block> held = blocks(table);
    return held.empty() || held.back().tier() != tier ? std::nullopt : std::optional(held.back());
  }

  /// Shows the first `kept` entries alone.
  void give_back(std::size_t table, std::size_t kept) {
    TableRow& row = rows_[table];
    if (row.blocks <= kept) return;
    const std::span<const Block> given = blocks(table).subspan(kept);
    if (row.host_blocks != 0) {
      row.host_blocks -= static_cast<std::uint32_t>(std::count_if(
          given.begin(), given.end(), [](Block b) { return b.tier() == Tier::host; }));
    }
    row.blocks = static_cast<std::uint32_t>(kept);
    drop(given);
  }

  /// `count` entries more, all written.
  void show(std::size_t table, std::size_t count, std::size_t on_host) {
    TableRow& row = rows_[table];
    changes_.note(row.changed, table, row.blocks, row.blocks + count);
    row.blocks += static_cast<std::uint32_t>(count);
    row.host_blocks += static_cast<std::uint32_t>(on_host);
  }

  /// The last block is to be written to, and others hold it: a copy takes its place.
  void copy_last(std::size_t table) {
    const std::size_t entry = rows_[table].blocks - 1u;
    const Block old = entries_[table][entry];
    const std::optional<Block> own = unshare(table, entry);
    rows_[table].shared_end = static_cast<std::uint32_t>(entry);
    // A copy not made yet has its bytes elsewhere.
    const BlockMove* earlier = copies_.find(old);
    const Block source = earlier != nullptr ? earlier->from : old;
    pool(source.tier()).pin(source);
    copies_.add({source, *own});
  }

  [[noreturn]] LETHE_COLD void refuse_length(std::size_t held, std::size_t tokens) const {
    const std::size_t most = static_cast<std::size_t>(-1);
    lethe::detail::raise<std::length_error>(
        "lethe: " + std::to_string(tokens > most - held ? most : held + tokens) +
        " tokens of a layer need more than the " + std::to_string(most_blocks_) +
        " blocks of the longest table: raise request_blocks");
  }

  std::size_t block_tokens_;
  std::size_t most_blocks_;
  std::array<BlockPool, 2> pools_;
  std::vector<TableRow> rows_;
  RawRows<Block> entries_;
  /// Of the append that is being made.
  RawRows<Block> singles_;
  PendingCopies copies_;
  TableChanges changes_;
};

}  // namespace lethe::layerkv::detail
