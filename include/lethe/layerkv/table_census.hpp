/// Counts who holds which block, to be compared with what the pools say.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/layerkv/block_pool.hpp"
#include "lethe/layerkv/pending_copies.hpp"

namespace lethe::layerkv::detail {

/// For a check of block tables: told of everything that holds a block. Blocks out of range are
/// remembered as a fault.
class TableCensus {
 public:
  TableCensus(std::size_t device_blocks, std::size_t host_blocks)
      : found_{std::vector<Found>(device_blocks), std::vector<Found>(host_blocks)} {}

  void count_table(std::span<const Block> table, std::size_t layer) {
    for (std::size_t entry = 0; entry < table.size(); ++entry) {
      Found* found = find(table[entry]);
      if (found == nullptr) continue;
      const Place place{layer, entry};
      if (found->in_tables != 0 && found->place != place) misplaced_ = true;
      found->place = place;
      ++found->in_tables;
      ++found->holders;
    }
  }
  void count_migration(std::span<const BlockMove> moves) {
    for (const BlockMove& move : moves) {
      if (Found* from = find(move.from)) ++from->holders;
      if (Found* to = find(move.to)) ++to->holders;
    }
  }
  void count_copy(const BlockMove& move) {
    if (Found* from = find(move.from)) ++from->pins;
    if (Found* to = find(move.to)) ++to->written;
  }

  /// What is wrong, or null; retained: holds that were not counted here.
  [[nodiscard]] const char* fault(std::span<const BlockPool> pools, std::size_t retained) const {
    if (out_of_range_) return "a block is out of range";
    if (misplaced_) return "a block stands in two places";
    std::size_t others = 0;
    for (const BlockPool& pool : pools) {
      for (std::size_t i = 0; i < pool.size(); ++i) {
        const Block block(pool.tier(), i);
        const Found& found = found_[static_cast<std::size_t>(pool.tier())][i];
        if (pool.holders(block) < found.holders) return "a block is held by more than are counted";
        if (pool.pins(block) != found.pins) return "a block's pending copies are miscounted";
        if (found.written > 1 ||
            (found.written != 0 && (found.pins != 0 || pool.holders(block) == 0))) {
          return "a pending copy's target is not its own";
        }
        others += pool.holders(block) - found.holders;
      }
    }
    return others == retained ? nullptr : "a block is held by fewer than are counted";
  }

 private:
  struct Place {
    std::size_t layer = 0;
    std::size_t entry = 0;
    bool operator==(const Place&) const = default;
  };
  struct Found {
    std::uint32_t holders = 0;
    std::uint32_t pins = 0;
    std::uint32_t in_tables = 0;
    std::uint32_t written = 0;
    Place place{};
  };

  [[nodiscard]] Found* find(Block block) {
    std::vector<Found>& tier = found_[static_cast<std::size_t>(block.tier())];
    if (block.index() < tier.size()) return &tier[block.index()];
    out_of_range_ = true;
    return nullptr;
  }

  std::array<std::vector<Found>, 2> found_;
  bool out_of_range_ = false;
  bool misplaced_ = false;
};

}  // namespace lethe::layerkv::detail
