/// A model: its configuration and its weights, packed for the kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "gguf.hpp"
#include "model_config.hpp"
#include "quant.hpp"

namespace decoder {

/// The weights of one transformer block; an empty vector means that the model has none.
struct LayerWeights {
  std::vector<float> attention_norm;
  std::vector<float> feed_forward_norm;
  std::vector<float> query_norm;  ///< over the channels of a head (qwen3)
  std::vector<float> key_norm;
  std::vector<float> query_bias;  ///< qwen2
  std::vector<float> key_bias;
  std::vector<float> value_bias;
  Matrix query;
  Matrix key;
  Matrix value;
  Matrix attention_output;
  Matrix gate;
  Matrix up;
  Matrix down;
};

/// Weights in memory, quantised as in the file but laid out for SIMD code; immutable.
class Model {
 public:
  /// Reads a model. O(bytes of the file).
  /// @param threads that pack the weights; 0: as many as the hardware has
  /// @throws Error when the file lacks something, has another shape than it says, or has weights
  ///         in its blocks that this decoder does not know
  explicit Model(gguf::File file, unsigned threads = 0);
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;
  ~Model();

  [[nodiscard]] const ModelConfig& config() const noexcept { return config_; }
  /// Returns the file, for its tokenizer and its template.
  [[nodiscard]] const gguf::File& file() const noexcept { return file_; }
  [[nodiscard]] const LayerWeights& layer(std::size_t index) const noexcept {
    return layers_[index];
  }
  [[nodiscard]] const std::vector<float>& output_norm() const noexcept { return output_norm_; }
  /// Returns the matrix that makes logits; it is the embedding's where the model has no other.
  [[nodiscard]] const Matrix& output() const noexcept { return output_; }
  /// Returns the angle per position of each pair of rotated channels.
  [[nodiscard]] const std::vector<float>& rope_frequencies() const noexcept { return frequencies_; }
  /// Writes the embedding of a token.
  /// @param out width floats
  void embed(std::size_t token, float* out) const noexcept;

 private:
  struct Memory;

  gguf::File file_;
  ModelConfig config_;
  const gguf::Tensor* embedding_ = nullptr;
  std::vector<LayerWeights> layers_;
  std::vector<float> output_norm_;
  std::vector<float> frequencies_;
  Matrix output_;
  std::unique_ptr<Memory> memory_;
};

}  // namespace decoder
