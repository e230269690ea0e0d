/// One request's block tables as a cache that a pruner prunes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

#include "lethe/cache_view.hpp"
#include "lethe/config.hpp"
#include "lethe/layerkv/block_tables.hpp"
#include "lethe/layerkv/raw_rows.hpp"
#include "lethe/plan.hpp"

namespace lethe::layerkv {

/// A token's row in a block.
struct RowPlace {
  Block block;
  std::uint32_t row = 0;
};

/// copy_rows(layer, head, from, to, rows): copies so many rows that lie one behind the other, of
/// one KV head, or of all for lethe::all_heads. When both lie in one block, `to` lies below `from`
/// and the rows may overlap: as memmove, or row by row in ascending order. It must not throw.
///
/// What more it offers, the view offers the pruner: heads(layer), token_bytes(layer), and
/// read_keys(layer, head, from, out), whose rows lie in one block, with key_channels(layer); the
/// same for values.
template <class Mover>
concept RowMover = requires(Mover& mover, std::size_t layer, std::uint32_t head, RowPlace place,
                            std::size_t rows) {
  mover.copy_rows(layer, head, place, place, rows);
};

/// What happens to blocks that other requests, or a prefix index, hold too.
enum class SharedBlocks : std::uint8_t {
  /// Pruned as others are: what a plan would write goes to blocks of the request's own. Where the
  /// pool may lack these, they are kept.
  copied,
  /// Kept whole and in place: a round drops tokens behind them alone.
  kept,
};

/// View of one request: pruning a layer gives that layer's blocks back, so layers hold unequal
/// counts. Only layers that lie on the device, and not on their way, are prunable. The engine
/// appends through BlockTables. Copies on write are to be made before a round: see take_copies.
template <RowMover Mover>
class TableView {
 public:
  /// tables: outlives the view; request: open while it is used. Allocates config().request_blocks
  /// entries of 4 bytes.
  TableView(BlockTables& tables, RequestId request, Mover mover,
            SharedBlocks shared_blocks = SharedBlocks::copied)
      : tables_(&tables),
        request_(request),
        mover_(std::move(mover)),
        shared_blocks_(shared_blocks),
        before_(1, tables.config().request_blocks) {}

  [[nodiscard]] std::size_t layers() const { return tables_->config().layers; }
  [[nodiscard]] std::size_t size(std::size_t layer) const {
    return tables_->tokens(request_, layer);
  }
  [[nodiscard]] std::size_t block_tokens(std::size_t) const {
    return tables_->config().block_tokens;
  }
  [[nodiscard]] LayerState state(std::size_t layer) const {
    const bool elsewhere = size(layer) != 0 && tables_->tier(request_, layer) != Tier::device;
    return elsewhere || tables_->busy(request_, layer) ? LayerState::busy : LayerState::prunable;
  }

  /// Slots in shared blocks that a round is to leave alone: none when they are to be copied and
  /// there are blocks for every layer's. O(blocks).
  [[nodiscard]] std::size_t shared_prefix(std::size_t layer) const {
    const std::span<const Block> table = tables_->table(request_, layer);
    std::size_t shared = 0;
    std::size_t last = 0;
    for (std::size_t entry = 0; entry < table.size(); ++entry) {
      if (!tables_->shared(table[entry])) continue;
      ++shared;
      last = entry + 1;
    }
    const bool copied = shared_blocks_ == SharedBlocks::copied &&
                        shared * layers() <= tables_->free_blocks(Tier::device);
    return copied ? 0 : std::min(last * block_tokens(layer), size(layer));
  }

  [[nodiscard]] std::size_t heads(std::size_t layer) const requires requires(const Mover& mover) {
    mover.heads(layer);
  }
  { return mover_.heads(layer); }
  [[nodiscard]] std::size_t token_bytes(std::size_t layer) const requires
      requires(const Mover& mover) {
    mover.token_bytes(layer);
  }
  { return mover_.token_bytes(layer); }

  /// Packs each layer's survivors into its leading blocks and gives back those behind them. Blocks
  /// that others hold stay as they are; from a plan's first moving slot on, the request gets blocks
  /// of its own instead. Throws std::length_error, and nothing has moved, when the pool lacks
  /// these. O(rows that move + blocks).
  void apply(std::span<const EvictionPlan> plans) {
    require_blocks(plans);
    for (std::size_t layer = 0; layer < layers(); ++layer) {
      const Change change = change_of(plans, layer);
      if (!change.planned) continue;
      if (change.first < change.last) pack(plans, layer, change);
      tables_->truncate(request_, layer, change.tokens);
    }
  }

  /// As the mover reads them, block by block.
  void read_keys(std::size_t layer, std::size_t head, std::size_t first,
                 std::span<float> out) const requires requires(const Mover& mover) {
    mover.read_keys(layer, head, RowPlace{}, out);
  }
  {
    read(layer, first, mover_.key_channels(layer), out,
         [&](RowPlace from, std::span<float> rows) { mover_.read_keys(layer, head, from, rows); });
  }
  void read_values(std::size_t layer, std::size_t head, std::size_t first,
                   std::span<float> out) const requires requires(const Mover& mover) {
    mover.read_values(layer, head, RowPlace{}, out);
  }
  {
    read(
        layer, first, mover_.value_channels(layer), out,
        [&](RowPlace from, std::span<float> rows) { mover_.read_values(layer, head, from, rows); });
  }

 private:
  /// What a round makes of one layer: its tokens, and the entries [first, last) that are written
  /// to.
  struct Change {
    bool planned = false;
    std::size_t tokens = 0;
    std::size_t first = 0;
    std::size_t last = 0;
  };

  /// A layer's plans, one or one a head, together.
  [[nodiscard]] Change change_of(std::span<const EvictionPlan> plans, std::size_t layer) const {
    Change change;
    std::size_t first_move = size(layer);
    for (const EvictionPlan& plan : plans) {
      if (plan.layer != layer) continue;
      LETHE_ASSERT(plan.tokens == size(layer));
      LETHE_ASSERT(!change.planned || change.tokens == plan.kept.size());
      change.planned = true;
      change.tokens = plan.kept.size();
      first_move = std::min<std::size_t>(first_move, plan.first_move);
    }
    if (first_move >= change.tokens) return change;
    change.first = first_move / block_tokens(layer);
    change.last = (change.tokens + block_tokens(layer) - 1) / block_tokens(layer);
    return change;
  }

  void require_blocks(std::span<const EvictionPlan> plans) const {
    std::size_t blocks = 0;
    for (std::size_t layer = 0; layer < layers(); ++layer) {
      const Change change = change_of(plans, layer);
      const std::span<const Block> table = tables_->table(request_, layer);
      for (std::size_t i = change.first; i < change.last; ++i) {
        if (tables_->shared(table[i])) ++blocks;
      }
    }
    if (blocks > tables_->free_blocks(Tier::device)) refuse(blocks);
  }

  [[noreturn]] LETHE_COLD void refuse(std::size_t blocks) const {
    lethe::detail::raise<std::length_error>(
        "lethe: shared blocks of request " + std::to_string(request_) + " need " +
        std::to_string(blocks) + " copies, and fewer blocks are free: evict, or keep them shared");
  }

  void pack(std::span<const EvictionPlan> plans, std::size_t layer, const Change& change) {
    const std::span<const Block> table = tables_->table(request_, layer);
    const std::span<Block> before = before_[0].first(table.size());
    std::copy(table.begin(), table.end(), before.begin());
    for (std::size_t i = change.first; i < change.last; ++i) {
      if (tables_->shared(table[i])) static_cast<void>(tables_->unshare(request_, layer, i));
    }
    for (const EvictionPlan& plan : plans) {
      if (plan.layer == layer) pack_head(plan, change.first * block_tokens(layer), before, table);
    }
  }

  /// Moves the rows that a plan keeps, from slot `slot` on, in runs that are neighbours before and
  /// after. A block of the request's own is written in ascending order, behind what is read.
  void pack_head(const EvictionPlan& plan, std::size_t slot, std::span<const Block> before,
                 std::span<const Block> after) {
    const std::size_t rows = block_tokens(plan.layer);
    while (slot < plan.kept.size()) {
      const std::size_t source = plan.kept[slot];
      const std::size_t most =
          std::min({rows - slot % rows, rows - source % rows, plan.kept.size() - slot});
      std::size_t count = 1;
      while (count < most && plan.kept[slot + count] == source + count) ++count;
      const RowPlace from = place(before, source);
      const RowPlace to = place(after, slot);
      if (from.block != to.block || from.row != to.row) {
        mover_.copy_rows(plan.layer, plan.head, from, to, count);
      }
      slot += count;
    }
  }

  [[nodiscard]] RowPlace place(std::span<const Block> table, std::size_t slot) const {
    const std::size_t rows = tables_->config().block_tokens;
    return {table[slot / rows], static_cast<std::uint32_t>(slot % rows)};
  }

  template <class Read>
  void read(std::size_t layer, std::size_t slot, std::size_t channels, std::span<float> out,
            Read&& read_rows) const {
    const std::size_t rows = block_tokens(layer);
    LETHE_ASSERT(out.size() % channels == 0);
    while (!out.empty()) {
      const std::size_t count = std::min(rows - slot % rows, out.size() / channels);
      read_rows(place(tables_->table(request_, layer), slot), out.first(count * channels));
      out = out.subspan(count * channels);
      slot += count;
    }
  }

  BlockTables* tables_;
  RequestId request_;
  Mover mover_;
  SharedBlocks shared_blocks_;
  /// The table of the layer that is being packed, as it was.
  detail::RawRows<Block> before_;
};

namespace detail {
struct IgnoreRows {
  void copy_rows(std::size_t, std::uint32_t, RowPlace, RowPlace, std::size_t) const {}
};
}  // namespace detail
static_assert(StatefulCache<TableView<detail::IgnoreRows>> &&
              BlockCache<TableView<detail::IgnoreRows>> &&
              SharedPrefixCache<TableView<detail::IgnoreRows>> &&
              !PerHeadCache<TableView<detail::IgnoreRows>>);

}  // namespace lethe::layerkv
