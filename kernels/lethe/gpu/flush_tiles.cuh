/// Waiting queries become scores by products of tiles of 16 queries: keys are read once, into
/// registers. Everything but the product of two fragments and the exponential runs on the host too.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/gpu/block.cuh"
#include "lethe/gpu/flush_block.cuh"
#include "lethe/gpu/pack.cuh"
#include "lethe/gpu/tile_product.cuh"

namespace lethe::gpu {

namespace detail {

/// Channels of a chunk: a lane's 16 bytes for each of the four lanes that share a row.
inline constexpr std::uint32_t chunk_channels = 32;
using TileChunk = Chunk<std::uint32_t, 4>;

/// Masses from tiles. A warp has the keys of 32 tokens of its own. Which channel is which column of
/// a product is free, if queries and keys agree: so every lane takes 8 that follow each other.
template <class Product, unsigned Chunks, ThreadBlock Block, class Rows, class Element>
requires TileProduct<Product, Block>
class TileMasses {
 public:
  LETHE_BLOCK_CODE TileMasses(const Block& block, TileShared<Block::threads>& shared,
                              const Flush<Element>& flush, const TaskQueries<Element>& queries)
      : block_(block), shared_(shared), flush_(flush), queries_(queries) {}

  LETHE_BLOCK_CODE void take_keys(std::uint32_t kv_head) {
    kv_head_ = kv_head;
    const Rows rows = key_rows<Rows>(flush_, queries_.task, kv_head);
    block_.lanes_apart([&](unsigned lane) {
      LETHE_UNROLL for (unsigned tile = 0; tile < column_tiles; ++tile) {
        const std::uint32_t token =
            queries_.task.first_token + lane / 32 * 32 + 8 * tile + lane % 32 / 4;
        const std::byte* row = token < queries_.task.tokens ? rows.source(token) : nullptr;
        LETHE_UNROLL for (unsigned chunk = 0; chunk < Chunks; ++chunk) {
          keys_(lane, tile * Chunks + chunk) = load_channels(row, lane, chunk);
        }
      }
    });
  }

  LETHE_BLOCK_CODE void put(std::uint32_t first) {
    block_.lanes_apart([&](unsigned lane) {
      LETHE_UNROLL for (unsigned i = 0; i < 4 * column_tiles; ++i) mass_(lane, i) = 0.0f;
    });
    const std::uint32_t each = queries_.heads_each();
    for (std::uint32_t head = kv_head_ * each; head < (kv_head_ + 1) * each; ++head) {
      multiply(first, head);
      block_.lanes_apart([&](unsigned lane) { add_head(lane, first, head); });
    }
    block_.lanes([&](unsigned lane) {
      LETHE_UNROLL for (unsigned i = 0; i < 4 * column_tiles; ++i) {
        shared_.mass[row_of(lane, i)][token_of(lane, i)] = mass_(lane, i);
      }
    });
  }

 private:
  /// Query and token within the tile of a lane's float number i of the sums.
  [[nodiscard]] LETHE_BLOCK_CODE static unsigned row_of(unsigned lane, unsigned i) {
    return lane % 32 / 4 + 8 * (i % 4 / 2);
  }
  [[nodiscard]] LETHE_BLOCK_CODE static unsigned token_of(unsigned lane, unsigned i) {
    return lane / 32 * 32 + 8 * (i / 4) + 2 * (lane % 4) + i % 2;
  }

  /// A lane's 8 channels of a chunk; zeros behind the last one, and for no row.
  [[nodiscard]] LETHE_BLOCK_CODE TileChunk load_channels(const std::byte* row, unsigned lane,
                                                         unsigned chunk) const {
    const std::uint32_t channel = chunk * chunk_channels + lane % 4 * 8;
    const bool there = row != nullptr && channel < queries_.ring.shape.head_dimension;
    return there ? load_chunk<TileChunk>(row + channel * sizeof(Element)) : TileChunk{};
  }

  LETHE_BLOCK_CODE void multiply(std::uint32_t first, std::uint32_t head) {
    block_.lanes_apart([&](unsigned lane) {
      LETHE_UNROLL for (unsigned i = 0; i < 4 * column_tiles; ++i) product_(lane, i) = 0.0f;
    });
    LETHE_UNROLL for (unsigned chunk = 0; chunk < Chunks; ++chunk) {
      block_.lanes_apart([&](unsigned lane) {
        LETHE_UNROLL for (unsigned half = 0; half < 2; ++half) {
          const Element* row = queries_.channels(head, first + lane % 32 / 4 + 8 * half);
          taken_(lane, half) = load_channels(reinterpret_cast<const std::byte*>(row), lane, chunk);
        }
      });
      LETHE_UNROLL for (unsigned step = 0; step < 2; ++step) multiply_step(chunk, step);
    }
  }

  /// 16 of a chunk's channels: words 2 x step and the next of each lane.
  LETHE_BLOCK_CODE void multiply_step(unsigned chunk, unsigned step) {
    block_.lanes_apart([&](unsigned lane) {
      LETHE_UNROLL for (unsigned w = 0; w < 4; ++w) {
        rows_(lane, w) = taken_(lane, w % 2).words[2 * step + w / 2];
      }
    });
    LETHE_UNROLL for (unsigned tile = 0; tile < column_tiles; ++tile) {
      block_.lanes_apart([&](unsigned lane) {
        LETHE_UNROLL for (unsigned w = 0; w < 2; ++w) {
          columns_(lane, w) = keys_(lane, tile * Chunks + chunk).words[2 * step + w];
        }
      });
      Product::multiply(block_, rows_, columns_, product_, tile);
    }
  }

  LETHE_BLOCK_CODE void add_head(unsigned lane, std::uint32_t first, std::uint32_t head) {
    LETHE_UNROLL for (unsigned i = 0; i < 4 * column_tiles; ++i) {
      const std::uint32_t query = first + row_of(lane, i);
      if (query >= queries_.task.waiting) continue;
      mass_(lane, i) += Product::exponential(queries_.exponent(head, query, product_(lane, i)));
    }
  }

  const Block& block_;
  TileShared<Block::threads>& shared_;
  const Flush<Element>& flush_;
  const TaskQueries<Element>& queries_;
  std::uint32_t kv_head_ = 0;
  typename Block::template Registers<TileChunk, column_tiles * Chunks> keys_;
  typename Block::template Registers<TileChunk, 2> taken_;
  RowFragment<Block> rows_;
  ColumnFragment<Block> columns_;
  TileSums<Block> product_;
  TileSums<Block> mass_;
};

}  // namespace detail

/// A block of a flush by tiles: `tile` counts Block::threads tokens. Chunks x 32 channels at least
/// are those of a head; Rows: StripRows or PageRows.
template <class Rows, class Product, unsigned Chunks, ThreadBlock Block, class Element>
LETHE_BLOCK_CODE void flush_tiles_block(const Block& block,
                                        detail::TileShared<Block::threads>& shared,
                                        const Flush<Element>& flush, std::uint32_t tile,
                                        std::uint32_t row, std::uint32_t layer) {
  detail::FlushTask task;
  if (!detail::find_task(flush, tile * Block::threads, row, layer, task)) return;
  const detail::TaskQueries<Element> queries{flush.ring, task};
  detail::TileMasses<Product, Chunks, Block, Rows, Element> masses(block, shared, flush, queries);
  detail::score_tile(block, shared, detail::task_scores(flush, task), queries, masses);
}

}  // namespace lethe::gpu
