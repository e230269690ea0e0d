/// What entered attention while a text was read: the input of `decoder replay`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "decoder.hpp"
#include "model_config.hpp"
#include "safetensors.hpp"

namespace decoder {

/// What one layer's attention took in: [tokens][heads][channels] of queries, keys and values, and
/// [tokens][heads] log-sum-exps, null where nobody recorded them.
struct RecordedLayer {
  const safetensors::Tensor* queries = nullptr;
  const safetensors::Tensor* keys = nullptr;
  const safetensors::Tensor* values = nullptr;
  const safetensors::Tensor* lse = nullptr;
};

/// Reads the parts that belong to tokens, from `first` on, of a tensor whose first dimension counts
/// them.
/// @param out of as many numbers as those tokens have
void read_tokens(const safetensors::Tensor& tensor, std::size_t first, std::span<float> out);

/// A text's queries, keys and values in a safetensors file; docs/replay.md has its layout.
class Recording {
 public:
  /// Maps and checks a file.
  /// @throws Error when it is no such file, a tensor is missing, misshapen or of another type, or
  ///         not all numbers are finite
  static Recording open(const std::filesystem::path& path);

  /// Layers, heads and channels; what only weights have is not set.
  [[nodiscard]] const ModelConfig& model() const noexcept { return model_; }
  [[nodiscard]] std::size_t tokens() const noexcept { return tokens_; }
  /// Tokens at the beginning that were read, not generated.
  [[nodiscard]] std::size_t prompt_tokens() const noexcept { return prompt_tokens_; }
  /// Angle per position of each pair of channels; empty: the keys are not rotated, or nobody said.
  [[nodiscard]] std::span<const float> rope_frequencies() const noexcept {
    return rope_frequencies_;
  }
  /// What queries times keys are multiplied by.
  [[nodiscard]] float scale() const noexcept { return scale_; }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return file_.path(); }

  [[nodiscard]] const RecordedLayer& layer(std::size_t index) const noexcept {
    return layers_[index];
  }

  [[nodiscard]] Error error(const std::string& message) const { return file_.error(message); }

 private:
  explicit Recording(safetensors::File file);
  void read_shape();
  void read_metadata();
  void read_rotation();
  [[nodiscard]] std::size_t count_layers() const;
  [[nodiscard]] RecordedLayer find_layer(std::size_t index) const;
  void check_finite(const std::string& name, const safetensors::Tensor& tensor) const;

  safetensors::File file_;
  ModelConfig model_;
  std::size_t tokens_ = 0;
  std::size_t prompt_tokens_ = 0;
  float scale_ = 0;
  std::vector<float> rope_frequencies_;
  std::vector<RecordedLayer> layers_;
};

/// Keeps what enters attention while a sequence is decoded with its whole cache.
class AttentionRecorder {
 public:
  explicit AttentionRecorder(const ModelConfig& model) : model_(model), layers_(model.layers) {}

  /// Keeps a step of one layer, in half precision. O(tokens x channels of all heads).
  void add(const LayerStep& step);

  /// Writes all that was kept. Throws Error when that fails.
  void write(const std::string& path, std::size_t prompt_tokens,
             std::span<const float> rope_frequencies) const;

 private:
  struct Layer {
    std::vector<std::uint16_t> queries;
    std::vector<std::uint16_t> keys;
    std::vector<std::uint16_t> values;
    std::vector<float> lse;
  };

  const ModelConfig& model_;
  std::vector<Layer> layers_;
};

}  // namespace decoder
