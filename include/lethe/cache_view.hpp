/// What a cache must offer to be pruned, and what more it may offer.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "lethe/plan.hpp"

namespace lethe {

/// Whether a layer can be pruned now.
enum class LayerState : std::uint8_t {
  prunable,
  /// Keeps a window of its own (sliding-window attention): never pruned, not counted.
  fixed,
  /// Its rows are being copied elsewhere: not pruned in this round.
  busy,
  /// The layer has no cache (hybrid models): never pruned, not counted.
  absent,
};

/// layers(): how many layers the cache has.
template <class Cache>
concept HasLayers = requires(const Cache& cache) {
  { cache.layers() } -> std::convertible_to<std::size_t>;
};

/// size(layer): tokens now held in a layer.
template <class Cache>
concept HasSize = requires(const Cache& cache, std::size_t layer) {
  { cache.size(layer) } -> std::convertible_to<std::size_t>;
};

/// apply(plans): pack the surviving rows of each plan to the left, in order. All of a round's
/// plans come in one call, at most one for each layer (or head), so an engine may launch one
/// kernel.
template <class Cache>
concept HasApply = requires(Cache& cache, std::span<const EvictionPlan> plans) {
  cache.apply(plans);
};

/// The least a cache must offer.
template <class Cache>
concept KVCacheView = HasLayers<Cache> && HasSize<Cache> && HasApply<Cache>;

/// state(layer): some layers cannot be pruned, or not now. Without it every layer is prunable.
template <class Cache>
concept StatefulCache = KVCacheView<Cache> && requires(const Cache& cache, std::size_t layer) {
  { cache.state(layer) } -> std::same_as<LayerState>;
};

/// token_bytes(layer): bytes of one token's keys and values; caps and moves in bytes need it.
template <class Cache>
concept ByteSizedCache = KVCacheView<Cache> && requires(const Cache& cache, std::size_t layer) {
  { cache.token_bytes(layer) } -> std::convertible_to<std::size_t>;
};

/// heads(layer): the cache takes a plan for each KV head, all of one length unless it is an
/// UnequalHeadsCache.
template <class Cache>
concept PerHeadCache = KVCacheView<Cache> && requires(const Cache& cache, std::size_t layer) {
  { cache.heads(layer) } -> std::convertible_to<std::size_t>;
};

/// size(layer, head): tokens of one KV head, and plans of a layer's heads may differ in length.
/// size(layer) is then that of the longest. A step's tokens go behind each head's own.
template <class Cache>
concept UnequalHeadsCache = PerHeadCache<Cache> && requires(const Cache& cache, std::size_t index) {
  { cache.size(index, index) } -> std::convertible_to<std::size_t>;
};

/// read_keys(layer, head, first_slot, out): out.size() / dimension consecutive keys of one KV head,
/// as they stand in attention (rotated, dequantised), row by row. It must not throw.
template <class Cache>
concept KeyReadableCache = requires(const Cache& cache, std::size_t index, std::span<float> out) {
  cache.read_keys(index, index, index, out);
};

/// read_values(layer, head, first_slot, out): as read_keys; a cache may have none (latent
/// attention).
template <class Cache>
concept ValueReadableCache = requires(const Cache& cache, std::size_t index, std::span<float> out) {
  cache.read_values(index, index, index, out);
};

/// write_keys(layer, head, first_slot, rows): the counterpart of read_keys; keys that were turned
/// (Rerotation) come back by it. It must not throw.
template <class Cache>
concept KeyWritableCache = KeyReadableCache<Cache> &&
    requires(Cache& cache, std::size_t index, std::span<const float> rows) {
  cache.write_keys(index, index, index, rows);
};

/// write_values(layer, head, first_slot, rows): the counterpart of read_values; values that others
/// were merged into (MassMerge, KeyMerge) come back by it. It must not throw.
template <class Cache>
concept ValueWritableCache = ValueReadableCache<Cache> &&
    requires(Cache& cache, std::size_t index, std::span<const float> rows) {
  cache.write_values(index, index, index, rows);
};

/// shared_prefix(layer): the first so many slots are shared with other sequences and must stay.
template <class Cache>
concept SharedPrefixCache = KVCacheView<Cache> && requires(const Cache& cache, std::size_t layer) {
  { cache.shared_prefix(layer) } -> std::convertible_to<std::size_t>;
};

/// block_tokens(layer): memory is freed in blocks of so many tokens, so kept counts are rounded up
/// to whole blocks: the tokens so gained cost nothing.
template <class Cache>
concept BlockCache = KVCacheView<Cache> && requires(const Cache& cache, std::size_t layer) {
  { cache.block_tokens(layer) } -> std::convertible_to<std::size_t>;
};

/// count_classes(layer): ascending token counts to which kept counts are rounded up, for engines
/// that plan their attention on the host for few distinct lengths.
template <class Cache>
concept CountClassCache = KVCacheView<Cache> && requires(const Cache& cache, std::size_t layer) {
  { cache.count_classes(layer) } -> std::convertible_to<std::span<const std::size_t>>;
};

/// same_set: every layer must keep the same slots (one cell table for all layers).
template <class Cache>
concept SameSetCache = KVCacheView<Cache> && requires {
  { Cache::same_set } -> std::convertible_to<bool>;
};

/// overwrite(layer, slot): the next token appended to the layer goes to `slot`, whose token is
/// forgotten; nothing moves. Used in place of a round that would drop one token of a full layer.
/// When nothing was appended since, the next overwrite or apply for the layer replaces this one.
template <class Cache>
concept OverwritableCache = KVCacheView<Cache> &&
    requires(Cache& cache, std::size_t layer, Slot slot) {
  cache.overwrite(layer, slot);
};

/// Refuses to compile for a cache that has a refinement's name with another signature: it would be
/// passed over in silence.
template <KVCacheView Cache>
constexpr void check_refinements() {
  static_assert(
      !requires { &Cache::state; } || StatefulCache<Cache>,
      "state must be: LayerState state(std::size_t layer) const");
  static_assert(
      !requires { &Cache::token_bytes; } || ByteSizedCache<Cache>,
      "token_bytes must be: std::size_t token_bytes(std::size_t layer) const");
  static_assert(
      !requires { &Cache::heads; } || PerHeadCache<Cache>,
      "heads must be: std::size_t heads(std::size_t layer) const");
  static_assert(
      !requires { &Cache::shared_prefix; } || SharedPrefixCache<Cache>,
      "shared_prefix must be: std::size_t shared_prefix(std::size_t layer) const");
  static_assert(
      !requires { &Cache::block_tokens; } || BlockCache<Cache>,
      "block_tokens must be: std::size_t block_tokens(std::size_t layer) const");
  static_assert(
      !requires { &Cache::count_classes; } || CountClassCache<Cache>,
      "count_classes(layer) const must return what std::span<const std::size_t> takes");
  static_assert(
      !requires { &Cache::overwrite; } || OverwritableCache<Cache>,
      "overwrite must be: void overwrite(std::size_t layer, lethe::Slot slot)");
}

/// The state of a layer; prunable where the cache does not say.
template <KVCacheView Cache>
[[nodiscard]] LayerState state_of(const Cache& cache, std::size_t layer) {
  if constexpr (StatefulCache<Cache>) {
    return cache.state(layer);
  } else {
    return LayerState::prunable;
  }
}

/// Bytes of one token in a layer; 1 where the cache does not say.
template <KVCacheView Cache>
[[nodiscard]] std::size_t token_bytes_of(const Cache& cache, std::size_t layer) {
  if constexpr (ByteSizedCache<Cache>) {
    return std::max<std::size_t>(1, cache.token_bytes(layer));
  } else {
    return 1;
  }
}

/// Slots shared with other sequences; 0 where the cache does not say.
template <KVCacheView Cache>
[[nodiscard]] std::size_t shared_prefix_of(const Cache& cache, std::size_t layer) {
  if constexpr (SharedPrefixCache<Cache>) {
    return cache.shared_prefix(layer);
  } else {
    return 0;
  }
}

/// The count to keep instead of `tokens`: rounded up to what the cache frees or launches by, as far
/// as `limit` allows, else the largest permitted count below it.
template <KVCacheView Cache>
[[nodiscard]] std::size_t permitted_count(const Cache& cache, std::size_t layer, std::size_t tokens,
                                          std::size_t limit) {
  if constexpr (CountClassCache<Cache>) {
    std::size_t best = tokens;
    for (const std::size_t allowed : std::span<const std::size_t>(cache.count_classes(layer))) {
      if (allowed <= limit) best = allowed;
      if (allowed >= tokens) break;
    }
    return best;
  } else if constexpr (BlockCache<Cache>) {
    const std::size_t block = std::max<std::size_t>(1, cache.block_tokens(layer));
    const std::size_t rounded = (tokens + block - 1) / block * block;
    return rounded <= limit ? rounded : tokens;
  } else {
    return tokens;
  }
}

}  // namespace lethe
