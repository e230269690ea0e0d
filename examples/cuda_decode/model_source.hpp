/// Where a model's weights come from: a file, or chance.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model_config.hpp"

namespace decoder {
class Model;
}

namespace cuda_decode {

/// A matrix, row by row; without a reader its weights are random.
struct MatrixSource {
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  std::function<void(std::uint32_t row, float* out)> read_row{};
};

/// A layer's weights. Vectors that a model lacks are empty.
struct LayerSource {
  MatrixSource heads;  ///< of queries, keys and values, one below the other
  MatrixSource output;
  MatrixSource gates_ups;  ///< gates, then ups
  MatrixSource down;
  std::vector<float> attention_norm;
  std::vector<float> feed_forward_norm;
  std::vector<float> query_norm;
  std::vector<float> key_norm;
  std::vector<float> bias;  ///< of queries, keys and values
};

struct ModelSource {
  decoder::ModelConfig config;
  std::vector<LayerSource> layers;
  std::vector<float> output_norm;
  std::vector<float> frequencies;
  MatrixSource embedding;
  MatrixSource output;  ///< no rows: the embedding's
  /// Called after each matrix that was read; may be empty.
  std::function<void()> on_matrix{};

  /// Matrices to read, the embedding included.
  [[nodiscard]] std::size_t matrices() const {
    return 4 * layers.size() + (output.rows != 0 ? 2u : 1u);
  }
  /// Weights that every step reads: all matrices, of the embedding only where it makes the logits.
  [[nodiscard]] double step_weights() const;
};

/// A model's weights as its file has them, dequantised; `model` must outlive it.
[[nodiscard]] ModelSource source_of(const decoder::Model& model);

/// A model of that shape whose weights are random, of a size that keeps its activations near 1.
[[nodiscard]] ModelSource random_source(const decoder::ModelConfig& config);

/// The shape of a model by name; throws decoder::Error that lists the known ones.
///
/// From the config.json of meta-llama/Llama-3.1-8B and deepseek-ai/DeepSeek-R1-Distill-Qwen-7B.
[[nodiscard]] decoder::ModelConfig named_shape(const std::string& name);
[[nodiscard]] std::string shape_list();

}  // namespace cuda_decode
