/// Which token sits in which slot of each layer (and head), and how many there are.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "lethe/archive.hpp"
#include "lethe/compact.hpp"
#include "lethe/plan.hpp"

namespace lethe {

/// Positions of the cached tokens, slot by slot. Nothing is allocated after construction.
class SlotTable {
 public:
  /// heads: 1, or the KV heads when each keeps a set of its own. slots: of each head.
  SlotTable(std::size_t layers, std::size_t heads, std::size_t slots)
      : heads_(heads),
        slots_(slots),
        layers_(layers),
        sizes_(layers * heads, 0),
        positions_(layers * heads * slots, 0) {}

  /// Slots of a layer as its bound counts them: the mean over its heads, rounded up. O(heads).
  [[nodiscard]] std::size_t size(std::size_t layer) const {
    const std::span<const std::uint64_t> sizes = sizes_of(layer);
    const std::uint64_t all = std::accumulate(sizes.begin(), sizes.end(), std::uint64_t{0});
    return (all + heads_ - 1) / heads_;
  }
  [[nodiscard]] std::size_t size(std::size_t layer, std::size_t head) const {
    return sizes_[layer * heads_ + head];
  }
  /// Slots of a layer's longest head. O(heads).
  [[nodiscard]] std::size_t longest(std::size_t layer) const {
    const std::span<const std::uint64_t> sizes = sizes_of(layer);
    return *std::max_element(sizes.begin(), sizes.end());
  }
  /// Whether positions ascend with slots; an overwritten slot ends that.
  [[nodiscard]] bool ordered(std::size_t layer) const { return layers_[layer].ordered != 0; }
  /// A slot waits for the next token, its own having been forgotten.
  [[nodiscard]] bool vacant(std::size_t layer) const { return layers_[layer].vacancy != none; }

  /// Tokens that stand; a vacant slot holds none.
  [[nodiscard]] std::size_t held(std::size_t layer) const {
    return size(layer) - (vacant(layer) ? 1u : 0u);
  }

  /// Whether all heads of a layer hold equally many. O(heads).
  [[nodiscard]] bool level(std::size_t layer) const {
    const std::span<const std::uint64_t> sizes = sizes_of(layer);
    return std::all_of(sizes.begin(), sizes.end(),
                       [&](std::uint64_t size) { return size == sizes[0]; });
  }

  [[nodiscard]] std::span<const Position> positions(std::size_t layer, std::size_t head = 0) const {
    return {positions_.data() + (layer * heads_ + head) * slots_, size(layer, head)};
  }

  /// Adds `count` tokens from position `first` on; the first of them fills a vacant slot.
  void append(std::size_t layer, std::size_t count, Position first) {
    Layer& state = layers_[layer];
    std::size_t done = 0;
    if (count != 0 && state.vacancy != none) {
      for (std::size_t head = 0; head < heads_; ++head) row(layer, head)[state.vacancy] = first;
      state.vacancy = none;
      state.ordered = 0;
      done = 1;
    }
    for (std::size_t head = 0; head < heads_; ++head) {
      std::uint64_t& size = sizes_[layer * heads_ + head];
      LETHE_ASSERT(size + count - done <= slots_);
      const std::span<Position> free = row(layer, head).subspan(size, count - done);
      std::iota(free.begin(), free.end(), first + static_cast<Position>(done));
      size += free.size();
    }
  }

  /// Positions travel with the survivors of a plan for one head, or for all.
  void keep(const EvictionPlan& plan) {
    const std::size_t first = plan.head == all_heads ? 0 : plan.head;
    const std::size_t last = plan.head == all_heads ? heads_ : first + 1;
    for (std::size_t head = first; head < last; ++head) {
      compact(row(plan.layer, head), plan);
      sizes_[plan.layer * heads_ + head] = plan.kept.size();
    }
  }

  void vacate(std::size_t layer, Slot slot) { layers_[layer].vacancy = slot; }
  /// No token came for a vacant slot: its own stays.
  void reclaim(std::size_t layer) { layers_[layer].vacancy = none; }

  void reset() {
    std::fill(layers_.begin(), layers_.end(), Layer{});
    std::fill(sizes_.begin(), sizes_.end(), std::uint64_t{0});
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    archive(self.layers_);
    archive(self.sizes_);
    archive(self.positions_);
  }

  /// Whether restored contents can be worked with: counts in range, positions below `end`, unique.
  [[nodiscard]] bool valid(Position end) const {
    for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
      const Layer& state = layers_[layer];
      for (std::size_t head = 0; head < heads_; ++head) {
        const std::size_t own = size(layer, head);
        if (own > slots_ || (state.vacancy != none && state.vacancy >= own)) return false;
        if (!valid_row(positions(layer, head), state.ordered != 0, end)) return false;
      }
    }
    return true;
  }

 private:
  static constexpr std::uint64_t none = ~std::uint64_t{0};

  struct Layer {
    std::uint64_t vacancy = none;
    std::uint64_t ordered = 1;
  };

  [[nodiscard]] std::span<Position> row(std::size_t layer, std::size_t head) {
    return {positions_.data() + (layer * heads_ + head) * slots_, slots_};
  }

  [[nodiscard]] std::span<const std::uint64_t> sizes_of(std::size_t layer) const {
    return {sizes_.data() + layer * heads_, heads_};
  }

  [[nodiscard]] static bool valid_row(std::span<const Position> row, bool ordered, Position end) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (row[i] >= end || (ordered && i != 0 && row[i - 1] >= row[i])) return false;
    }
    if (ordered) return true;
    std::vector<Position> sorted(row.begin(), row.end());
    Position* const past = sorted.data() + sorted.size();
    std::sort(sorted.data(), past);
    return std::adjacent_find(sorted.data(), past) == past;
  }

  std::size_t heads_;
  std::size_t slots_;
  std::vector<Layer> layers_;
  /// Of each head.
  std::vector<std::uint64_t> sizes_;
  std::vector<Position> positions_;
};

}  // namespace lethe
