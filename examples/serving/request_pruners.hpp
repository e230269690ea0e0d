#pragma once

#include <cstddef>
#include <cstdint>
#include <lethe/layerkv/block_tables.hpp>
#include <lethe/layerkv/table_view.hpp>
#include <span>
#include <vector>

#include "block_memory.hpp"
#include "paged_cache.hpp"
#include "sequence_pruner.hpp"

namespace serving {

/// The rows of blocks of one layer each, for lethe::layerkv::TableView.
class BlockRows {
 public:
  using RowPlace = lethe::layerkv::RowPlace;

  /// Both outlive it.
  BlockRows(BlockMemory& memory, const decoder::PagedCache& shape)
      : memory_(&memory), shape_(&shape) {}

  void copy_rows(std::size_t layer, std::uint32_t head, RowPlace from, RowPlace to,
                 std::size_t rows);
  std::size_t heads(std::size_t) const { return shape_->heads(); }
  std::size_t token_bytes(std::size_t) const { return 2 * shape_->heads() * shape_->row_bytes(); }
  std::size_t key_channels(std::size_t) const { return shape_->head_dim(); }
  std::size_t value_channels(std::size_t) const { return shape_->head_dim(); }
  void read_keys(std::size_t layer, std::size_t head, RowPlace from, std::span<float> out) const {
    shape_->read(memory_->at(from.block, layer), head, 0, from.row, out);
  }
  void read_values(std::size_t layer, std::size_t head, RowPlace from, std::span<float> out) const {
    shape_->read(memory_->at(from.block, layer), head, 1, from.row, out);
  }

 private:
  std::byte* row(RowPlace place, std::size_t layer, std::size_t head, std::size_t kind) const;

  BlockMemory* memory_;
  const decoder::PagedCache* shape_;
};

/// The pruners of the requests that run, by their numbers in the block tables. Each has a pruner of
/// its own, which prunes it through a TableView: a layer that loses tokens gives its blocks back at
/// once. A table has room for more tokens than the layer holds, up to whole blocks at least; what a
/// round makes of a layer are its tokens, packed, in as few blocks as take them.
///
/// Nothing is allocated after construction.
class RequestPruners {
 public:
  using RequestId = lethe::layerkv::RequestId;

  /// pruner: one that has seen nothing. tables, memory and shape outlive it.
  RequestPruners(const decoder::Pruner& pruner, lethe::layerkv::BlockTables& tables,
                 BlockMemory& memory, const decoder::PagedCache& shape);
  RequestPruners(const RequestPruners&) = delete;
  RequestPruners& operator=(const RequestPruners&) = delete;

  /// A request begins, or begins again, with an empty cache.
  void begin(RequestId id);
  /// Whether a round comes before so many tokens more: it needs every layer on the device.
  bool is_due(RequestId id, std::size_t tokens);
  /// So many tokens more are to be appended; prunes what is due.
  void make_room(RequestId id, std::size_t tokens);
  /// They were appended.
  void advance(RequestId id, std::size_t tokens);

  /// Tokens of each layer.
  std::span<const std::uint32_t> held(RequestId id) const { return requests_[id].held; }
  decoder::Pruner& pruner(RequestId id) { return requests_[id].pruner; }
  /// Tokens that were dropped, over all layers and requests.
  std::size_t dropped() const { return dropped_; }

 private:
  using View = lethe::layerkv::TableView<BlockRows>;

  struct Pruned {
    decoder::Pruner pruner;
    View view;
    std::vector<std::uint32_t> held;
  };
  class HeldTokens;

  lethe::layerkv::BlockTables& tables_;
  std::vector<Pruned> requests_;
  decoder::RoundReceiver count_;
  std::size_t dropped_ = 0;
};

}  // namespace serving
