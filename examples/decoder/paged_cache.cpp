#include "paged_cache.hpp"

#include <algorithm>
#include <string>

#include "error.hpp"
#include "kernels.hpp"
#include "round_up.hpp"

namespace decoder {

PagedCache::PagedCache(const ModelConfig& config, CacheType type, std::size_t block_tokens)
    : block_tokens_(block_tokens),
      heads_(config.kv_heads),
      head_dim_(config.head_dim),
      channels_(round_up(config.head_dim, 32)),
      row_bytes_(decoder::row_bytes(type, channels_)),
      type_(type),
      blocks_(config.layers),
      sizes_(config.layers, 0) {
  if (block_tokens == 0 || block_tokens % 16 != 0 || chunk_tokens % block_tokens != 0) {
    throw Error("a block of " + std::to_string(block_tokens) +
                " tokens cannot be attended to: choose 16, 32, 64 or 128");
  }
}

void PagedCache::read(const std::byte* block, std::size_t head, std::size_t kind, std::size_t row,
                      std::span<float> out) const noexcept {
  const std::byte* at = block + strip_offset(head, kind) + row * row_bytes_;
  for (std::size_t i = 0; i < out.size(); i += head_dim_, at += row_bytes_) {
    kernels::load_row(type_, at, channels_, out.subspan(i, head_dim_));
  }
}

void PagedCache::place(std::size_t layer, std::span<std::byte* const> blocks) {
  blocks_[layer].assign(blocks.begin(), blocks.end());
}

void PagedCache::append(std::size_t layer, std::size_t tokens, const float* keys,
                        const float* values) {
  float padded[kernels::max_head_dim] = {};
  const auto store = [&](const float* row, std::byte* to) {
    std::copy_n(row, head_dim_, padded);
    kernels::store_row(type_, padded, channels_, to);
  };
  for (std::size_t token = 0; token < tokens; ++token, ++sizes_[layer]) {
    const std::size_t slot = sizes_[layer];
    std::byte* block = blocks_[layer][slot / block_tokens_] + slot % block_tokens_ * row_bytes_;
    for (std::size_t head = 0; head < heads_; ++head) {
      const std::size_t row = (token * heads_ + head) * head_dim_;
      store(keys + row, block + strip_offset(head, 0));
      store(values + row, block + strip_offset(head, 1));
    }
  }
}

}  // namespace decoder
