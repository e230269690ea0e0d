/// A cache of plain arrays: one base pointer and three strides for keys, and for values, in each
/// layer.
#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "lethe/cache/strides.hpp"
#include "lethe/cache_view.hpp"

namespace lethe {

/// One layer's arrays, the user's own memory.
template <class Element>
struct ContiguousLayer {
  Element* keys = nullptr;
  /// Null: the layer has no values (latent attention).
  Element* values = nullptr;
  std::size_t heads = 1;
  /// Channels of a head's key.
  std::size_t dimension = 0;
  /// Channels of a head's value; 0: as many.
  std::size_t value_dimension = 0;
  Strides key_strides{};
  Strides value_strides{};
  /// Most tokens the arrays hold.
  std::size_t capacity = 0;

  [[nodiscard]] std::size_t value_channels() const {
    return value_dimension != 0 ? value_dimension : dimension;
  }
};

/// View of contiguous keys and values. Element: float, Half or BFloat16. The user writes new rows
/// at slot size(layer) and calls append; apply packs survivors to the left in place.
template <class Element>
class ContiguousCache {
 public:
  /// Throws std::invalid_argument for a layer without keys, heads, channels, strides or room.
  explicit ContiguousCache(std::vector<ContiguousLayer<Element>> layers)
      : layers_(std::move(layers)), sizes_(layers_.size(), 0) {
    for (const auto& layer : layers_) {
      detail::check_rows("keys", layer.keys, layer.heads, layer.dimension, layer.key_strides);
      detail::require(layer.capacity >= 1, "capacity", layer.capacity,
                      "give the most tokens the arrays hold");
      if (layer.values == nullptr) continue;
      detail::check_rows("values", layer.values, layer.heads, layer.value_channels(),
                         layer.value_strides);
    }
  }

  [[nodiscard]] std::size_t layers() const { return layers_.size(); }
  [[nodiscard]] std::size_t size(std::size_t layer) const { return sizes_[layer]; }
  [[nodiscard]] std::size_t heads(std::size_t layer) const { return layers_[layer].heads; }
  [[nodiscard]] const ContiguousLayer<Element>& layer(std::size_t index) const {
    return layers_[index];
  }

  [[nodiscard]] std::size_t token_bytes(std::size_t layer) const {
    const auto& rows = layers_[layer];
    const std::size_t value = rows.values != nullptr ? rows.value_channels() : 0;
    return rows.heads * (rows.dimension + value) * sizeof(Element);
  }

  /// The rows of `count` more tokens have been written.
  void append(std::size_t layer, std::size_t count) {
    LETHE_ASSERT(sizes_[layer] + count <= layers_[layer].capacity);
    sizes_[layer] += count;
  }

  /// Drops the last tokens, so that `count` are left.
  void truncate(std::size_t layer, std::size_t count) {
    LETHE_ASSERT(count <= sizes_[layer]);
    sizes_[layer] = count;
  }

  /// O(rows that move x dimension).
  void apply(std::span<const EvictionPlan> plans) {
    for (const EvictionPlan& plan : plans) {
      const auto& rows = layers_[plan.layer];
      const std::size_t first = plan.head == all_heads ? 0 : plan.head;
      const std::size_t last = plan.head == all_heads ? rows.heads : first + 1;
      pack_heads(rows.keys, rows.key_strides, rows.dimension, first, last, plan);
      if (rows.values != nullptr) {
        pack_heads(rows.values, rows.value_strides, rows.value_channels(), first, last, plan);
      }
      if (last == rows.heads) sizes_[plan.layer] = plan.kept.size();
    }
  }

  void read_keys(std::size_t layer, std::size_t head, std::size_t first,
                 std::span<float> out) const {
    read(layers_[layer].keys, layers_[layer].key_strides, layers_[layer].dimension, head, first,
         out);
  }
  void read_values(std::size_t layer, std::size_t head, std::size_t first,
                   std::span<float> out) const {
    read(layers_[layer].values, layers_[layer].value_strides, layers_[layer].value_channels(), head,
         first, out);
  }

 private:
  static void pack_heads(Element* base, const Strides& strides, std::size_t dimension,
                         std::size_t first, std::size_t last, const EvictionPlan& plan) {
    // Heads that lie side by side travel as one row.
    if (strides.channel == 1 && strides.head == dimension) {
      return pack(base + first * dimension, strides, (last - first) * dimension, 0, plan);
    }
    for (std::size_t head = first; head < last; ++head) {
      pack(base, strides, dimension, head, plan);
    }
  }

  static void pack(Element* base, const Strides& strides, std::size_t dimension, std::size_t head,
                   const EvictionPlan& plan) {
    Element* rows = base + head * strides.head;
    if (strides.channel == 1) {
      compact_bytes(reinterpret_cast<std::byte*>(rows), dimension * sizeof(Element),
                    strides.token * sizeof(Element), plan);
      return;
    }
    // Channel by channel: a transposed value cache then moves along its contiguous tokens.
    for (std::size_t c = 0; c < dimension; ++c) {
      Element* column = rows + c * strides.channel;
      for (std::size_t i = plan.first_move; i < plan.kept.size(); ++i) {
        column[i * strides.token] = column[plan.kept[i] * strides.token];
      }
    }
  }

  static void read(const Element* base, const Strides& strides, std::size_t dimension,
                   std::size_t head, std::size_t first, std::span<float> out) {
    const Element* const rows = base + head * strides.head + first * strides.token;
    detail::read_rows([&](std::size_t i) { return rows + i * strides.token; }, dimension,
                      strides.channel, out);
  }

  std::vector<ContiguousLayer<Element>> layers_;
  std::vector<std::size_t> sizes_;
};
static_assert(PerHeadCache<ContiguousCache<float>> && ByteSizedCache<ContiguousCache<Half>> &&
              KeyReadableCache<ContiguousCache<BFloat16>>);

}  // namespace lethe
