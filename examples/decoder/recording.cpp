#include "recording.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "half.hpp"
#include "kernels.hpp"
#include "one_line.hpp"

namespace decoder {
namespace {

using safetensors::Tensor;

std::string name_of(std::size_t layer, const char* kind) {
  return "layers." + std::to_string(layer) + "." + kind;
}

template <class Number>
bool parse(const std::string& text, Number& number) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stop == end;
}

Tensor tensor_of(const char* type, std::vector<std::uint64_t> shape,
                 std::span<const std::byte> data) {
  return {.type = type, .shape = std::move(shape), .data = data};
}

void append_halves(std::vector<std::uint16_t>& to, const float* from, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) to.push_back(float_to_half(from[i]));
}

}  // namespace

void read_tokens(const Tensor& tensor, std::size_t first, std::span<float> out) {
  safetensors::read(tensor, first * (tensor.elements() / tensor.shape.front()), out);
}

Recording Recording::open(const std::filesystem::path& path) {
  return Recording(safetensors::File::open(path));
}

Recording::Recording(safetensors::File file) : file_(std::move(file)) {
  read_shape();
  read_metadata();
  read_rotation();
  for (std::size_t i = 0; i < model_.layers; ++i) layers_.push_back(find_layer(i));
}

std::size_t Recording::count_layers() const {
  std::size_t count = 0;
  while (file_.find(name_of(count, "queries")) != nullptr) ++count;
  for (const char* kind : {"queries", "keys", "values", "lse"}) {
    for (const std::size_t next : {count, count + 1}) {
      if (count > 0 && file_.find(name_of(next, kind)) != nullptr)
        throw file_.error("has " + name_of(next, kind) + " but no " + name_of(count, "queries"));
    }
  }
  return count;
}

void Recording::read_shape() {
  model_.layers = static_cast<std::uint32_t>(count_layers());
  if (model_.layers == 0)
    throw file_.error("is no recording: it has no tensor layers.0.queries (see docs/replay.md)");
  const Tensor& queries = *file_.find(name_of(0, "queries"));
  const Tensor* keys = file_.find(name_of(0, "keys"));
  if (queries.shape.size() != 3 || keys == nullptr || keys->shape.size() != 3)
    throw file_.error("layers.0.queries and layers.0.keys must be tokens x heads x channels");
  const std::uint64_t heads = queries.shape[1], channels = queries.shape[2];
  const std::uint64_t kv_heads = keys->shape[1];
  tokens_ = queries.shape[0];
  if (tokens_ == 0 || kv_heads == 0 || heads == 0 || heads > 4096 || heads % kv_heads != 0)
    throw file_.error("has " + std::to_string(tokens_) + " tokens, " + std::to_string(heads) +
                      " query heads and " + std::to_string(kv_heads) +
                      " KV heads: give at least one, the former a multiple of the latter");
  if (channels == 0 || channels > kernels::max_head_dim)
    throw file_.error("has heads of " + std::to_string(channels) + " channels: 1 to " +
                      std::to_string(kernels::max_head_dim) + " can be replayed");
  model_.heads = static_cast<std::uint32_t>(heads);
  model_.kv_heads = static_cast<std::uint32_t>(kv_heads);
  model_.head_dim = static_cast<std::uint32_t>(channels);
}

void Recording::read_metadata() {
  scale_ = 1.0f / std::sqrt(static_cast<float>(model_.head_dim));
  const auto read = [&](const char* key, auto& number, const char* remedy) {
    const auto found = file_.metadata().find(key);
    if (found != file_.metadata().end() && !parse(found->second, number))
      throw file_.error(std::string("metadata ") + key + " is " + one_line(found->second) + ": " +
                        remedy);
  };
  read("prompt_tokens", prompt_tokens_, "give a whole number");
  read("scale", scale_, "give a number such as 0.125");
  if (prompt_tokens_ >= tokens_)
    throw file_.error("metadata prompt_tokens is " + std::to_string(prompt_tokens_) + " of " +
                      std::to_string(tokens_) + " tokens: none is left to be judged");
  if (!std::isfinite(scale_) || scale_ <= 0)
    throw file_.error("metadata scale is no number above 0");
  const auto name = file_.metadata().find("model");
  if (name != file_.metadata().end()) model_.name = name->second;
}

void Recording::read_rotation() {
  const Tensor* angles = file_.find("rope_frequencies");
  if (angles == nullptr) return;
  const std::uint64_t pairs = angles->elements();
  if (2 * pairs > model_.head_dim)
    throw file_.error("rope_frequencies turns " + std::to_string(2 * pairs) + " channels of " +
                      std::to_string(model_.head_dim));
  check_finite("rope_frequencies", file_.require("rope_frequencies", {pairs}));
  rope_frequencies_.resize(pairs);
  safetensors::read(*angles, 0, rope_frequencies_);
  model_.rope_channels = static_cast<std::uint32_t>(2 * pairs);
  const auto found = file_.metadata().find("rope_pairs");
  const std::string which = found == file_.metadata().end() ? "halves" : found->second;
  if (which != "halves" && which != "neighbours")
    throw file_.error("metadata rope_pairs is " + one_line(which) + ": halves or neighbours");
  model_.rope_pairs = which == "halves" ? RopePairs::halves : RopePairs::neighbours;
}

RecordedLayer Recording::find_layer(std::size_t index) const {
  const auto require = [&](const char* kind, const std::vector<std::uint64_t>& shape) {
    const Tensor& tensor = file_.require(name_of(index, kind), shape);
    check_finite(name_of(index, kind), tensor);
    return &tensor;
  };
  const std::vector<std::uint64_t> kv{tokens_, model_.kv_heads, model_.head_dim};
  RecordedLayer out{.queries = require("queries", {tokens_, model_.heads, model_.head_dim}),
                    .keys = require("keys", kv),
                    .values = require("values", kv),
                    .lse = nullptr};
  if (file_.find(name_of(0, "lse")) != nullptr) out.lse = require("lse", {tokens_, model_.heads});
  return out;
}

void Recording::check_finite(const std::string& name, const Tensor& tensor) const {
  const std::size_t count = tensor.elements();
  std::vector<float> piece(4096);
  for (std::size_t begin = 0; begin < count; begin += piece.size()) {
    const std::span<float> part = std::span(piece).first(std::min(piece.size(), count - begin));
    safetensors::read(tensor, begin, part);
    const auto odd =
        std::find_if(part.begin(), part.end(), [](float x) { return !std::isfinite(x); });
    if (odd == part.end()) continue;
    const std::size_t at = begin + static_cast<std::size_t>(odd - part.begin());
    throw file_.error("tensor " + name + " holds " + (std::isnan(*odd) ? "NaN" : "an infinity") +
                      " at element " + std::to_string(at));
  }
}

void AttentionRecorder::add(const LayerStep& step) {
  Layer& layer = layers_[step.layer];
  const std::size_t kv = step.tokens * model_.kv_heads * model_.head_dim;
  append_halves(layer.queries, step.queries, step.tokens * model_.heads * model_.head_dim);
  append_halves(layer.keys, step.keys, kv);
  append_halves(layer.values, step.values, kv);
  layer.lse.insert(layer.lse.end(), step.lse, step.lse + step.tokens * model_.heads);
}

void AttentionRecorder::write(const std::string& path, std::size_t prompt_tokens,
                              std::span<const float> rope_frequencies) const {
  const std::uint64_t tokens = layers_.front().lse.size() / model_.heads;
  const std::vector<std::uint64_t> kv{tokens, model_.kv_heads, model_.head_dim};
  std::map<std::string, Tensor, std::less<>> tensors;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    tensors[name_of(i, "queries")] = tensor_of("F16", {tokens, model_.heads, model_.head_dim},
                                               std::as_bytes(std::span(layer.queries)));
    tensors[name_of(i, "keys")] = tensor_of("F16", kv, std::as_bytes(std::span(layer.keys)));
    tensors[name_of(i, "values")] = tensor_of("F16", kv, std::as_bytes(std::span(layer.values)));
    tensors[name_of(i, "lse")] =
        tensor_of("F32", {tokens, model_.heads}, std::as_bytes(std::span(layer.lse)));
  }
  tensors["rope_frequencies"] =
      tensor_of("F32", {rope_frequencies.size()}, std::as_bytes(rope_frequencies));
  const bool halves = model_.rope_pairs == RopePairs::halves;
  safetensors::write(path,
                     {{"model", model_.name},
                      {"prompt_tokens", std::to_string(prompt_tokens)},
                      {"rope_pairs", halves ? "halves" : "neighbours"}},
                     tensors);
}

}  // namespace decoder
