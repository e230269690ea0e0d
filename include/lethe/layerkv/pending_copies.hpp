/// Copies of blocks that an engine has yet to make.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/config.hpp"
#include "lethe/layerkv/block_pool.hpp"
#include "lethe/layerkv/raw_rows.hpp"

namespace lethe::layerkv {

/// The rows of block `from` go to block `to`.
struct BlockMove {
  Block from;
  Block to;
  bool operator==(const BlockMove&) const = default;
};

namespace detail {

/// A list of moves, each found by its target. Targets differ and no source is a target, so the
/// moves may be made in any order. Every call is O(1).
class PendingCopies {
 public:
  /// Targets are blocks of these counts.
  PendingCopies(std::size_t device_blocks, std::size_t host_blocks)
      : device_blocks_(device_blocks),
        moves_(1, device_blocks + host_blocks),
        places_(device_blocks + host_blocks, 0) {}

  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] std::span<const BlockMove> moves() const { return moves_[0].first(size_); }
  void clear() { size_ = 0; }

  /// The move whose target is `block`; null when there is none.
  [[nodiscard]] const BlockMove* find(Block block) const {
    if (size_ == 0) return nullptr;
    // A place may be out of date: the move it points to decides.
    const std::uint32_t place = places_[number(block)];
    return place < size_ && moves_[0][place].to == block ? &moves_[0][place] : nullptr;
  }

  void add(BlockMove move) {
    LETHE_ASSERT(find(move.to) == nullptr);
    places_[number(move.to)] = static_cast<std::uint32_t>(size_);
    moves_[0][size_++] = move;
  }

  /// move: from find.
  void erase(const BlockMove* move) {
    const auto place = static_cast<std::uint32_t>(move - moves_[0].data());
    const BlockMove last = moves_[0][--size_];
    moves_[0][place] = last;
    places_[number(last.to)] = place;
  }

 private:
  [[nodiscard]] std::size_t number(Block block) const {
    return block.index() + (block.tier() == Tier::host ? device_blocks_ : 0);
  }

  std::size_t device_blocks_;
  std::size_t size_ = 0;
  RawRows<BlockMove> moves_;
  std::vector<std::uint32_t> places_;
};

}  // namespace detail
}  // namespace lethe::layerkv
