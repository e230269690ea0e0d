#include "model_source.hpp"

#include <array>
#include <cmath>
#include <utility>

#include "error.hpp"
#include "model.hpp"
#include "one_line.hpp"

namespace cuda_decode {
namespace {

using decoder::ModelConfig;

std::uint32_t channels(const ModelConfig& config, std::uint32_t heads) {
  return heads * config.head_dim;
}

// Matrices of a file that are read as one, the first on top.
MatrixSource stacked(const decoder::gguf::File& file, const std::vector<std::string>& names) {
  std::vector<const decoder::gguf::Tensor*> parts;
  MatrixSource matrix;
  for (const std::string& name : names) {
    parts.push_back(file.find(name));
    matrix.columns = static_cast<std::uint32_t>(parts.back()->row_elements());
    matrix.rows += static_cast<std::uint32_t>(parts.back()->rows());
  }
  matrix.read_row = [parts](std::uint32_t row, float* out) {
    std::size_t left = row;
    for (const auto* part : parts) {
      if (left < part->rows()) return decoder::dequantise_row(*part, left, out);
      left -= part->rows();
    }
  };
  return matrix;
}

std::vector<float> joined(const decoder::LayerWeights& layer) {
  std::vector<float> all = layer.query_bias;
  all.insert(all.end(), layer.key_bias.begin(), layer.key_bias.end());
  all.insert(all.end(), layer.value_bias.begin(), layer.value_bias.end());
  return all;
}

LayerSource layer_of(const decoder::Model& model, std::size_t index) {
  const decoder::LayerWeights& layer = model.layer(index);
  const std::string name = "blk." + std::to_string(index) + '.';
  const auto& file = model.file();
  const std::size_t biases = (layer.query_bias.empty() ? 0u : 1u) +
                             (layer.key_bias.empty() ? 0u : 1u) +
                             (layer.value_bias.empty() ? 0u : 1u);
  if (biases % 3 != 0)
    throw file.error("a layer has some of the three biases of attention: use another model");
  return {.heads = stacked(
              file, {name + "attn_q.weight", name + "attn_k.weight", name + "attn_v.weight"}),
          .output = stacked(file, {name + "attn_output.weight"}),
          .gates_ups = stacked(file, {name + "ffn_gate.weight", name + "ffn_up.weight"}),
          .down = stacked(file, {name + "ffn_down.weight"}),
          .attention_norm = layer.attention_norm,
          .feed_forward_norm = layer.feed_forward_norm,
          .query_norm = layer.query_norm,
          .key_norm = layer.key_norm,
          .bias = joined(layer)};
}

LayerSource random_layer(const ModelConfig& config) {
  const std::uint32_t all = channels(config, config.heads + 2 * config.kv_heads);
  LayerSource layer;
  layer.heads = {all, config.width};
  layer.output = {config.width, channels(config, config.heads)};
  layer.gates_ups = {2 * config.feed_forward, config.width};
  layer.down = {config.width, config.feed_forward};
  layer.attention_norm.assign(config.width, 1.0F);
  layer.feed_forward_norm.assign(config.width, 1.0F);
  if (config.architecture == "qwen2") layer.bias.assign(all, 0.1F);
  if (config.architecture == "qwen3") {
    layer.query_norm.assign(config.head_dim, 1.0F);
    layer.key_norm.assign(config.head_dim, 1.0F);
  }
  return layer;
}

double weights_of(const MatrixSource& matrix) {
  return static_cast<double>(matrix.rows) * static_cast<double>(matrix.columns);
}

const std::array<ModelConfig, 2>& known_shapes() {
  static const std::array<ModelConfig, 2> known{
      ModelConfig{.architecture = "llama",
                  .name = "llama-3.1-8b",
                  .layers = 32,
                  .width = 4096,
                  .heads = 32,
                  .kv_heads = 8,
                  .head_dim = 128,
                  .feed_forward = 14336,
                  .vocabulary = 128256,
                  .context = 131072,
                  .rope_channels = 128,
                  .rope_base = 500000.0F},
      ModelConfig{.architecture = "qwen2",
                  .name = "r1-distill-qwen-7b",
                  .layers = 28,
                  .width = 3584,
                  .heads = 28,
                  .kv_heads = 4,
                  .head_dim = 128,
                  .feed_forward = 18944,
                  .vocabulary = 152064,
                  .context = 131072,
                  .rope_channels = 128,
                  .norm_epsilon = 1e-6F,
                  .rope_pairs = decoder::RopePairs::halves}};
  return known;
}

}  // namespace

double ModelSource::step_weights() const {
  double sum = weights_of(output.rows != 0 ? output : embedding);
  for (const LayerSource& layer : layers) {
    sum += weights_of(layer.heads) + weights_of(layer.output) + weights_of(layer.gates_ups) +
           weights_of(layer.down);
  }
  return sum;
}

ModelSource source_of(const decoder::Model& model) {
  const auto& file = model.file();
  ModelSource source{.config = model.config(),
                     .layers = {},
                     .output_norm = model.output_norm(),
                     .frequencies = model.rope_frequencies(),
                     .embedding = stacked(file, {"token_embd.weight"}),
                     .output = {}};
  if (file.find("output.weight") != nullptr) source.output = stacked(file, {"output.weight"});
  for (std::size_t i = 0; i < source.config.layers; ++i)
    source.layers.push_back(layer_of(model, i));
  return source;
}

ModelSource random_source(const ModelConfig& config) {
  ModelSource source{.config = config,
                     .layers = std::vector<LayerSource>(config.layers, random_layer(config)),
                     .output_norm = std::vector<float>(config.width, 1.0F),
                     .frequencies = {},
                     .embedding = {config.vocabulary, config.width},
                     .output = {config.vocabulary, config.width}};
  for (std::uint32_t i = 0; i < config.rope_channels / 2; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / config.rope_channels;
    source.frequencies.push_back(
        static_cast<float>(std::pow(static_cast<double>(config.rope_base), exponent)));
  }
  return source;
}

ModelConfig named_shape(const std::string& name) {
  for (const ModelConfig& shape : known_shapes())
    if (shape.name == name) return shape;
  throw decoder::Error("there is no model " + decoder::one_line(name) + ": take one of " +
                       shape_list());
}

std::string shape_list() {
  std::string names;
  for (const ModelConfig& shape : known_shapes()) names += (names.empty() ? "" : ", ") + shape.name;
  return names;
}

}  // namespace cuda_decode
