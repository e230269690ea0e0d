/// The shape of a model, read from a GGUF file's metadata.
#pragma once

#include <cstdint>
#include <string>

namespace decoder {

namespace gguf {
class File;
}

/// How RoPE pairs the channels of a head.
enum class RopePairs {
  neighbours,  ///< channels 2i and 2i + 1
  halves       ///< channels i and i + half
};

/// What the decoder must know about a model besides its weights.
struct ModelConfig {
  std::string architecture;         ///< llama, qwen2 or qwen3
  std::string name;                 ///< the file's own name of the model, may be empty
  std::uint32_t layers = 0;         ///< transformer blocks
  std::uint32_t width = 0;          ///< channels of the residual stream
  std::uint32_t heads = 0;          ///< query heads
  std::uint32_t kv_heads = 0;       ///< key and value heads
  std::uint32_t head_dim = 0;       ///< channels of a head
  std::uint32_t feed_forward = 0;   ///< channels of the gated feed-forward layer
  std::uint32_t vocabulary = 0;     ///< tokens, below 2^24
  std::uint32_t context = 0;        ///< positions the model was trained for, and sees all of
  std::uint32_t rope_channels = 0;  ///< channels of a head that RoPE rotates
  float rope_base = 10000.0f;       ///< RoPE's base when the file gives none
  float rope_scale = 1.0f;          ///< positions are multiplied by it (linear scaling)
  float norm_epsilon = 1e-5f;       ///< added to the mean square by RMSNorm
  RopePairs rope_pairs = RopePairs::neighbours;

  /// Reads and checks the metadata.
  /// @throws Error for an unsupported architecture, or a missing or senseless value
  static ModelConfig read(const gguf::File& file);
};

}  // namespace decoder
