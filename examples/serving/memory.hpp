#pragma once

#include <cstddef>
#include <cstdint>
#include <lethe/layerkv/block_tables.hpp>
#include <lethe/layerkv/prefix_index.hpp>
#include <optional>
#include <span>
#include <vector>

#include "engine_settings.hpp"
#include "live.hpp"
#include "trace.hpp"

namespace serving {

/// The blocks of requests that run, and those that earlier ones left for prompts that begin alike.
///
/// All of it is lethe::layerkv::BlockTables and PrefixIndex; here is what a request of a trace asks
/// of them. A request has one table: all layers always have the same blocks.
class Memory {
 public:
  /// longest: tokens of the longest request. host_blocks: for requests that are swapped out.
  Memory(const Trace& trace, const EngineSettings& settings, std::size_t device_blocks,
         std::size_t longest, std::size_t host_blocks = 0);

  /// Device blocks that could be taken now: free ones, and those that only the prefix index holds.
  std::size_t available() const;
  std::size_t size() const { return tables_.config().device_blocks; }

  /// Begins a request: there is room for all it knows (`whole`) or for its first part, and it takes
  /// the room of that part, of at most `budget` tokens. What the prefix index has of it is reused:
  /// live.computed tokens. False when the blocks do not suffice; nothing has changed then.
  bool admit(Live& live, std::size_t budget, bool whole);
  /// Room for `tokens` tokens in all; false when the blocks do not suffice.
  bool grow(Live& live, std::size_t tokens);
  /// Shows the prefix index what was computed.
  void publish(Live& live);
  /// Begins to move all of a request's blocks to a tier; what it has computed is not shown to the
  /// prefix index on the host. None when the tier lacks blocks, or too many are on their way.
  std::optional<lethe::layerkv::MigrationId> begin_move(Live& live, lethe::layerkv::Tier to);
  /// Gives back a request's blocks; the prefix index keeps what it knows of them while it can.
  void release(Live& live);

  lethe::layerkv::BlockTables& tables() { return tables_; }
  const lethe::layerkv::BlockTables& tables() const { return tables_; }

 private:
  using Hash = lethe::layerkv::BlockHash;

  Hash hash(const Live& live, std::size_t block) const;
  std::span<const Hash> chain(const Live& live, std::size_t blocks);
  bool has_room(const Live& live, std::size_t found, std::size_t budget, bool whole) const;

  const Trace& trace_;
  EngineSettings settings_;
  lethe::layerkv::BlockTables tables_;
  std::optional<lethe::layerkv::PrefixIndex> index_;
  std::vector<std::vector<Hash>> chains_;  ///< of the requests that run, by their id
  std::vector<Hash> next_chain_;           ///< of the request that waits first
  std::uint32_t next_index_ = 0;
};

}  // namespace serving
