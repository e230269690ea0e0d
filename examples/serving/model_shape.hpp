#pragma once

#include <cstddef>
#include <string>

namespace serving {

/// What of a model's shape decides its times and its cache.
struct ModelShape {
  std::string name;
  std::size_t layers = 0;
  std::size_t width = 0;  ///< of a token's row between layers
  std::size_t heads = 0;
  std::size_t kv_heads = 0;
  std::size_t head_width = 0;
  std::size_t inner_width = 0;  ///< of the feed-forward part
  std::size_t vocabulary = 0;
  std::size_t value_bytes = 2;  ///< bf16

  /// Keys and values of one token in one layer, over all GPUs.
  std::size_t token_bytes() const { return 2 * kv_heads * head_width * value_bytes; }
  /// Weights, all of them.
  double parameters() const {
    const double attention = static_cast<double>(width * head_width * 2 * (heads + kv_heads));
    const double feed_forward = 3 * static_cast<double>(width * inner_width);
    return static_cast<double>(layers) * (attention + feed_forward) +
           2 * static_cast<double>(vocabulary * width);
  }
};

/// The model of that name; throws decoder::Error that lists the known ones.
///
/// Shapes: the config.json of meta-llama/Llama-3.1-8B and Llama-3.1-70B.
ModelShape model_shape(const std::string& name);
std::string model_list();

}  // namespace serving
