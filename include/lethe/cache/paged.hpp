/// A cache in blocks of tokens, found through a block table for each layer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "lethe/cache/strides.hpp"
#include "lethe/cache_view.hpp"

namespace lethe {

/// One layer's pool of blocks, the user's own memory. Strides are within a block.
template <class Element>
struct PagedLayer {
  Element* keys = nullptr;
  /// Null: the layer has no values.
  Element* values = nullptr;
  std::size_t heads = 1;
  /// Channels of a head's key, and of its value; 0: as many.
  std::size_t dimension = 0;
  std::size_t value_dimension = 0;
  Strides key_strides{};
  Strides value_strides{};
  /// Elements from one block to the next.
  std::size_t key_block_stride = 0;
  std::size_t value_block_stride = 0;

  [[nodiscard]] std::size_t value_channels() const {
    return value_dimension != 0 ? value_dimension : dimension;
  }
};

/// View of one sequence's paged keys and values. Token `slot` of a layer lies in block
/// table[slot / block_tokens]. apply packs survivors into the leading blocks and hands the blocks
/// that fall empty to `free_block(layer, block)`; blocks of the shared prefix are never written.
template <class Element, class FreeBlock>
class PagedCache {
 public:
  /// blocks: most blocks a layer's table holds. Throws std::invalid_argument for sizes of zero and
  /// for a layer without keys, heads, channels or strides.
  PagedCache(std::vector<PagedLayer<Element>> layers, std::size_t block_tokens, std::size_t blocks,
             FreeBlock free_block)
      : layers_(std::move(layers)),
        block_tokens_(block_tokens),
        tables_(layers_.size()),
        sizes_(layers_.size(), 0),
        shared_(layers_.size(), 0),
        free_block_(std::move(free_block)) {
    detail::require(block_tokens >= 1, "block_tokens", block_tokens, "choose at least 1 token");
    detail::require(blocks >= 1, "blocks", blocks, "choose at least 1 block");
    for (const auto& layer : layers_) check(layer);
    for (auto& table : tables_) table.reserve(blocks);
  }

  [[nodiscard]] std::size_t layers() const { return layers_.size(); }
  [[nodiscard]] std::size_t size(std::size_t layer) const { return sizes_[layer]; }
  [[nodiscard]] std::size_t heads(std::size_t layer) const { return layers_[layer].heads; }
  [[nodiscard]] std::size_t block_tokens(std::size_t) const { return block_tokens_; }
  [[nodiscard]] std::size_t shared_prefix(std::size_t layer) const { return shared_[layer]; }
  [[nodiscard]] std::span<const std::uint32_t> table(std::size_t layer) const {
    return tables_[layer];
  }

  [[nodiscard]] std::size_t token_bytes(std::size_t layer) const {
    const auto& rows = layers_[layer];
    const std::size_t value = rows.values != nullptr ? rows.value_channels() : 0;
    return rows.heads * (rows.dimension + value) * sizeof(Element);
  }

  /// Adds an empty block at the end of a layer's table, after make_room: apply gives back blocks
  /// that hold no token. Allocates beyond the `blocks` told at construction, and in a copy.
  void add_block(std::size_t layer, std::uint32_t block) { tables_[layer].push_back(block); }

  /// The rows of `count` more tokens have been written.
  void append(std::size_t layer, std::size_t count) {
    LETHE_ASSERT(sizes_[layer] + count <= tables_[layer].size() * block_tokens_);
    sizes_[layer] += count;
  }

  /// Drops the last tokens, so that `count` are left; blocks that fall empty go.
  void truncate(std::size_t layer, std::size_t count) {
    LETHE_ASSERT(count <= sizes_[layer]);
    shrink(layer, count);
  }

  /// The first `tokens` slots lie in blocks shared with other sequences: they stay as they are.
  void share_prefix(std::size_t layer, std::size_t tokens) { shared_[layer] = tokens; }

  /// The address of one token's first channel in one head.
  [[nodiscard]] Element* key_row(std::size_t layer, std::size_t head, std::size_t slot) const {
    const auto& rows = layers_[layer];
    return row(layer, rows.keys, rows.key_block_stride, rows.key_strides, head, slot);
  }
  [[nodiscard]] Element* value_row(std::size_t layer, std::size_t head, std::size_t slot) const {
    const auto& rows = layers_[layer];
    return row(layer, rows.values, rows.value_block_stride, rows.value_strides, head, slot);
  }

  /// O(rows that move x dimension).
  void apply(std::span<const EvictionPlan> plans) {
    for (const EvictionPlan& plan : plans) {
      const auto& rows = layers_[plan.layer];
      LETHE_ASSERT(plan.first_move >= shared_[plan.layer]);
      const std::size_t first = plan.head == all_heads ? 0 : plan.head;
      const std::size_t last = plan.head == all_heads ? rows.heads : first + 1;
      for (std::size_t head = first; head < last; ++head) pack(plan, head);
    }
    // Only now, for the plans of a layer's other heads need its blocks.
    for (const EvictionPlan& plan : plans) shrink(plan.layer, plan.kept.size());
  }

  void read_keys(std::size_t layer, std::size_t head, std::size_t first,
                 std::span<float> out) const {
    const auto& rows = layers_[layer];
    detail::read_rows([&](std::size_t i) { return key_row(layer, head, first + i); },
                      rows.dimension, rows.key_strides.channel, out);
  }
  void read_values(std::size_t layer, std::size_t head, std::size_t first,
                   std::span<float> out) const {
    const auto& rows = layers_[layer];
    detail::read_rows([&](std::size_t i) { return value_row(layer, head, first + i); },
                      rows.value_channels(), rows.value_strides.channel, out);
  }

 private:
  static void check(const PagedLayer<Element>& layer) {
    detail::check_rows("keys", layer.keys, layer.heads, layer.dimension, layer.key_strides);
    detail::require(layer.key_block_stride >= 1, "key_block_stride", layer.key_block_stride,
                    "give the elements from one block to the next");
    if (layer.values == nullptr) return;
    detail::check_rows("values", layer.values, layer.heads, layer.value_channels(),
                       layer.value_strides);
    detail::require(layer.value_block_stride >= 1, "value_block_stride", layer.value_block_stride,
                    "give the elements from one block to the next");
  }

  [[nodiscard]] Element* row(std::size_t layer, Element* base, std::size_t block_stride,
                             const Strides& strides, std::size_t head, std::size_t slot) const {
    const std::size_t block = tables_[layer][slot / block_tokens_];
    return base + block * block_stride + head * strides.head +
           (slot % block_tokens_) * strides.token;
  }

  void pack(const EvictionPlan& plan, std::size_t head) {
    const auto& rows = layers_[plan.layer];
    for (std::size_t i = plan.first_move; i < plan.kept.size(); ++i) {
      const Slot from = plan.kept[i];
      detail::copy_row(key_row(plan.layer, head, i), key_row(plan.layer, head, from),
                       rows.dimension, rows.key_strides.channel);
      if (rows.values == nullptr) continue;
      detail::copy_row(value_row(plan.layer, head, i), value_row(plan.layer, head, from),
                       rows.value_channels(), rows.value_strides.channel);
    }
  }

  void shrink(std::size_t layer, std::size_t tokens) {
    sizes_[layer] = tokens;
    const std::size_t blocks = (tokens + block_tokens_ - 1) / block_tokens_;
    while (tables_[layer].size() > blocks) {
      free_block_(layer, tables_[layer].back());
      tables_[layer].pop_back();
    }
  }

  std::vector<PagedLayer<Element>> layers_;
  std::size_t block_tokens_;
  std::vector<std::vector<std::uint32_t>> tables_;
  std::vector<std::size_t> sizes_;
  std::vector<std::size_t> shared_;
  FreeBlock free_block_;
};

namespace detail {
struct IgnoreBlock {
  void operator()(std::size_t, std::uint32_t) const {}
};
}  // namespace detail
static_assert(PerHeadCache<PagedCache<float, detail::IgnoreBlock>> &&
              BlockCache<PagedCache<Half, detail::IgnoreBlock>> &&
              SharedPrefixCache<PagedCache<float, detail::IgnoreBlock>>);

}  // namespace lethe
