/// The best tokens of a layer by one thread block: keys in registers, a radix select in digits of
/// 11, 11 and 10 bits, and the kept slots in ascending order. No sort.
#pragma once

#include <cstdint>

#include "lethe/gpu/block.cuh"
#include "lethe/numeric.hpp"
#include "lethe/selection.hpp"

namespace lethe::gpu {

/// Tokens that a lane holds at a time, side by side.
inline constexpr unsigned lane_tokens = 8;

namespace detail {

inline constexpr unsigned radix_bins = 2048;

/// Shared memory of a select: how much of what is counted has a digit.
template <class Word>
struct BinShared {
  Word bins[radix_bins];
  Word rank;
  std::uint32_t bin;
};
using SelectShared = BinShared<std::uint32_t>;

/// Ordered keys of a layer's scores: read once where they fit the block's registers, else again in
/// every pass. A lane's tokens lie side by side, so that a scan over lanes is one over slots.
template <ThreadBlock Block, class Scores = const float*>
class KeyRow {
 public:
  static constexpr std::uint32_t tile = Block::threads * lane_tokens;

  LETHE_BLOCK_CODE KeyRow(const Block& block, const Scores& scores, std::uint32_t tokens)
      : scores_(scores), tokens_(tokens) {
    if (tokens > tile) return;
    block.lanes([&](unsigned lane) {
      for (unsigned item = 0; item < lane_tokens; ++item) {
        const std::uint32_t slot = lane * lane_tokens + item;
        keys_(lane, item) = slot < tokens ? ordered_key(scores[slot]) : 0u;
      }
    });
  }

  [[nodiscard]] LETHE_BLOCK_CODE std::uint32_t tokens() const { return tokens_; }

  /// Calls sink(slot, key) for the lane's tokens from slot `begin` to begin + tile.
  template <class Sink>
  LETHE_BLOCK_CODE void visit_tile(unsigned lane, std::uint32_t begin, Sink&& sink) const {
    const bool held = tokens_ <= tile;
    LETHE_UNROLL
    for (unsigned item = 0; item < lane_tokens; ++item) {
      const std::uint32_t slot = begin + lane * lane_tokens + item;
      if (slot < tokens_) sink(slot, held ? keys_(lane, item) : ordered_key(scores_[slot]));
    }
  }

  /// Calls sink(slot, key) for all of the lane's tokens.
  template <class Sink>
  LETHE_BLOCK_CODE void visit(unsigned lane, Sink&& sink) const {
    for (std::uint32_t begin = 0; begin < tokens_; begin += tile) visit_tile(lane, begin, sink);
  }

 private:
  Scores scores_;
  std::uint32_t tokens_;
  typename Block::template Registers<std::uint32_t, lane_tokens> keys_;
};

/// Positions in place of scores' keys; read again in every pass.
template <ThreadBlock Block>
class PositionRow {
 public:
  LETHE_BLOCK_CODE PositionRow(const Position* positions, std::uint32_t tokens)
      : positions_(positions), tokens_(tokens) {}

  template <class Sink>
  LETHE_BLOCK_CODE void visit(unsigned lane, Sink&& sink) const {
    for (std::uint32_t slot = lane; slot < tokens_; slot += Block::threads) {
      sink(slot, positions_[slot]);
    }
  }

 private:
  const Position* positions_;
  std::uint32_t tokens_;
};

/// How many of a row's tokens satisfy holds(slot, key).
template <ThreadBlock Block, class Row, class Holds>
[[nodiscard]] LETHE_BLOCK_CODE std::uint32_t count_if(const Block& block, const Row& row,
                                                      Holds&& holds) {
  typename Block::template Registers<std::uint32_t, 1> counts;
  block.lanes([&](unsigned lane) {
    std::uint32_t count = 0;
    row.visit(lane,
              [&](std::uint32_t slot, std::uint32_t key) { count += holds(slot, key) ? 1u : 0u; });
    counts(lane, 0) = count;
  });
  return block.sum(counts);
}

/// The bin, counted from the top, in which the count-th of what is counted lies; count becomes its
/// rank in the bin.
template <ThreadBlock Block, class Word>
[[nodiscard]] LETHE_BLOCK_CODE std::uint32_t find_bin(const Block& block, BinShared<Word>& shared,
                                                      Word& count) {
  constexpr unsigned each = radix_bins / Block::threads;
  typename Block::template Registers<Word, 1> before;
  block.lanes([&](unsigned lane) {
    const Word* bins = shared.bins + (radix_bins - (lane + 1) * each);
    Word held = 0;
    for (unsigned i = 0; i < each; ++i) held += bins[i];
    before(lane, 0) = held;
  });
  static_cast<void>(block.exclusive_sum(before));
  block.lanes([&](unsigned lane) {
    Word above = before(lane, 0);
    for (unsigned i = 0; i < each; ++i) {
      const unsigned bin = radix_bins - 1 - lane * each - i;
      const Word held = shared.bins[bin];
      if (above < count && count - above <= held) {
        shared.bin = bin;
        shared.rank = count - above;
      }
      above += held;
    }
  });
  count = block.read(shared.rank);
  return block.read(shared.bin);
}

/// A key, and what is left of a sum once the keys above it are counted.
template <class Word>
struct WeightedCut {
  std::uint32_t key = 0;
  Word rest = 0;
};

/// The largest key from which on weights reach `count`, where a token counts weight_of(key), key
/// being key_of(slot, own); of a token that is not to take part, admits(slot, own) is false.
/// 1 <= count <= the weight of all that take part.
template <ThreadBlock Block, class Word, class Row, class Admits, class KeyOf, class WeightOf>
[[nodiscard]] LETHE_BLOCK_CODE WeightedCut<Word> find_weighted_cut(const Block& block,
                                                                   BinShared<Word>& shared,
                                                                   const Row& row, Word count,
                                                                   Admits&& admits, KeyOf&& key_of,
                                                                   WeightOf&& weight_of) {
  std::uint32_t found = 0;
  std::uint32_t known = 0;
  for (unsigned digit = 0; digit < 3; ++digit) {
    const unsigned shift = digit == 0 ? 21 : (digit == 1 ? 10 : 0);
    const std::uint32_t mask = digit == 2 ? 0x3FFu : 0x7FFu;
    block.lanes([&](unsigned lane) {
      for (unsigned bin = lane; bin < radix_bins; bin += Block::threads) shared.bins[bin] = 0;
    });
    block.lanes([&](unsigned lane) {
      row.visit(lane, [&](std::uint32_t slot, std::uint32_t own) {
        const std::uint32_t key = key_of(slot, own);
        if (!admits(slot, own) || ((key ^ found) & known) != 0) return;
        Block::add(shared.bins[(key >> shift) & mask], Word{weight_of(key)});
      });
    });
    found |= find_bin(block, shared, count) << shift;
    known |= mask << shift;
  }
  return {found, count};
}

/// The cut that keeps the `count` largest keys; arguments as above.
template <ThreadBlock Block, class Row, class Admits, class KeyOf>
[[nodiscard]] LETHE_BLOCK_CODE Cut find_cut(const Block& block, SelectShared& shared,
                                            const Row& row, std::uint32_t count, Admits&& admits,
                                            KeyOf&& key_of) {
  const auto one = [](std::uint32_t) { return std::uint32_t{1}; };
  const auto cut = find_weighted_cut(block, shared, row, count, admits, key_of, one);
  return {cut.key, cut.rest};
}

/// Whether a token is kept: by its key, or as one of so many ties.
enum class Standing : std::uint8_t { dropped, tied, kept };

/// What collect has written.
struct Collected {
  std::uint32_t count = 0;
  /// The first slot that is not kept; the number of tokens when all are.
  std::uint32_t first_dropped = 0;
};

/// Writes kept slots in ascending order, tile after tile.
template <ThreadBlock Block, class Row, class StandingOf>
class Collector {
 public:
  LETHE_BLOCK_CODE Collector(const Block& block, const Row& row, std::uint32_t ties,
                             const StandingOf& standing, Slot* kept)
      : block_(block), row_(row), ties_(ties), standing_(standing), kept_(kept) {}

  LETHE_BLOCK_CODE Collected run() {
    block_.lanes([&](unsigned lane) { dropped_(lane, 0) = 0; });
    for (std::uint32_t begin = 0; begin < row_.tokens(); begin += Row::tile) {
      block_.lanes([&](unsigned lane) { count_tile(lane, begin); });
      const std::uint64_t of_tile = block_.exclusive_sum(counts_);
      block_.lanes([&](unsigned lane) { write_tile(lane, begin); });
      total_ += of_tile;
    }
    const std::uint32_t tied = fewer(static_cast<std::uint32_t>(total_));
    const std::uint32_t first_dropped = row_.tokens() - block_.maximum(dropped_);
    return {static_cast<std::uint32_t>(total_ >> 32) + tied, first_dropped};
  }

 private:
  static constexpr std::uint64_t one_kept = std::uint64_t{1} << 32;

  [[nodiscard]] LETHE_BLOCK_CODE std::uint32_t fewer(std::uint32_t tied) const {
    return tied < ties_ ? tied : ties_;
  }

  LETHE_BLOCK_CODE void count_tile(unsigned lane, std::uint32_t begin) {
    std::uint64_t count = 0;
    row_.visit_tile(lane, begin, [&](std::uint32_t slot, std::uint32_t key) {
      const Standing own = standing_(slot, key);
      count += own == Standing::kept ? one_kept : (own == Standing::tied ? 1u : 0u);
    });
    counts_(lane, 0) = count;
  }

  LETHE_BLOCK_CODE void write_tile(unsigned lane, std::uint32_t begin) {
    const std::uint64_t before = total_ + counts_(lane, 0);
    auto above = static_cast<std::uint32_t>(before >> 32);
    auto tied = static_cast<std::uint32_t>(before);
    row_.visit_tile(lane, begin, [&](std::uint32_t slot, std::uint32_t key) {
      const Standing own = standing_(slot, key);
      const bool keeps = own == Standing::kept || (own == Standing::tied && tied < ties_);
      if (keeps) kept_[above + fewer(tied)] = slot;
      if (!keeps && dropped_(lane, 0) == 0) dropped_(lane, 0) = row_.tokens() - slot;
      above += own == Standing::kept ? 1u : 0u;
      tied += own == Standing::tied ? 1u : 0u;
    });
  }

  const Block& block_;
  const Row& row_;
  std::uint32_t ties_;
  const StandingOf& standing_;
  Slot* kept_;
  // Tokens kept by their keys in the upper half, tied ones in the lower.
  std::uint64_t total_ = 0;
  typename Block::template Registers<std::uint64_t, 1> counts_;
  typename Block::template Registers<std::uint32_t, 1> dropped_;
};

/// Writes the slots of tokens that standing(slot, key) keeps and of the first `ties` tied ones,
/// ascending.
template <ThreadBlock Block, class Row, class StandingOf>
[[nodiscard]] LETHE_BLOCK_CODE Collected collect(const Block& block, const Row& row,
                                                 std::uint32_t ties, const StandingOf& standing,
                                                 Slot* kept) {
  return Collector<Block, Row, StandingOf>(block, row, ties, standing, kept).run();
}

}  // namespace detail
}  // namespace lethe::gpu
