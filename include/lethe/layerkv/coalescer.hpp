/// Moves of blocks, turned into as few copies of contiguous bytes as there can be.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "lethe/config.hpp"
#include "lethe/layerkv/copier.hpp"

namespace lethe::layerkv {

/// One array of blocks (the keys of a pool, say) as a migration sees it: block i of the source lies
/// at source + i x source_stride, of the target at target + i x target_stride.
struct BlockArray {
  const std::byte* source = nullptr;
  std::byte* target = nullptr;
  /// What is copied of each block.
  std::size_t block_bytes = 0;
  /// Bytes from one block to the next; 0: block_bytes.
  std::size_t source_stride = 0;
  std::size_t target_stride = 0;
};

/// Settings of Coalescer.
struct CoalescerConfig {
  /// Most blocks of one call: the blocks of a layer's longest table.
  std::size_t blocks = 0;
  /// Most arrays of one call; two, since engines keep keys and values apart.
  std::size_t arrays = 2;
  /// Most bytes of one copy; 0: no limit. A queue cuts copies into slices by itself.
  std::size_t copy_bytes = 0;

  bool operator==(const CoalescerConfig&) const = default;
};

namespace detail {

/// The index of a block that is one, or that knows its own.
template <class Block>
[[nodiscard]] constexpr std::uint32_t block_index(const Block& block) {
  if constexpr (std::integral<Block>) {
    return static_cast<std::uint32_t>(block);
  } else {
    return static_cast<std::uint32_t>(block.index());
  }
}

/// Joins `next` to `last` where it continues it on both sides, as far as `most` bytes; false: not.
/// What has no target continues there in any case.
[[nodiscard]] inline bool extend(ByteCopy& last, const ByteCopy& next, std::size_t most) {
  const bool continues = last.source + last.bytes == next.source &&
                         (next.target == nullptr || last.target + last.bytes == next.target);
  if (!continues || last.bytes + next.bytes > most) return false;
  last.bytes += next.bytes;
  return true;
}

}  // namespace detail

/// Finds runs in the moves of blocks. What a call returns is valid until the next; nothing is
/// allocated after construction.
class Coalescer {
 public:
  using Config = CoalescerConfig;

  /// Throws std::invalid_argument when blocks or arrays is 0.
  explicit Coalescer(const Config& config)
      : config_(config),
        moves_(config.blocks),
        copies_(std::make_unique_for_overwrite<ByteCopy[]>(config.blocks * config.arrays)) {
    lethe::detail::require(config.blocks >= 1, "blocks", config.blocks,
                           "give the blocks of the longest table");
    lethe::detail::require(config.arrays >= 1, "arrays", config.arrays,
                           "give the arrays a block is kept in");
  }

  /// The copies that carry every block move.from of each array's source to block move.to of its
  /// target: one a run of blocks that neighbour each other on both sides, cut at copy_bytes
  /// (a block is never cut), ordered by source. A block is an index, or has index(). No source and
  /// no target comes twice. O(n) for moves whose sources ascend, else O(n log n).
  template <class Move>
  [[nodiscard]] std::span<const ByteCopy> copies(std::span<const Move> moves,
                                                 std::span<const BlockArray> arrays) {
    LETHE_ASSERT(moves.size() <= config_.blocks && arrays.size() <= config_.arrays);
    take(moves);
    count_ = 0;
    for (const BlockArray& array : arrays) {
      for (const Pair& move : std::span(moves_).first(moves.size())) {
        add(array, move, array.target + move.to * stride(array.target_stride, array));
      }
    }
    return {copies_.get(), count_};
  }

  /// The copies that pack the blocks, in their order, into a staging buffer: all blocks of the
  /// first array, then those of the second. They have no target: it is where the copies before
  /// end (Staging::into). One copy a run of neighbouring blocks. O(n).
  template <class Block>
  [[nodiscard]] std::span<const ByteCopy> packed(std::span<const Block> blocks,
                                                 std::span<const BlockArray> arrays) {
    LETHE_ASSERT(blocks.size() <= config_.blocks && arrays.size() <= config_.arrays);
    count_ = 0;
    for (const BlockArray& array : arrays) {
      for (const Block& block : blocks) add(array, {detail::block_index(block), 0}, nullptr);
    }
    return {copies_.get(), count_};
  }

 private:
  struct Pair {
    std::uint32_t from;
    std::uint32_t to;
  };

  [[nodiscard]] static std::size_t stride(std::size_t given, const BlockArray& array) {
    return given != 0 ? given : array.block_bytes;
  }

  /// A run is found by its sources alone once they ascend.
  template <class Move>
  void take(std::span<const Move> moves) {
    const auto last = std::transform(moves.begin(), moves.end(), moves_.begin(), [](const Move& m) {
      return Pair{detail::block_index(m.from), detail::block_index(m.to)};
    });
    const auto earlier = [](const Pair& a, const Pair& b) { return a.from < b.from; };
    if (!std::is_sorted(moves_.begin(), last, earlier)) std::sort(moves_.begin(), last, earlier);
  }

  /// target: null for a copy that has none.
  void add(const BlockArray& array, Pair move, std::byte* target) {
    const ByteCopy next{array.source + move.from * stride(array.source_stride, array), target,
                        array.block_bytes};
    const std::size_t most = config_.copy_bytes != 0 ? config_.copy_bytes : ~std::size_t{0};
    if (count_ != 0 && detail::extend(copies_[count_ - 1], next, most)) return;
    copies_[count_++] = next;
  }

  Config config_;
  std::vector<Pair> moves_;
  std::unique_ptr<ByteCopy[]> copies_;
  std::size_t count_ = 0;
};

}  // namespace lethe::layerkv
