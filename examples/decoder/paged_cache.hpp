/// The KV cache of one sequence in blocks that lie wherever somebody else puts them.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "cache_type.hpp"
#include "model_config.hpp"

namespace decoder {

/// Keys and values of one sequence, a list of blocks a layer. It owns no memory: who does may move
/// a layer between steps, and within a step until the layer is computed.
///
/// A block holds block_tokens tokens of one layer: for each KV head a strip of keys, then one of
/// values.
class PagedCache {
 public:
  /// Attention takes up a cache in pieces of so many tokens; a block holds a part of one.
  static constexpr std::size_t chunk_tokens = 128;

  /// @param block_tokens a multiple of 16 that divides chunk_tokens
  /// @throws Error otherwise
  PagedCache(const ModelConfig& config, CacheType type, std::size_t block_tokens);

  [[nodiscard]] std::size_t layers() const noexcept { return sizes_.size(); }
  [[nodiscard]] std::size_t block_tokens() const noexcept { return block_tokens_; }
  [[nodiscard]] CacheType type() const noexcept { return type_; }
  [[nodiscard]] std::size_t heads() const noexcept { return heads_; }
  [[nodiscard]] std::size_t head_dim() const noexcept { return head_dim_; }
  [[nodiscard]] std::size_t channels() const noexcept { return channels_; }
  [[nodiscard]] std::size_t row_bytes() const noexcept { return row_bytes_; }
  /// Returns the bytes of one block.
  [[nodiscard]] std::size_t block_bytes() const noexcept { return 2 * heads_ * strip_bytes(); }
  /// Returns the bytes from a block's begin to the keys (kind 0) or values (1) of a head.
  [[nodiscard]] std::size_t strip_offset(std::size_t head, std::size_t kind) const noexcept {
    return (head * 2 + kind) * strip_bytes();
  }

  /// Returns the tokens that `layer` holds now.
  [[nodiscard]] std::size_t size(std::size_t layer) const noexcept { return sizes_[layer]; }
  /// Says how many leading tokens of a layer there are, whatever was appended before.
  void resize(std::size_t layer, std::size_t tokens) noexcept { sizes_[layer] = tokens; }

  /// Says where a layer's blocks lie, in the order of its tokens; as many as size and what is to be
  /// appended need.
  void place(std::size_t layer, std::span<std::byte* const> blocks);
  [[nodiscard]] std::span<const std::byte* const> blocks(std::size_t layer) const noexcept {
    return {blocks_[layer].data(), blocks_[layer].size()};
  }

  /// Reads keys (kind 0) or values (1) of a head as they stand in attention, head_dim channels
  /// each.
  /// @param block where a block lies; out: a multiple of head_dim floats
  void read(const std::byte* block, std::size_t head, std::size_t kind, std::size_t row,
            std::span<float> out) const noexcept;

  /// Appends tokens to a layer, whose blocks have room. O(tokens * heads * channels).
  /// @param keys, values [tokens][heads][head_dim]
  void append(std::size_t layer, std::size_t tokens, const float* keys, const float* values);

 private:
  [[nodiscard]] std::size_t strip_bytes() const noexcept { return block_tokens_ * row_bytes_; }

  std::size_t block_tokens_;
  std::size_t heads_;
  std::size_t head_dim_;
  std::size_t channels_;
  std::size_t row_bytes_;
  CacheType type_;
  std::vector<std::vector<std::byte*>> blocks_;
  std::vector<std::size_t> sizes_;
};

}  // namespace decoder
