/// Finds the blocks of a prompt's beginning that an earlier request has left, and keeps them for
/// the next one until the room is needed.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/config.hpp"
#include "lethe/fixed_list.hpp"
#include "lethe/layerkv/block_tables.hpp"
#include "lethe/layerkv/index_lists.hpp"
#include "lethe/layerkv/raw_rows.hpp"
#include "lethe/numeric.hpp"

namespace lethe::layerkv {

/// What stands for a full block of a prompt and all that comes before it. Whoever has 64 bits
/// leaves `high` at 0.
struct BlockHash {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  bool operator==(const BlockHash&) const = default;
};

/// The hash of a block that follows `parent` (BlockHash{} for the first), from its tokens: mixed,
/// not cryptographic. O(tokens).
[[nodiscard]] constexpr BlockHash hash_block(BlockHash parent,
                                             std::span<const std::uint32_t> tokens) {
  using lethe::detail::mix;
  BlockHash hash{mix(parent.low ^ tokens.size()), mix(parent.high + 0x9E3779B97F4A7C15u)};
  for (const std::uint32_t token : tokens) {
    hash.low = mix(hash.low ^ token);
    hash.high = mix(hash.high + token) ^ hash.low;
  }
  return hash;
}

/// Full blocks of prompts by their hashes. An entry stands for one block of tokens in all layers,
/// and holds the layers' blocks; it is found from the entry before it and the hash, so two prompts
/// are taken for one only when hashes collide behind one prefix: about n^2 / 2^129 for n blocks of
/// well mixed 128-bit hashes, n^2 / 2^65 for 64 bits. Where prompts come from strangers, give it
/// hashes that they cannot steer (keyed, cryptographic).
///
/// An entry is in use while a request that has acquired or inserted it is not released. Others stay
/// until evicted, least recently released first, a prefix after what continues it. Nothing is
/// allocated after construction. Memory: 56 + 4 x layers bytes an entry.
class PrefixIndex {
 public:
  /// tables: settings of the tables that all calls are given. entries: kept at most; 0: as many as
  /// the pools' blocks allow. Throws std::invalid_argument for 2^31 entries and more.
  explicit PrefixIndex(const BlockTablesConfig& tables, std::size_t entries = 0)
      : layers_(tables.layers),
        entries_(checked(tables, entries)),
        blocks_(entries_.size(), tables.layers),
        buckets_(std::bit_ceil(entries_.size()), no_id),
        lists_(entries_.size(), 2),
        unused_(entries_.size()),
        paths_(tables.requests) {
    for (std::size_t entry = entries_.size(); entry > 0; --entry) {
      unused_.push_back(static_cast<std::uint32_t>(entry - 1));
    }
  }

  /// How many of a prompt's first blocks are cached. chain: the hashes of its full blocks, in
  /// order. O(blocks found).
  [[nodiscard]] std::size_t find(std::span<const BlockHash> chain) const {
    Path path;
    while (path.length < chain.size()) {
      const std::uint32_t entry = child(path.last, chain[path.length]);
      if (entry == no_id) break;
      path = {entry, path.length + 1};
    }
    return path.length;
  }

  /// An empty request begins with the cached blocks of its prompt: every layer's table shows them,
  /// in the tier where they lie. Returns how many; they stay in use until release. An engine that
  /// needs the last token's output leaves that token's block off the chain. O(blocks x layers).
  std::size_t acquire(BlockTables& tables, RequestId request, std::span<const BlockHash> chain) {
    Path& path = paths_[request];
    LETHE_ASSERT(path.length == 0 && tables.tokens(request, 0) == 0);
    while (path.length < chain.size()) {
      const std::uint32_t entry = child(path.last, chain[path.length]);
      if (entry == no_id) break;
      enter(path, entry);
      for (std::size_t layer = 0; layer < layers_; ++layer) {
        tables.adopt(request, layer, blocks_[entry][layer]);
      }
    }
    return path.length;
  }

  /// Makes a request's first chain.size() blocks known: full and written in every layer, no token
  /// dropped. The chain begins with what the request has acquired or inserted before. What is known
  /// already stays as it is, and the request keeps blocks of its own. Entries that are not in use
  /// make way when there is no other. Returns how many of the blocks are now found.
  /// O(blocks x layers).
  std::size_t insert(BlockTables& tables, RequestId request, std::span<const BlockHash> chain) {
    Path& path = paths_[request];
    while (path.length < chain.size()) {
      std::uint32_t entry = child(path.last, chain[path.length]);
      if (entry == no_id) {
        if (unused_.empty() && !evict_one(tables)) break;
        entry = add(tables, request, path, chain[path.length]);
      }
      enter(path, entry);
    }
    return path.length;
  }

  /// The request uses none of its entries any more: at its end, or so that its layers can be moved
  /// to the host without the index holding their old blocks in use. May be called twice. O(blocks).
  void release(RequestId request) {
    Path& path = paths_[request];
    // Last block first: so no entry is idle for longer than what it continues.
    for (std::uint32_t entry = path.last; entry != no_id; entry = entries_[entry].parent) {
      if (--entries_[entry].users == 0) rest(entry);
    }
    path = {};
  }

  /// Evicts until `blocks` blocks of the tier are free. False, and nothing is evicted, when
  /// free_blocks + evictable_blocks are fewer; false, too, when all is evicted and blocks that are
  /// held elsewhere are still missing. O(entries evicted x layers).
  bool evict(BlockTables& tables, Tier tier, std::size_t blocks) {
    if (tables.free_blocks(tier) + evictable_blocks(tier) < blocks) return false;
    while (tables.free_blocks(tier) < blocks) {
      if (!evict_one(tables)) return false;
    }
    return true;
  }

  /// BlockTables::append in every layer, with eviction when the pool lacks blocks.
  [[nodiscard]] bool append(BlockTables& tables, RequestId request, std::size_t tokens,
                            Tier tier = Tier::device) {
    if (tables.append(request, tokens, tier)) return true;
    std::size_t blocks = 0;
    for (std::size_t layer = 0; layer < layers_; ++layer) {
      blocks += tables.blocks_needed(request, layer, tokens);
    }
    return evict(tables, tier, blocks) && tables.append(request, tokens, tier);
  }

  /// Entries kept, and how many of these are in use by no request.
  [[nodiscard]] std::size_t size() const { return entries_.size() - unused_.size(); }
  [[nodiscard]] std::size_t idle() const { return idle_count_; }
  /// Blocks of a tier that entries not in use hold.
  [[nodiscard]] std::size_t evictable_blocks(Tier tier) const {
    return evictable_[static_cast<std::size_t>(tier)];
  }

  /// Whether each entry is in use by as many requests as have it on their path, idle ones are
  /// listed, and every entry is found from the one before it. Allocates; O(entries + requests x
  /// blocks).
  [[nodiscard]] bool consistent() const {
    std::vector<std::uint32_t> users(entries_.size(), 0);
    for (const Path& path : paths_) {
      std::size_t length = 0;
      for (std::uint32_t entry = path.last; entry != no_id; entry = entries_[entry].parent) {
        ++users[entry];
        ++length;
      }
      if (length != path.length) return false;
    }
    std::size_t known = 0;
    for (std::uint32_t head : buckets_) {
      for (; head != no_id; head = entries_[head].next) {
        if (!sound(head, users[head])) return false;
        ++known;
      }
    }
    return known == size();
  }

 private:
  struct Entry {
    BlockHash hash{};
    /// The entry of the block before; no_id for a prompt's first.
    std::uint32_t parent = no_id;
    /// The next of its bucket.
    std::uint32_t next = no_id;
    /// Requests that have it on their path; then they have its parents too.
    std::uint32_t users = 0;
    std::uint32_t host_blocks = 0;
  };
  /// The lists that entries are in.
  enum List : std::size_t { others, idle_list };
  /// A request's entries: the last one, from which the others follow, and how many.
  struct Path {
    std::uint32_t last = no_id;
    std::size_t length = 0;
  };

  [[nodiscard]] static std::vector<Entry> checked(const BlockTablesConfig& tables,
                                                  std::size_t entries) {
    const std::size_t blocks = tables.device_blocks + tables.host_blocks;
    const std::size_t most = blocks / std::max<std::size_t>(1, tables.layers);
    const std::size_t count = std::max<std::size_t>(1, entries != 0 ? entries : most);
    lethe::detail::require(count < BlockPool::most_blocks, "entries", count,
                           "an index has fewer than 2^31: choose fewer");
    return std::vector<Entry>(count);
  }

  [[nodiscard]] std::uint32_t& bucket_of(std::uint32_t parent, BlockHash hash) {
    return buckets_[bucket(parent, hash)];
  }
  [[nodiscard]] std::size_t bucket(std::uint32_t parent, BlockHash hash) const {
    using lethe::detail::mix;
    return mix(hash.low ^ mix(hash.high + parent)) & (buckets_.size() - 1);
  }

  /// The entry that continues `parent` with `hash`, or no_id.
  [[nodiscard]] std::uint32_t child(std::uint32_t parent, BlockHash hash) const {
    std::uint32_t entry = buckets_[bucket(parent, hash)];
    while (entry != no_id && (entries_[entry].parent != parent || entries_[entry].hash != hash)) {
      entry = entries_[entry].next;
    }
    return entry;
  }

  /// An entry in use by nobody, for the request's block behind its path.
  [[nodiscard]] std::uint32_t add(BlockTables& tables, RequestId request, const Path& path,
                                  BlockHash hash) {
    const std::uint32_t entry = unused_.pop_back();
    std::uint32_t& head = bucket_of(path.last, hash);
    entries_[entry] = {.hash = hash, .parent = path.last, .next = head};
    head = entry;
    for (std::size_t layer = 0; layer < layers_; ++layer) {
      LETHE_ASSERT(tables.tokens(request, layer) / tables.config().block_tokens > path.length);
      const Block block = tables.retain(request, layer, path.length);
      blocks_[entry][layer] = block;
      if (block.tier() == Tier::host) ++entries_[entry].host_blocks;
    }
    rest(entry);
    return entry;
  }

  void enter(Path& path, std::uint32_t entry) {
    if (entries_[entry].users++ == 0) wake(entry);
    path = {entry, path.length + 1};
  }

  /// In use by nobody from now on, or no longer so.
  void rest(std::uint32_t entry) {
    LETHE_ASSERT(lists_.list_of(entry) != idle_list);
    lists_.move_to_back(entry, idle_list);
    ++idle_count_;
    evictable_[0] += layers_ - entries_[entry].host_blocks;
    evictable_[1] += entries_[entry].host_blocks;
  }
  void wake(std::uint32_t entry) {
    LETHE_ASSERT(lists_.list_of(entry) == idle_list);
    lists_.move_to_back(entry, others);
    --idle_count_;
    evictable_[0] -= layers_ - entries_[entry].host_blocks;
    evictable_[1] -= entries_[entry].host_blocks;
  }

  /// Forgets the entry that was released first; nothing continues it. False: all are in use.
  bool evict_one(BlockTables& tables) {
    if (lists_.empty(idle_list)) return false;
    const auto entry = static_cast<std::uint32_t>(lists_.front(idle_list));
    wake(entry);
    std::uint32_t* link = &bucket_of(entries_[entry].parent, entries_[entry].hash);
    while (*link != entry) link = &entries_[*link].next;
    *link = entries_[entry].next;
    for (const Block block : blocks_[entry]) tables.release(block);
    unused_.push_back(entry);
    return true;
  }

  [[nodiscard]] bool sound(std::uint32_t number, std::uint32_t users) const {
    const Entry& entry = entries_[number];
    const bool found = child(entry.parent, entry.hash) == number;
    const bool follows = entry.parent == no_id || entries_[entry.parent].users >= entry.users;
    const bool is_idle = lists_.list_of(number) == idle_list;
    return found && follows && entry.users == users && is_idle == (users == 0);
  }

  std::size_t layers_;
  std::vector<Entry> entries_;
  detail::RawRows<Block> blocks_;
  std::vector<std::uint32_t> buckets_;
  /// The idle entries, the one released first in front; and all others.
  detail::IndexLists lists_;
  std::size_t idle_count_ = 0;
  lethe::detail::FixedList<std::uint32_t> unused_;
  std::vector<Path> paths_;
  /// Blocks of idle entries, by tier.
  std::array<std::size_t, 2> evictable_{};
};

}  // namespace lethe::layerkv
