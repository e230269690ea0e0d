/// Layers on their way from one tier to the other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/fixed_list.hpp"
#include "lethe/layerkv/ids.hpp"
#include "lethe/layerkv/pending_copies.hpp"
#include "lethe/layerkv/raw_rows.hpp"

namespace lethe::layerkv::detail {

/// What each migration moves, and for whom.
class Migrations {
 public:
  struct Migration {
    /// no_id: the request was closed meanwhile.
    RequestId request = no_id;
    std::uint32_t layer = 0;
    std::uint32_t count = 0;
    bool under_way = false;
  };

  /// count: under way at most; blocks: that one moves at most.
  Migrations(std::size_t count, std::size_t blocks)
      : unused_(count), list_(count), moves_(count, blocks), entries_(count, blocks) {
    for (std::size_t id = count; id > 0; --id) {
      unused_.push_back(static_cast<MigrationId>(id - 1));
    }
  }

  [[nodiscard]] bool full() const { return unused_.empty(); }
  [[nodiscard]] std::size_t size() const { return list_.size(); }
  [[nodiscard]] Migration& operator[](MigrationId id) { return list_[id]; }
  [[nodiscard]] const Migration& operator[](MigrationId id) const { return list_[id]; }

  [[nodiscard]] std::span<const BlockMove> moves(MigrationId id) const {
    return moves_[id].first(list_[id].count);
  }
  /// The entry of its table that each block moves from.
  [[nodiscard]] std::span<const std::uint32_t> entries(MigrationId id) const {
    return entries_[id].first(list_[id].count);
  }

  [[nodiscard]] MigrationId open(RequestId request, std::size_t layer) {
    const MigrationId id = unused_.pop_back();
    list_[id] = {.request = request, .layer = static_cast<std::uint32_t>(layer), .under_way = true};
    return id;
  }
  void add(MigrationId id, std::size_t entry, BlockMove move) {
    Migration& migration = list_[id];
    moves_[id][migration.count] = move;
    entries_[id][migration.count++] = static_cast<std::uint32_t>(entry);
  }
  void close(MigrationId id) {
    list_[id].under_way = false;
    unused_.push_back(id);
  }

 private:
  lethe::detail::FixedList<MigrationId> unused_;
  std::vector<Migration> list_;
  RawRows<BlockMove> moves_;
  RawRows<std::uint32_t> entries_;
};

}  // namespace lethe::layerkv::detail
