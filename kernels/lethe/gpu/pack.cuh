/// Stable left-pack of rows, in place, by one thread block: what lethe::compact_bytes does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "lethe/gpu/block.cuh"

namespace lethe::gpu {

/// Of a plan, the rows that move: row kept[i] goes to row i, for begin <= i < count. kept ascends,
/// so kept[i] >= i.
struct PackMoves {
  const std::uint32_t* kept = nullptr;
  std::uint32_t begin = 0;
  std::uint32_t count = 0;
};

/// One head's rows in a plain array: `stride` bytes from token to token, no less than a row.
struct StripRows {
  std::byte* base = nullptr;
  std::size_t stride = 0;

  [[nodiscard]] LETHE_BLOCK_CODE std::byte* source(std::uint32_t slot) const {
    return base + slot * stride;
  }
  [[nodiscard]] LETHE_BLOCK_CODE std::byte* target(std::uint32_t slot) const {
    return base + slot * stride;
  }
  /// All addresses are multiples of the powers of two that divide it.
  [[nodiscard]] LETHE_BLOCK_CODE std::size_t alignment() const {
    return reinterpret_cast<std::uintptr_t>(base) | stride;
  }
};

/// One head's rows in a pool of blocks: rows are read where the table `sources` says, and written
/// where `targets` says, which differs where a shared block is replaced by a fresh one.
struct PageRows {
  std::byte* base = nullptr;
  /// Bytes from block to block, and from token to token within one.
  std::size_t block_stride = 0;
  std::size_t token_stride = 0;
  std::uint32_t block_tokens = 1;
  const std::uint32_t* sources = nullptr;
  const std::uint32_t* targets = nullptr;

  [[nodiscard]] LETHE_BLOCK_CODE std::byte* source(std::uint32_t slot) const {
    return row(sources, slot);
  }
  [[nodiscard]] LETHE_BLOCK_CODE std::byte* target(std::uint32_t slot) const {
    return row(targets, slot);
  }
  [[nodiscard]] LETHE_BLOCK_CODE std::size_t alignment() const {
    return reinterpret_cast<std::uintptr_t>(base) | block_stride | token_stride;
  }

 private:
  [[nodiscard]] LETHE_BLOCK_CODE std::byte* row(const std::uint32_t* table,
                                                std::uint32_t slot) const {
    return base + table[slot / block_tokens] * block_stride + (slot % block_tokens) * token_stride;
  }
};

namespace detail {

/// What a lane carries at once.
template <class Word, unsigned Words = 1>
struct alignas(sizeof(Word) * Words) Chunk {
  Word words[Words];
};
static_assert(sizeof(Chunk<std::uint32_t, 4>) == 16);

/// Chunks a lane carries in one phase; two phases' worth are in registers, so that 8 x 16 bytes a
/// lane are under way. No source: not measured yet.
inline constexpr unsigned pack_items = 4;

template <class Chunk>
[[nodiscard]] LETHE_BLOCK_CODE Chunk load_chunk(const std::byte* from) {
#if defined(__CUDACC__)
  return *reinterpret_cast<const Chunk*>(from);
#else
  LETHE_ASSERT(reinterpret_cast<std::uintptr_t>(from) % sizeof(Chunk) == 0);
  Chunk chunk;
  std::memcpy(&chunk, from, sizeof(Chunk));
  return chunk;
#endif
}

template <class Chunk>
LETHE_BLOCK_CODE void store_chunk(std::byte* to, const Chunk& chunk) {
#if defined(__CUDACC__)
  *reinterpret_cast<Chunk*>(to) = chunk;
#else
  LETHE_ASSERT(reinterpret_cast<std::uintptr_t>(to) % sizeof(Chunk) == 0);
  std::memcpy(to, &chunk, sizeof(Chunk));
#endif
}

/// The chunks of all rows that move, in order: chunk u is part u % row_chunks of a row.
template <class Chunk, class Rows>
struct ChunkMoves {
  Rows rows;
  PackMoves moves;
  std::uint32_t row_chunks;

  [[nodiscard]] LETHE_BLOCK_CODE std::uint32_t size() const {
    return moves.count > moves.begin ? (moves.count - moves.begin) * row_chunks : 0;
  }

  /// Each lane loads its items of the tile that begins at `first`.
  template <class Registers>
  LETHE_BLOCK_CODE void load(Registers& held, unsigned lane, std::uint32_t first,
                             unsigned threads) const {
    for (unsigned item = 0; item < pack_items; ++item) {
      const std::uint32_t unit = first + item * threads + lane;
      if (unit >= size()) continue;
      const std::uint32_t slot = moves.kept[moves.begin + unit / row_chunks];
      held(lane, item) = load_chunk<Chunk>(rows.source(slot) + offset(unit));
    }
  }

  template <class Registers>
  LETHE_BLOCK_CODE void store(const Registers& held, unsigned lane, std::uint32_t first,
                              unsigned threads) const {
    for (unsigned item = 0; item < pack_items; ++item) {
      const std::uint32_t unit = first + item * threads + lane;
      if (unit >= size()) continue;
      const std::uint32_t slot = moves.begin + unit / row_chunks;
      store_chunk<Chunk>(rows.target(slot) + offset(unit), held(lane, item));
    }
  }

 private:
  [[nodiscard]] LETHE_BLOCK_CODE std::size_t offset(std::uint32_t unit) const {
    return unit % row_chunks * sizeof(Chunk);
  }
};

/// A tile is loaded in one phase and stored in the next, so nothing of it is overwritten before it
/// is read. The tile behind it is loaded while it is stored: its sources lie at or behind its own
/// targets, which lie behind those of this tile.
template <class Chunk, class Block, class Rows>
LETHE_BLOCK_CODE void pack_chunks(const Block& block, const ChunkMoves<Chunk, Rows>& chunks) {
  using Registers = typename Block::template Registers<Chunk, pack_items>;
  constexpr std::uint32_t tile = Block::threads * pack_items;
  const std::uint32_t size = chunks.size();
  Registers even;
  Registers odd;
  if (size == 0) return;
  block.lanes([&](unsigned lane) { chunks.load(even, lane, 0, Block::threads); });
  for (std::uint32_t first = 0; first < size; first += 2 * tile) {
    block.lanes([&](unsigned lane) {
      chunks.load(odd, lane, first + tile, Block::threads);
      chunks.store(even, lane, first, Block::threads);
    });
    if (first + tile >= size) break;
    block.lanes([&](unsigned lane) {
      chunks.load(even, lane, first + 2 * tile, Block::threads);
      chunks.store(odd, lane, first + tile, Block::threads);
    });
  }
}

template <class Chunk, class Block, class Rows>
LETHE_BLOCK_CODE void pack_as(const Block& block, const Rows& rows, std::uint32_t row_bytes,
                              const PackMoves& moves) {
  constexpr auto bytes = static_cast<std::uint32_t>(sizeof(Chunk));
  pack_chunks(block, ChunkMoves<Chunk, Rows>{rows, moves, row_bytes / bytes});
}

}  // namespace detail

/// Most bytes of all rows of a strip: units of the smallest chunk are counted in 32 bits, and a
/// tile's end must not wrap.
inline constexpr std::uint64_t pack_bytes = (std::uint64_t{1} << 32) - (1u << 17);

/// Moves the rows of one strip (one head of one layer of one sequence), row_bytes bytes each, in
/// the widest chunks of 16, 4, 2 or 1 bytes that every address and the row are multiples of.
/// No other block touches the strip. count x row_bytes < pack_bytes. O(bytes that move).
template <ThreadBlock Block, class Rows>
LETHE_BLOCK_CODE void pack_rows(const Block& block, const Rows& rows, std::uint32_t row_bytes,
                                const PackMoves& moves) {
  const std::size_t alignment = rows.alignment() | row_bytes;
  if (alignment % 16 == 0) {
    detail::pack_as<detail::Chunk<std::uint32_t, 4>>(block, rows, row_bytes, moves);
  } else if (alignment % 4 == 0) {
    detail::pack_as<detail::Chunk<std::uint32_t>>(block, rows, row_bytes, moves);
  } else if (alignment % 2 == 0) {
    detail::pack_as<detail::Chunk<std::uint16_t>>(block, rows, row_bytes, moves);
  } else {
    detail::pack_as<detail::Chunk<std::uint8_t>>(block, rows, row_bytes, moves);
  }
}

}  // namespace lethe::gpu
