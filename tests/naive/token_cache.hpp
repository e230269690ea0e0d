/// Caches whose rows say which token they belong to, with any set of refinements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/cache_view.hpp"

namespace naive {

/// Which refinements a TokenCache has.
enum Feature : unsigned {
  plain = 0,
  with_state = 1,
  with_bytes = 2,
  with_heads = 4,
  with_shared_prefix = 8,
  with_blocks = 16,
  with_classes = 32,
  with_overwrite = 64,
  with_same_set = 128,
  with_keys = 256,
};

/// One token's key and value in one head: the token's position in both.
struct Row {
  std::uint32_t key = 0;
  std::uint32_t value = 0;
  bool operator==(const Row&) const = default;
};

/// Rows in vectors; a plan is carried out by building each list anew.
template <unsigned Features>
class TokenCache {
 public:
  static constexpr bool same_set = (Features & with_same_set) != 0;

  TokenCache(std::size_t layers, std::size_t heads)
      : states(layers, lethe::LayerState::prunable),
        bytes(layers, 4),
        shared(layers, 0),
        heads_(heads),
        rows_(layers, std::vector<std::vector<Row>>(heads)),
        vacant_(layers, none) {}

  [[nodiscard]] std::size_t layers() const { return rows_.size(); }
  [[nodiscard]] std::size_t size(std::size_t layer) const { return rows_[layer][0].size(); }

  void apply(std::span<const lethe::EvictionPlan> plans) {
    ++applications;
    for (const lethe::EvictionPlan& plan : plans) {
      for (std::size_t head = 0; head < heads_; ++head) {
        if (plan.head == lethe::all_heads || plan.head == head) rebuild(plan, head);
      }
    }
  }

  [[nodiscard]] lethe::LayerState state(std::size_t layer) const
      requires((Features & with_state) != 0) {
    return states[layer];
  }
  [[nodiscard]] std::size_t token_bytes(std::size_t layer) const
      requires((Features & with_bytes) != 0) {
    return bytes[layer];
  }
  [[nodiscard]] std::size_t heads(std::size_t) const requires((Features & with_heads) != 0) {
    return heads_;
  }
  [[nodiscard]] std::size_t shared_prefix(std::size_t layer) const
      requires((Features & with_shared_prefix) != 0) {
    return shared[layer];
  }
  [[nodiscard]] std::size_t block_tokens(std::size_t) const
      requires((Features & with_blocks) != 0) {
    return block;
  }
  [[nodiscard]] std::span<const std::size_t> count_classes(std::size_t) const
      requires((Features & with_classes) != 0) {
    return classes;
  }
  void overwrite(std::size_t layer, lethe::Slot slot) requires((Features & with_overwrite) != 0) {
    ++overwrites;
    vacant_[layer] = slot;
  }
  void read_keys(std::size_t layer, std::size_t head, std::size_t first, std::span<float> out) const
      requires((Features & with_keys) != 0) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::size_t token = first + i / dimension;
      out[i] = key_channel(rows_[layer][head][token].key, head, i % dimension);
    }
  }

  /// A key made from the token's position alone, in [-1, 1].
  [[nodiscard]] static float key_channel(std::uint32_t token, std::size_t head,
                                         std::size_t channel) {
    const std::uint64_t word = lethe::detail::mix(token * 1000003u + head * 131u + channel);
    return static_cast<float>(static_cast<std::int32_t>(word & 0xFFFFu) - 0x8000) * 0x1p-15f;
  }

  /// Appends tokens of the given positions to every head; the first fills an overwritten slot.
  void append(std::size_t layer, std::span<const std::uint32_t> tokens) {
    for (auto& head : rows_[layer]) {
      std::size_t next = 0;
      if (vacant_[layer] != none && !tokens.empty()) {
        head[vacant_[layer]] = {tokens[0], tokens[0]};
        next = 1;
      }
      for (; next < tokens.size(); ++next) head.push_back({tokens[next], tokens[next]});
    }
    if (!tokens.empty()) vacant_[layer] = none;
  }

  [[nodiscard]] const std::vector<Row>& rows(std::size_t layer, std::size_t head) const {
    return rows_[layer][head];
  }

  /// The slot that the next token goes to, or `none`.
  [[nodiscard]] std::size_t vacant(std::size_t layer) const { return vacant_[layer]; }
  static constexpr std::size_t none = ~std::size_t{0};

  std::vector<lethe::LayerState> states;
  std::vector<std::size_t> bytes;
  std::vector<std::size_t> shared;
  std::vector<std::size_t> classes;
  std::size_t block = 1;
  std::size_t dimension = 1;
  std::size_t applications = 0;
  std::size_t overwrites = 0;

 private:
  void rebuild(const lethe::EvictionPlan& plan, std::size_t head) {
    vacant_[plan.layer] = none;
    std::vector<Row> packed;
    for (const lethe::Slot slot : plan.kept) packed.push_back(rows_[plan.layer][head].at(slot));
    rows_[plan.layer][head] = packed;
  }

  std::size_t heads_;
  std::vector<std::vector<std::vector<Row>>> rows_;
  std::vector<std::size_t> vacant_;
};

static_assert(lethe::KVCacheView<TokenCache<plain>>);
static_assert(!lethe::StatefulCache<TokenCache<plain>> && !lethe::PerHeadCache<TokenCache<plain>>);
static_assert(lethe::OverwritableCache<TokenCache<with_overwrite>>);
static_assert(lethe::KeyReadableCache<TokenCache<with_keys>>);

}  // namespace naive
