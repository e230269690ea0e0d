/// The KV cache of one sequence: memory that grows with the tokens and shrinks with a prune.
#pragma once

#include <cstddef>
#include <cstdint>
#include <lethe/cache_view.hpp>
#include <memory>
#include <span>
#include <vector>

#include "cache_type.hpp"
#include "model_config.hpp"

namespace decoder {

/// Gives reserved addresses back to the system.
struct Unmap {
  std::size_t bytes = 0;
  void operator()(std::byte* memory) const noexcept;
};
using AddressSpace = std::unique_ptr<std::byte, Unmap>;

/// Keys and values of one sequence; models lethe::KVCacheView.
///
/// Every (layer, KV head) has a strip of keys and a strip of values. A strip holds its tokens one
/// after another, so attention streams it and a prune packs it left. Heads may hold unequal counts.
/// The address space is reserved for `capacity` tokens; only pages that hold tokens take memory.
class KVCache {
 public:
  /// Reserves an empty cache.
  /// @param capacity most tokens a head ever holds
  /// @throws Error when the memory cannot be had
  KVCache(const ModelConfig& config, CacheType type, std::size_t capacity);
  KVCache(KVCache&& other) noexcept = default;
  KVCache& operator=(KVCache&& other) noexcept = default;

  /// Returns a cache of its own memory with the same tokens, room included. O(bytes held).
  /// @throws Error when the memory cannot be had
  [[nodiscard]] KVCache copy() const;

  /// Returns the number of layers.
  [[nodiscard]] std::size_t layers() const noexcept { return sizes_.size() / heads_; }
  /// Returns the number of KV heads of a layer; a plan may name one of them.
  [[nodiscard]] std::size_t heads(std::size_t = 0) const noexcept { return heads_; }
  /// Returns the tokens that the longest head of `layer` holds now.
  [[nodiscard]] std::size_t size(std::size_t layer) const noexcept;
  /// Returns the tokens that one head holds now.
  [[nodiscard]] std::size_t size(std::size_t layer, std::size_t head) const noexcept {
    return sizes_[layer * heads_ + head];
  }
  /// Returns the mean of a layer's heads, rounded up: the tokens that its memory is worth.
  [[nodiscard]] std::size_t mean_size(std::size_t layer) const noexcept;
  /// Returns the most tokens a head can hold.
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
  /// Returns the storage type.
  [[nodiscard]] CacheType type() const noexcept { return type_; }

  /// Keeps the planned slots of each planned layer, in order, and returns the freed pages to the
  /// system. O(moved bytes).
  /// @param plans at most one per layer, or one for each of its heads
  void apply(std::span<const lethe::EvictionPlan> plans);

  /// Appends tokens to a layer. O(tokens * heads * channels).
  /// @param keys, values [tokens][heads][head_dim]
  /// @throws Error when the capacity is exceeded
  void append(std::size_t layer, std::size_t tokens, const float* keys, const float* values);

  /// Adds room for `tokens` tokens to each head of a layer.
  /// @return the first new slot of the first head
  /// @throws Error when the capacity is exceeded
  std::size_t extend(std::size_t layer, std::size_t tokens);

  /// Writes one token's key and value of one head.
  /// @param key, value channels() floats each, zeros from head_dim on
  void store(std::size_t layer, std::size_t head, std::size_t slot, const float* key,
             const float* value) noexcept;

  /// Returns the keys of one head: size(layer, head) rows of row_bytes().
  [[nodiscard]] const std::byte* keys(std::size_t layer, std::size_t head) const noexcept {
    return strip(layer, head, 0);
  }
  /// Returns the values of one head: size(layer, head) rows of row_bytes().
  [[nodiscard]] const std::byte* values(std::size_t layer, std::size_t head) const noexcept {
    return strip(layer, head, 1);
  }
  /// Reads keys of one head as they stand in attention, head_dim channels each.
  /// @param out a multiple of head_dim floats
  void read_keys(std::size_t layer, std::size_t head, std::size_t first,
                 std::span<float> out) const noexcept {
    read(strip(layer, head, 0), first, out);
  }
  /// Reads values; as read_keys.
  void read_values(std::size_t layer, std::size_t head, std::size_t first,
                   std::span<float> out) const noexcept {
    read(strip(layer, head, 1), first, out);
  }
  /// Returns the channels of a row: head_dim rounded up to 32.
  [[nodiscard]] std::size_t channels() const noexcept { return channels_; }
  /// Returns the bytes of a row: one key (or value) of one head.
  [[nodiscard]] std::size_t row_bytes() const noexcept { return row_bytes_; }

  /// Forgets all tokens and returns their memory to the system.
  void clear() noexcept;

  /// Returns the bytes of one token's keys and values in one layer.
  [[nodiscard]] std::size_t token_bytes(std::size_t layer = 0) const noexcept;
  /// Returns the memory the cache takes now: whole pages that hold at least one token.
  [[nodiscard]] std::size_t resident_bytes() const noexcept;

 private:
  KVCache(const KVCache& other);
  [[nodiscard]] std::byte* strip(std::size_t layer, std::size_t head,
                                 std::size_t kind) const noexcept {
    return memory_.get() + ((layer * heads_ + head) * 2 + kind) * strip_bytes_;
  }
  void read(const std::byte* rows, std::size_t first, std::span<float> out) const noexcept;
  void pack(const lethe::EvictionPlan& plan, std::size_t head) noexcept;
  void release(std::size_t layer, std::size_t head, std::size_t tokens_before) noexcept;

  AddressSpace memory_;
  std::size_t strip_bytes_ = 0;
  std::size_t row_bytes_ = 0;
  std::size_t head_dim_ = 0;
  std::size_t channels_ = 0;
  std::size_t capacity_ = 0;
  std::size_t heads_ = 0;
  CacheType type_ = CacheType::f16;
  std::vector<std::size_t> sizes_;  // [layer][head]
};

static_assert(lethe::UnequalHeadsCache<KVCache> && lethe::ByteSizedCache<KVCache> &&
              lethe::KeyReadableCache<KVCache> && lethe::ValueReadableCache<KVCache>);

}  // namespace decoder
