/// One block table for each layer of each request, over a device pool and a host pool.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "lethe/config.hpp"
#include "lethe/fixed_list.hpp"
#include "lethe/layerkv/block_pool.hpp"
#include "lethe/layerkv/ids.hpp"
#include "lethe/layerkv/migrations.hpp"
#include "lethe/layerkv/pending_copies.hpp"
#include "lethe/layerkv/raw_rows.hpp"
#include "lethe/layerkv/table_census.hpp"
#include "lethe/layerkv/table_changes.hpp"
#include "lethe/layerkv/table_rows.hpp"

namespace lethe::layerkv {

struct BlockTablesConfig {
  /// Layers of a request that have a cache.
  std::size_t layers = 0;
  /// Tokens of one layer in a block; 16 is vLLM's and TensorRT-LLM's usual page. One of vLLM's
  /// blocks is `layers` of these.
  std::size_t block_tokens = 16;
  std::size_t device_blocks = 0;
  std::size_t host_blocks = 0;
  /// Live at most; 256 is vLLM's default for sequences in a batch.
  std::size_t requests = 256;
  /// Blocks of the longest table of one layer.
  std::size_t request_blocks = 0;
  /// Under way at most, those of closed requests counted in; a prompt takes up to one a layer.
  std::size_t migrations = 256;
};

/// Which blocks hold which tokens of each layer of each request, and in which tier. It moves no
/// bytes: it says which blocks are to be copied, and keeps those that are read or written meanwhile
/// from being handed out again.
///
/// A table is a prefix of the layer's tokens in order: token t lies in entry t / block_tokens, at
/// row t % block_tokens. Its blocks may lie in both tiers. One thread at a time; nothing is
/// allocated, locked or asked of the system after construction. The same calls give the same
/// tables, so the ranks of a tensor-parallel engine stay alike without talking.
///
/// Memory: 49 bytes a table, 20 a block, and address space (taken only as it is used) for
/// requests x layers x request_blocks entries of 4 bytes and migrations x request_blocks of 12.
class BlockTables {
 public:
  /// Throws std::invalid_argument naming the setting that cannot be, its value and the remedy.
  explicit BlockTables(const BlockTablesConfig& config)
      : config_(checked(config)),
        tables_(config.requests, config.layers, config.block_tokens, config.request_blocks,
                config.device_blocks, config.host_blocks),
        unused_(config.requests),
        open_(config.requests, 0),
        migrations_(config.migrations, config.request_blocks),
        targets_(1, config.request_blocks) {
    for (std::size_t id = config.requests; id > 0; --id) {
      unused_.push_back(static_cast<RequestId>(id - 1));
    }
  }

  [[nodiscard]] const BlockTablesConfig& config() const { return config_; }

  /// Begins a request with empty tables; none when config().requests are open. O(1).
  [[nodiscard]] std::optional<RequestId> open() {
    if (unused_.empty()) return std::nullopt;
    const RequestId request = unused_.pop_back();
    open_[request] = 1;
    return request;
  }

  /// Ends a request, at any time. Its blocks are free at once, but for those that others hold and
  /// those of a migration under way, which are free when that ends. O(blocks + layers).
  void close(RequestId request) {
    LETHE_ASSERT(is_open(request));
    for (std::size_t layer = 0; layer < config_.layers; ++layer) {
      const std::size_t table = number(request, layer);
      const std::uint32_t migration = tables_[table].migration;
      if (migration != no_id) migrations_[migration].request = no_id;
      tables_.clear(table);
    }
    open_[request] = 0;
    unused_.push_back(request);
  }

  [[nodiscard]] bool is_open(RequestId request) const {
    return request < config_.requests && open_[request] != 0;
  }
  [[nodiscard]] std::size_t open_requests() const { return config_.requests - unused_.size(); }

  /// Room for so many more tokens at the end of one layer, in new blocks of `tier` where the last
  /// block is full. When others hold that last block, it is copied on write, in its own tier: see
  /// take_copies. All or nothing: false when a pool lacks blocks, and nothing has changed. Throws
  /// std::length_error when the table would pass config().request_blocks. O(blocks taken).
  [[nodiscard]] bool append(RequestId request, std::size_t layer, std::size_t tokens,
                            Tier tier = Tier::device) {
    LETHE_ASSERT(is_open(request));
    const std::size_t table = number(request, layer);
    return tables_.append(table, table + 1, tokens, tier);
  }

  /// The same in every layer, all or nothing. O(layers + blocks taken).
  [[nodiscard]] bool append(RequestId request, std::size_t tokens, Tier tier = Tier::device) {
    LETHE_ASSERT(is_open(request));
    const std::size_t first = number(request, 0);
    return tables_.append(first, first + config_.layers, tokens, tier);
  }

  /// The blocks that append would take for a layer, the copy of a shared one counted in. Throws as
  /// append does. O(1).
  [[nodiscard]] std::size_t blocks_needed(RequestId request, std::size_t layer,
                                          std::size_t tokens) const {
    detail::BlockNeed need{};
    tables_.add_need(number(request, layer), tokens, Tier::device, need);
    return need[0] + need[1];
  }

  /// Keeps a layer's first `tokens` tokens, or all when it has fewer, and gives back the blocks
  /// behind them. O(blocks given back).
  void truncate(RequestId request, std::size_t layer, std::size_t tokens) {
    LETHE_ASSERT(is_open(request));
    const std::size_t table = number(request, layer);
    tables_.cut(table, table + 1, tokens);
  }
  /// The same in every layer. O(layers + blocks given back).
  void truncate(RequestId request, std::size_t tokens) {
    LETHE_ASSERT(is_open(request));
    const std::size_t first = number(request, 0);
    tables_.cut(first, first + config_.layers, tokens);
  }

  [[nodiscard]] std::size_t tokens(RequestId request, std::size_t layer) const {
    return tables_[number(request, layer)].tokens;
  }
  /// The blocks that a layer's tokens lie in; valid until the table changes.
  [[nodiscard]] std::span<const Block> table(RequestId request, std::size_t layer) const {
    return tables_.blocks(number(request, layer));
  }
  /// The tier in which all of a layer's blocks lie; none for an empty table and one in both tiers.
  [[nodiscard]] std::optional<Tier> tier(RequestId request, std::size_t layer) const {
    const detail::TableRow& row = tables_[number(request, layer)];
    if (row.blocks == 0) return std::nullopt;
    if (row.host_blocks == 0) return Tier::device;
    return row.host_blocks == row.blocks ? std::optional(Tier::host) : std::nullopt;
  }

  [[nodiscard]] const BlockPool& pool(Tier tier) const { return tables_.pool(tier); }
  [[nodiscard]] std::size_t free_blocks(Tier tier) const { return pool(tier).free(); }
  /// Whether others hold the block too: tables, a prefix index, a migration.
  [[nodiscard]] bool shared(Block block) const { return pool(block.tier()).shared(block); }

  /// An empty layer of `to` begins with the first `blocks` blocks of `from`'s, which has as many
  /// and whose rows are written. No block is taken; who writes to a shared one first, copies it.
  /// O(blocks).
  void share(RequestId from, RequestId to, std::size_t layer, std::size_t blocks) {
    LETHE_ASSERT(is_open(from) && tokens(to, layer) == 0);
    LETHE_ASSERT(blocks <= table(from, layer).size());
    for (const Block block : table(from, layer).first(blocks)) adopt(to, layer, block);
    tables_.lend(number(from, layer), blocks);
    // The last of them may be partial.
    if (tokens(to, layer) > tokens(from, layer)) truncate(to, layer, tokens(from, layer));
  }

  /// A layer without a partial block goes on with a full one that somebody holds. O(1).
  void adopt(RequestId request, std::size_t layer, Block block) {
    LETHE_ASSERT(is_open(request));
    tables_.adopt(number(request, layer), block);
  }

  /// Holds the block of an entry beside the table, as a prefix index does, and returns it; each to
  /// be released once. O(1).
  Block retain(RequestId request, std::size_t layer, std::size_t entry) {
    LETHE_ASSERT(is_open(request));
    const Block block = table(request, layer)[entry];
    tables_.hold(block);
    tables_.lend(number(request, layer), entry + 1);
    ++retained_;
    return block;
  }
  void release(Block block) {
    LETHE_ASSERT(retained_ != 0);
    --retained_;
    tables_.drop(block);
  }

  /// Puts a block of its own, in the same tier, into an entry of a table whose block others hold
  /// too, and copies nothing. Returns it, or none when the pool lacks one. O(1).
  [[nodiscard]] std::optional<Block> unshare(RequestId request, std::size_t layer,
                                             std::size_t entry) {
    LETHE_ASSERT(is_open(request) && entry < table(request, layer).size());
    return tables_.unshare(number(request, layer), entry);
  }

  /// Begins to move a layer to a tier: takes a block there for each that lies elsewhere. The table
  /// shows the old blocks until finish_migration, and may be read, appended to, cut, shared and
  /// closed meanwhile; a block in flight that is appended to is copied first, and that copy stays
  /// behind. None when the pool lacks blocks, one is under way in the layer, or
  /// config().migrations are. O(blocks).
  [[nodiscard]] std::optional<MigrationId> begin_migration(RequestId request, std::size_t layer,
                                                           Tier to) {
    LETHE_ASSERT(is_open(request));
    detail::TableRow& row = tables_[number(request, layer)];
    const std::size_t count = to == Tier::device ? row.host_blocks : row.blocks - row.host_blocks;
    const std::span<Block> targets = targets_[0].first(count);
    if (row.migration != no_id || migrations_.full()) return std::nullopt;
    if (!tables_.pool(to).allocate(targets)) return std::nullopt;
    row.migration = migrations_.open(request, layer);
    row.shared_end = row.blocks;
    const std::span<const Block> held = table(request, layer);
    for (std::size_t entry = 0, i = 0; entry < held.size(); ++entry) {
      if (held[entry].tier() == to) continue;
      tables_.hold(held[entry]);
      migrations_.add(row.migration, entry, {held[entry], targets[i++]});
    }
    return row.migration;
  }

  /// The copies that a migration asks for, in the order of the table; valid until it ends. Copies
  /// that take_copies lists come before them.
  [[nodiscard]] std::span<const BlockMove> moves(MigrationId migration) const {
    return migrations_.moves(migration);
  }

  /// All of a migration's copies are made, and nobody reads the old blocks any more: the table
  /// shows the new ones from now on, and the old ones are free, but for those that others hold.
  /// What was cut or closed meanwhile is given back in both tiers. O(blocks).
  void finish_migration(MigrationId migration) { end_migration(migration, true); }

  /// None of a migration's copies is to be made or under way any more: the new blocks are free.
  /// O(blocks).
  void cancel_migration(MigrationId migration) { end_migration(migration, false); }

  /// Whether a migration is under way in the layer.
  [[nodiscard]] bool busy(RequestId request, std::size_t layer) const {
    return tables_[number(request, layer)].migration != no_id;
  }

  /// The copies on write since the last call, in any order: to be made before anything is written
  /// to the blocks handed out until now, and before the copies of a migration. The sources are kept
  /// until this call. The span is valid until the next append.
  [[nodiscard]] std::span<const BlockMove> take_copies() { return tables_.take_copies(); }

  /// The entries that were changed since the last call, one range a table, so that an engine with
  /// tables on its device sends these alone. Entries cut off are no change. The span is valid until
  /// the next call. O(ranges).
  [[nodiscard]] std::span<const TableDelta> take_deltas() { return tables_.take_deltas(); }

  /// Whether every invariant holds: each block is free or held, by as many as hold it, in one layer
  /// and entry; tables are as long as their tokens need. Allocates; O(blocks + tables).
  [[nodiscard]] bool consistent() const { return fault() == nullptr; }

  /// Throws std::logic_error that names the invariant which does not hold.
  void check() const {
    if (const char* found = fault()) {
      lethe::detail::raise<std::logic_error>(std::string("lethe: block tables: ") + found);
    }
  }

 private:
  [[nodiscard]] static BlockTablesConfig checked(const BlockTablesConfig& config) {
    using lethe::detail::require;
    constexpr std::size_t most = no_id;
    require(config.layers >= 1, "layers", config.layers, "choose at least 1");
    require(config.block_tokens >= 1, "block_tokens", config.block_tokens, "choose at least 1");
    require(config.requests >= 1, "requests", config.requests, "choose at least 1");
    require(config.request_blocks >= 1, "request_blocks", config.request_blocks,
            "choose at least 1");
    require(config.request_blocks <= most / config.block_tokens, "request_blocks",
            config.request_blocks, "a table holds fewer than 2^32 tokens: choose fewer blocks");
    require(config.requests < most / config.layers, "requests", config.requests,
            "there are fewer than 2^32 tables: choose fewer requests");
    require(config.migrations < most, "migrations", config.migrations, "choose fewer than 2^32");
    // Products that would wrap round, or that no machine holds.
    const std::size_t rows = std::max(config.requests * config.layers, config.migrations);
    require(config.request_blocks <= (std::size_t{1} << 48) / rows, "request_blocks",
            config.request_blocks,
            "keep requests x layers x request_blocks and migrations x request_blocks within 2^48");
    return config;
  }

  [[nodiscard]] std::size_t number(RequestId request, std::size_t layer) const {
    LETHE_ASSERT(request < config_.requests && layer < config_.layers);
    return request * config_.layers + layer;
  }

  void end_migration(MigrationId id, bool copied) {
    const detail::Migrations::Migration migration = migrations_[id];
    LETHE_ASSERT(migration.under_way);
    const bool open = migration.request != no_id;
    const std::size_t table = open ? number(migration.request, migration.layer) : 0;
    const std::span<const std::uint32_t> entries = migrations_.entries(id);
    for (std::size_t i = 0; i < migration.count; ++i) {
      const BlockMove move = migrations_.moves(id)[i];
      const std::span<const Block> shown = open ? tables_.blocks(table) : std::span<const Block>{};
      // Otherwise the block was cut off meanwhile, or copied on write.
      const bool moves = entries[i] < shown.size() && shown[entries[i]] == move.from;
      if (copied && moves) {
        tables_.replace(table, entries[i], move.to);
      } else {
        tables_.drop(move.to);
      }
      tables_.drop(move.from);
    }
    if (open) tables_[table].migration = no_id;
    migrations_.close(id);
  }

  /// The invariant that does not hold, or null.
  [[nodiscard]] const char* fault() const {
    for (const BlockPool& pool : tables_.pools()) {
      if (!pool.consistent()) return "a pool's free blocks";
    }
    detail::TableCensus census(config_.device_blocks, config_.host_blocks);
    for (std::size_t table = 0; table < tables_.size(); ++table) {
      if (const char* found = tables_.fault(table)) return found;
      if (!sound(table)) return "a closed request has blocks, or a migration is not its table's";
      census.count_table(tables_.blocks(table), table % config_.layers);
    }
    for (MigrationId id = 0; id < migrations_.size(); ++id) {
      if (migrations_[id].under_way) census.count_migration(migrations_.moves(id));
    }
    for (const BlockMove& move : tables_.copies()) census.count_copy(move);
    return census.fault(tables_.pools(), retained_);
  }

  [[nodiscard]] bool sound(std::size_t table) const {
    const detail::TableRow& row = tables_[table];
    const std::size_t request = table / config_.layers;
    if (open_[request] == 0) return row.blocks == 0 && row.migration == no_id;
    if (row.migration == no_id) return true;
    const detail::Migrations::Migration& migration = migrations_[row.migration];
    return migration.under_way && migration.request == request &&
           migration.layer == table % config_.layers;
  }

  BlockTablesConfig config_;
  detail::TableRows tables_;
  lethe::detail::FixedList<RequestId> unused_;
  std::vector<std::uint8_t> open_;
  detail::Migrations migrations_;
  /// Of the migration that is being begun.
  detail::RawRows<Block> targets_;
  /// Holds beside the tables.
  std::size_t retained_ = 0;
};

}  // namespace lethe::layerkv
