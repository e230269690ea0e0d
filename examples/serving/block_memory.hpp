#pragma once

#include <cstddef>
#include <lethe/layerkv/block_tables.hpp>
#include <vector>

namespace serving {

/// How the blocks of a run lie in memory.
struct BlockShape {
  std::size_t bytes = 0;          ///< of block_tokens tokens of one layer
  std::size_t tokens = 16;        ///< of a block
  std::size_t layers = 1;         ///< of the model
  bool is_of_all_layers = false;  ///< a block of the tables stands for one of each layer
};

/// The memory of both pools; the device's is as much the machine's as the host's.
class BlockMemory {
 public:
  BlockMemory(const BlockShape& shape, const lethe::layerkv::BlockTablesConfig& tables)
      : shape_(shape),
        device_(pool_bytes(tables.device_blocks)),
        host_(pool_bytes(tables.host_blocks)) {}

  const BlockShape& shape() const { return shape_; }
  /// Where the table of a layer is kept.
  std::size_t table_of(std::size_t layer) const { return shape_.is_of_all_layers ? 0 : layer; }
  /// Where a block of a layer begins.
  std::byte* at(lethe::layerkv::Block block, std::size_t layer) {
    auto& pool = block.tier() == lethe::layerkv::Tier::device ? device_ : host_;
    const std::size_t index =
        shape_.is_of_all_layers ? block.index() * shape_.layers + layer : block.index();
    return pool.data() + index * shape_.bytes;
  }

 private:
  std::size_t pool_bytes(std::size_t blocks) const {
    return blocks * shape_.bytes * (shape_.is_of_all_layers ? shape_.layers : 1);
  }

  BlockShape shape_;
  std::vector<std::byte> device_;
  std::vector<std::byte> host_;
};

}  // namespace serving
