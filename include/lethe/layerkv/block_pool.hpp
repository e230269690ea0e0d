/// The free blocks of one tier, and how many hold each of the others.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lethe/config.hpp"
#include "lethe/layerkv/index_set.hpp"

namespace lethe::layerkv {

/// Where a block lies.
enum class Tier : std::uint8_t { device, host };

/// A block: block_tokens tokens of one layer, in one tier's memory. An array of them may be left
/// uninitialised.
class Block {
 public:
  Block() = default;
  /// index: below 2^31.
  constexpr Block(Tier tier, std::size_t index)
      : bits_(static_cast<std::uint32_t>(index) | static_cast<std::uint32_t>(tier) << 31) {}

  [[nodiscard]] constexpr Tier tier() const { return static_cast<Tier>(bits_ >> 31); }
  /// Which block of its tier: its memory begins at index x bytes of a block.
  [[nodiscard]] constexpr std::uint32_t index() const { return bits_ & 0x7FFFFFFFu; }
  bool operator==(const Block&) const = default;

 private:
  std::uint32_t bits_;
};

/// Hands out the blocks of one tier. Runs come in neighbouring blocks where there are any, so that
/// copies of them join into few; single blocks come out of what is broken already. The same calls
/// give the same blocks, so the ranks of a tensor-parallel engine need not talk about them.
///
/// A run is sought among whole groups of 64 blocks and, for what is less, in a few groups that are
/// broken: no search for the best fit, so a call is O(blocks handed out). Allocates nothing after
/// construction. Memory: 8 bytes and 1.03 bits a block.
class BlockPool {
 public:
  static constexpr std::size_t most_blocks = std::size_t{1} << 31;

  /// blocks: all free; may be 0. Throws std::invalid_argument above 2^31.
  BlockPool(Tier tier, std::size_t blocks)
      : tier_(tier), blocks_(checked(blocks)), uses_(blocks), partial_(groups()), whole_(groups()) {
    free_bits_.resize(groups(), 0);
    for (std::size_t i = 0; i < blocks; ++i) put(i);
  }

  [[nodiscard]] Tier tier() const { return tier_; }
  [[nodiscard]] std::size_t size() const { return blocks_; }
  [[nodiscard]] std::size_t free() const { return free_; }

  /// One block, held once; none when all are in use. O(1).
  [[nodiscard]] std::optional<Block> allocate() {
    if (free_ == 0) return std::nullopt;
    Block block;
    allocate_singly({&block, 1});
    return block;
  }

  /// Blocks that need not be neighbours, held once each; as many are free. O(out.size()).
  void allocate_singly(std::span<Block> out) {
    LETHE_ASSERT(out.size() <= free_);
    free_ -= out.size();
    while (!out.empty()) {
      // The group broken last goes first, as long as it is.
      if (free_bits_[group_] + 1 <= 1) {
        group_ = partial_.empty() ? whole_.first() : partial_.first();
      }
      out = out.subspan(take_singly(group_, out));
    }
  }

  /// Fills `out` with blocks held once each, in neighbouring ones as far as it can; all or nothing:
  /// false when fewer are free. after: the block that the run should follow. O(out.size()).
  [[nodiscard]] bool allocate(std::span<Block> out, std::optional<Block> after = std::nullopt) {
    if (out.size() > free_) return false;
    std::size_t next = after ? after->index() + std::size_t{1} : blocks_;
    while (!out.empty()) {
      const Run run = next < blocks_ && is_free(next) ? run_at(next, out.size()) : find(out.size());
      take(run.first / 64, run.first % 64, run.count);
      for (std::size_t i = 0; i < run.count; ++i) out[i] = Block(tier_, run.first + i);
      out = out.subspan(run.count);
      next = run.first + run.count;
    }
    return true;
  }

  /// One more holds the block, which is in use. O(1).
  void retain(Block block) {
    LETHE_ASSERT(in_use(block));
    ++uses_[block.index()].holders;
  }

  /// One less holds the block; true when nobody does any more. It is free then, unless pinned.
  /// O(1).
  bool release(Block block) {
    Use& use = uses_[block.index()];
    LETHE_ASSERT(in_use(block) && use.holders != 0);
    if (--use.holders != 0) return false;
    if (use.pins == 0) put(block.index());
    return true;
  }

  /// Releases the leading blocks that lie in this tier, and returns how many these are.
  std::size_t release(std::span<const Block> blocks) {
    std::size_t count = 0;
    while (count < blocks.size() && blocks[count].tier() == tier_) {
      Use& use = uses_[blocks[count].index()];
      LETHE_ASSERT(use.holders != 0);
      --use.holders;
      if ((use.holders | use.pins) == 0) put(blocks[count].index());
      ++count;
    }
    return count;
  }

  /// The block, which is held, is to be read by a copy: not free before unpin, though who holds it
  /// alone may write to it. O(1).
  void pin(Block block) {
    LETHE_ASSERT(in_use(block));
    ++uses_[block.index()].pins;
  }
  void unpin(Block block) {
    Use& use = uses_[block.index()];
    LETHE_ASSERT(in_use(block) && use.pins != 0);
    if (--use.pins == 0 && use.holders == 0) put(block.index());
  }

  /// How many hold the block.
  [[nodiscard]] std::uint32_t holders(Block block) const { return uses_[block.index()].holders; }
  [[nodiscard]] std::uint32_t pins(Block block) const { return uses_[block.index()].pins; }
  /// Whether it is to be copied before it is written to.
  [[nodiscard]] bool shared(Block block) const { return holders(block) > 1; }

  /// Whether free blocks are held and pinned by none, the others by some, and their count and their
  /// index agree. O(size()).
  [[nodiscard]] bool consistent() const {
    std::size_t count = 0;
    for (std::size_t i = 0; i < blocks_; ++i) {
      if (is_free(i) != (uses_[i] == Use{})) return false;
      count += is_free(i) ? 1u : 0u;
    }
    for (std::size_t group = 0; group < free_bits_.size(); ++group) {
      const std::uint64_t bits = free_bits_[group];
      if (whole_.contains(group) != (bits == whole)) return false;
      if (partial_.contains(group) != (bits != whole && bits != 0)) return false;
    }
    return count == free_;
  }

 private:
  static constexpr std::uint64_t whole = ~std::uint64_t{0};
  /// Broken groups looked at for a run.
  static constexpr int attempts = 4;

  struct Use {
    std::uint32_t holders = 0;
    std::uint32_t pins = 0;
    bool operator==(const Use&) const = default;
  };
  /// Neighbouring free blocks of one group.
  struct Run {
    std::size_t first;
    std::size_t count;
  };

  [[nodiscard]] static std::size_t checked(std::size_t blocks) {
    lethe::detail::require(blocks <= most_blocks, "blocks", blocks,
                           "a tier has 2^31 at most: choose larger blocks");
    return blocks;
  }
  [[nodiscard]] std::size_t groups() const { return std::max<std::size_t>(1, (blocks_ + 63) / 64); }
  [[nodiscard]] bool in_use(Block block) const {
    return block.tier() == tier_ && block.index() < blocks_ && uses_[block.index()] != Use{};
  }
  [[nodiscard]] bool is_free(std::size_t index) const {
    return (free_bits_[index / 64] >> (index % 64) & 1u) != 0;
  }
  [[nodiscard]] static std::uint64_t ones(std::size_t count) {
    return count >= 64 ? whole : (std::uint64_t{1} << count) - 1;
  }

  /// The free blocks from `index` on, within its group, `count` at most.
  [[nodiscard]] Run run_at(std::size_t index, std::size_t count) const {
    const std::uint64_t rest = free_bits_[index / 64] >> (index % 64);
    return {index, std::min(count, static_cast<std::size_t>(std::countr_one(rest)))};
  }

  /// `count` neighbours, or as many as are quickly found; some block is free.
  [[nodiscard]] Run find(std::size_t count) const {
    const bool broken = !partial_.empty();
    std::size_t group = broken && count < 64 ? partial_.first() : detail::IndexSet::none;
    for (int i = 0; i < attempts && group != detail::IndexSet::none; ++i) {
      const std::uint64_t starts = starts_of_runs(free_bits_[group], count);
      if (starts != 0) return run_at(group * 64 + first_bit(starts), count);
      group = partial_.next(group);
    }
    if (!whole_.empty()) return run_up_to(whole_.first(), count);
    group = partial_.first();
    return run_at(group * 64 + first_bit(free_bits_[group]), count);
  }

  /// From the blocks that are free in front of a whole group, or else from its first.
  [[nodiscard]] Run run_up_to(std::size_t group, std::size_t count) const {
    const int tail = group == 0 ? 0 : std::countl_one(free_bits_[group - 1]);
    return run_at(group * 64 - static_cast<std::size_t>(tail), count);
  }

  [[nodiscard]] static std::size_t first_bit(std::uint64_t bits) {
    return static_cast<std::size_t>(std::countr_zero(bits));
  }

  /// The bits from which on `count` bits are set.
  [[nodiscard]] static std::uint64_t starts_of_runs(std::uint64_t bits, std::size_t count) {
    std::size_t length = 1;
    while (length < count && bits != 0) {
      const std::size_t step = std::min(length, count - length);
      bits &= bits >> step;
      length += step;
    }
    return bits;
  }

  /// Returns how many of the group's blocks went to `out`.
  [[nodiscard]] std::size_t take_singly(std::size_t group, std::span<Block> out) {
    std::uint64_t bits = free_bits_[group];
    if (bits == whole) {
      whole_.erase(group);
      partial_.insert(group);
    }
    std::size_t count = 0;
    for (; count < out.size() && bits != 0; ++count, bits &= bits - 1) {
      const std::size_t index = group * 64 + first_bit(bits);
      uses_[index] = {1, 0};
      out[count] = Block(tier_, index);
    }
    free_bits_[group] = bits;
    if (bits == 0) partial_.erase(group);
    return count;
  }

  void take(std::size_t group, std::size_t bit, std::size_t count) {
    std::uint64_t& bits = free_bits_[group];
    const bool was_whole = bits == whole;
    bits &= ~(ones(count) << bit);
    if (was_whole) whole_.erase(group);
    if (was_whole && bits != 0) partial_.insert(group);
    if (!was_whole && bits == 0) partial_.erase(group);
    std::fill_n(uses_.begin() + static_cast<std::ptrdiff_t>(group * 64 + bit), count, Use{1, 0});
    free_ -= count;
  }

  void put(std::size_t index) {
    std::uint64_t& bits = free_bits_[index / 64];
    if (bits == 0) partial_.insert(index / 64);
    bits |= std::uint64_t{1} << (index % 64);
    if (bits == whole) {
      partial_.erase(index / 64);
      whole_.insert(index / 64);
    }
    ++free_;
  }

  Tier tier_;
  std::size_t blocks_;
  std::vector<Use> uses_;
  /// A bit a block, 64 blocks a group; groups with some free blocks, and with none in use.
  std::vector<std::uint64_t> free_bits_{};
  detail::IndexSet partial_;
  detail::IndexSet whole_;
  std::size_t free_ = 0;
  /// The group that the last single block came from.
  std::size_t group_ = 0;
};

}  // namespace lethe::layerkv
