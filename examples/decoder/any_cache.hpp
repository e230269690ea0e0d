/// A cache as pruners see it, whatever it is: so that each policy is compiled for one kind alone.
#pragma once

#include <concepts>
#include <cstddef>
#include <lethe/cache_view.hpp>
#include <span>

namespace decoder {

/// Models what lethe asks of a cache, and refers to one. Layers, heads, token_bytes, apply, keys
/// and values are the cache's; size of a head, state and block_tokens are where it has them, and
/// else the layer's size, prunable and 1. What only some caches can do by nature, as heads of their
/// own lengths, is therefore asked of the cache itself, not of this.
class AnyCache {
 public:
  AnyCache() = default;
  AnyCache(const AnyCache&) = delete;
  AnyCache& operator=(const AnyCache&) = delete;

  [[nodiscard]] virtual std::size_t layers() const = 0;
  /// Returns the tokens of the longest head of a layer, or of one.
  [[nodiscard]] virtual std::size_t size(std::size_t layer) const = 0;
  [[nodiscard]] virtual std::size_t size(std::size_t layer, std::size_t head) const = 0;
  [[nodiscard]] virtual lethe::LayerState state(std::size_t layer) const = 0;
  /// Returns 1 where memory is not freed in blocks.
  [[nodiscard]] virtual std::size_t block_tokens(std::size_t layer) const = 0;
  [[nodiscard]] virtual std::size_t heads(std::size_t layer) const = 0;
  [[nodiscard]] virtual std::size_t token_bytes(std::size_t layer) const = 0;
  virtual void apply(std::span<const lethe::EvictionPlan> plans) = 0;
  virtual void read_keys(std::size_t layer, std::size_t head, std::size_t first,
                         std::span<float> out) const = 0;
  virtual void read_values(std::size_t layer, std::size_t head, std::size_t first,
                           std::span<float> out) const = 0;

 protected:
  ~AnyCache() = default;
};

static_assert(lethe::StatefulCache<AnyCache> && lethe::BlockCache<AnyCache> &&
              lethe::UnequalHeadsCache<AnyCache> && lethe::ByteSizedCache<AnyCache> &&
              lethe::KeyReadableCache<AnyCache> && lethe::ValueReadableCache<AnyCache>);

/// Caches whose heads, bytes, keys and values a pruner may ask for.
template <class Cache>
concept PrunedCache = lethe::PerHeadCache<Cache> && lethe::ByteSizedCache<Cache> &&
    lethe::KeyReadableCache<Cache> && lethe::ValueReadableCache<Cache>;

/// Any cache of a kind. What it refers to outlives it.
template <PrunedCache Cache>
class AnyCacheOf final : public AnyCache {
 public:
  explicit AnyCacheOf(Cache& cache) : cache_(cache) {}

  [[nodiscard]] std::size_t layers() const override { return cache_.layers(); }
  [[nodiscard]] std::size_t size(std::size_t layer) const override { return cache_.size(layer); }
  [[nodiscard]] std::size_t size(std::size_t layer,
                                 [[maybe_unused]] std::size_t head) const override {
    if constexpr (lethe::UnequalHeadsCache<Cache>) return cache_.size(layer, head);
    return cache_.size(layer);
  }
  [[nodiscard]] lethe::LayerState state(std::size_t layer) const override {
    if constexpr (lethe::StatefulCache<Cache>) return cache_.state(layer);
    return lethe::LayerState::prunable;
  }
  [[nodiscard]] std::size_t block_tokens(std::size_t layer) const override {
    if constexpr (lethe::BlockCache<Cache>) return cache_.block_tokens(layer);
    return 1;
  }
  [[nodiscard]] std::size_t heads(std::size_t layer) const override { return cache_.heads(layer); }
  [[nodiscard]] std::size_t token_bytes(std::size_t layer) const override {
    return cache_.token_bytes(layer);
  }
  void apply(std::span<const lethe::EvictionPlan> plans) override { cache_.apply(plans); }
  void read_keys(std::size_t layer, std::size_t head, std::size_t first,
                 std::span<float> out) const override {
    cache_.read_keys(layer, head, first, out);
  }
  void read_values(std::size_t layer, std::size_t head, std::size_t first,
                   std::span<float> out) const override {
    cache_.read_values(layer, head, first, out);
  }

 private:
  Cache& cache_;
};

}  // namespace decoder
