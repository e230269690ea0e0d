/// A model's weights in a device's memory.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "device.hpp"
#include "fill_kernels.cuh"
#include "model_source.hpp"

namespace cuda_decode {

/// Memory of a device, held piece by piece.
template <Device D>
class Pieces {
 public:
  explicit Pieces(D& device) : device_(&device) {}

  template <class T>
  [[nodiscard]] T* take(std::size_t count) {
    memories_.push_back(device_->allocate(count * sizeof(T)));
    return reinterpret_cast<T*>(memories_.back().get());
  }

 private:
  D* device_;
  std::vector<decltype(std::declval<D&>().allocate(0))> memories_;
};

/// A layer's weights as its kernels take them; null where a model has none.
template <class Weight>
struct DeviceLayer {
  const Weight* heads = nullptr;
  const Weight* output = nullptr;
  const Weight* gates_ups = nullptr;
  const Weight* down = nullptr;
  const float* attention_norm = nullptr;
  const float* feed_forward_norm = nullptr;
  const float* query_norm = nullptr;
  const float* key_norm = nullptr;
  const float* bias = nullptr;
};

template <Device D, class Weight>
class DeviceModel {
 public:
  /// Reads the weights and rounds them to Weight, or draws them. O(weights).
  DeviceModel(D& device, const ModelSource& source)
      : device_(device), pieces_(device), config_(source.config), on_matrix_(source.on_matrix) {
    embedding_ = matrix(source.embedding, 1.0f);
    output_ = source.output.rows == 0 ? embedding_ : matrix(source.output, 1.0f);
    for (const LayerSource& layer : source.layers) layers_.push_back(placed(layer));
    output_norm_ = vector(source.output_norm);
    frequencies_ = vector(source.frequencies);
    on_matrix_ = {};
  }
  DeviceModel(const DeviceModel&) = delete;
  DeviceModel& operator=(const DeviceModel&) = delete;

  [[nodiscard]] const decoder::ModelConfig& config() const { return config_; }
  [[nodiscard]] const DeviceLayer<Weight>& layer(std::size_t index) const { return layers_[index]; }
  [[nodiscard]] const Weight* embedding() const { return embedding_; }
  [[nodiscard]] const Weight* output() const { return output_; }
  [[nodiscard]] const float* output_norm() const { return output_norm_; }
  [[nodiscard]] const float* frequencies() const { return frequencies_; }

 private:
  [[nodiscard]] DeviceLayer<Weight> placed(const LayerSource& layer) {
    // Each layer adds two rows to the stream: the more layers, the less each.
    const float added = 1.0f / std::sqrt(2.0f * static_cast<float>(config_.layers));
    return {.heads = matrix(layer.heads, 1.0f),
            .output = matrix(layer.output, added),
            .gates_ups = matrix(layer.gates_ups, 1.0f),
            .down = matrix(layer.down, added),
            .attention_norm = vector(layer.attention_norm),
            .feed_forward_norm = vector(layer.feed_forward_norm),
            .query_norm = vector(layer.query_norm),
            .key_norm = vector(layer.key_norm),
            .bias = vector(layer.bias)};
  }

  /// gain: of random weights, the size of an output over that of an input.
  [[nodiscard]] const Weight* matrix(const MatrixSource& matrix, float gain) {
    const std::size_t count = std::size_t{matrix.rows} * matrix.columns;
    auto* to = pieces_.template take<Weight>(count);
    if (!D::holds_memory) return to;
    if (matrix.read_row) {
      read(matrix, to);
    } else {
      const float scale = gain * std::sqrt(3.0f / static_cast<float>(matrix.columns));
      const Fill<Weight> fill{.to = to, .count = count, .scale = scale, .seed = seed_ += count};
      device_.launch(fill, {fill.blocks()});
    }
    if (on_matrix_) on_matrix_();
    return to;
  }

  void read(const MatrixSource& matrix, Weight* to) const {
    std::vector<Weight> stored(std::size_t{matrix.rows} * matrix.columns);
    std::vector<float> row(matrix.columns);
    for (std::uint32_t i = 0; i < matrix.rows; ++i) {
      matrix.read_row(i, row.data());
      Weight* out = stored.data() + std::size_t{i} * matrix.columns;
      for (std::uint32_t c = 0; c < matrix.columns; ++c) narrow(row[c], out[c]);
    }
    device_.upload(to, stored.data(), stored.size() * sizeof(Weight));
  }

  [[nodiscard]] const float* vector(const std::vector<float>& values) {
    if (values.empty()) return nullptr;
    auto* to = pieces_.template take<float>(values.size());
    device_.upload(to, values.data(), values.size() * sizeof(float));
    return to;
  }

  D& device_;
  Pieces<D> pieces_;
  decoder::ModelConfig config_;
  std::function<void()> on_matrix_;
  std::uint64_t seed_ = 1;
  const Weight* embedding_ = nullptr;
  const Weight* output_ = nullptr;
  std::vector<DeviceLayer<Weight>> layers_;
  const float* output_norm_ = nullptr;
  const float* frequencies_ = nullptr;
};

}  // namespace cuda_decode
