#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gguf.hpp"
#include "gguf_writer.hpp"

namespace decoder::test {

/// Shape of the tiny random models whose logits tests/golden/tiny_models.json holds.
///
/// scripts/golden/tiny_models.py makes the same files by the same rules; change both or neither.
struct TinyModel {
  std::string architecture;  ///< llama, qwen2 or qwen3
  gguf::TensorType type = gguf::TensorType::F32;
  std::uint32_t layers = 2;
  std::uint32_t width = 256;
  std::uint32_t feed_forward = 512;
  std::uint32_t heads = 4;
  std::uint32_t kv_heads = 2;
  std::uint32_t vocabulary = 64;
  std::uint32_t context = 128;
  std::uint32_t tokens = 0;         ///< of the tokenizer; 0: as many as the vocabulary has rows
  std::string chat_template = {};   ///< empty: none
  std::string unknown_tensor = {};  ///< name of one that no model has; empty: none

  std::uint32_t head_channels() const { return architecture == "qwen3" ? 128 : 64; }
  float rope_base() const { return architecture == "llama" ? 10000.0f : 1000000.0f; }
};

/// What keeps a block's scales or exponents where weights are about 0.05: byte & mask | value.
struct ByteFix {
  std::size_t offset;
  unsigned mask;
  unsigned value;
};

inline std::vector<ByteFix> byte_fixes(gguf::TensorType type) {
  using gguf::TensorType;
  switch (type) {
    case TensorType::F32:
      return {{2, 0x7F, 0}, {3, 0x80, 0x3D}};
    case TensorType::F16:
      return {{1, 0x83, 0x28}};
    case TensorType::BF16:
      return {{0, 0x7F, 0}, {1, 0x80, 0x3D}};
    case TensorType::Q8_0:
      return {{1, 0, 0x12}};
    case TensorType::Q4_0:
      return {{1, 0, 0x22}};
    case TensorType::Q4_1:
      return {{1, 0, 0x22}, {3, 0, 0xAE}};
    case TensorType::Q4_K:
      return {{1, 0, 0x0C}, {3, 0, 0x17}};
    case TensorType::Q6_K:
      return {{209, 0, 0x03}};
  }
  return {};
}

/// SplitMix64's bytes, little endian, from the FNV-1a hash of `name`.
inline std::vector<std::byte> random_bytes(std::string_view name, std::size_t count) {
  std::uint64_t state = 0xCBF29CE484222325u;
  for (const char c : name) state = (state ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  std::vector<std::byte> bytes(count);
  std::uint64_t word = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (i % 8 == 0) {
      state += 0x9E3779B97F4A7C15u;
      word = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9u;
      word = (word ^ (word >> 27)) * 0x94D049BB133111EBu;
      word ^= word >> 31;
    }
    bytes[i] = static_cast<std::byte>(word >> (i % 8 * 8));
  }
  return bytes;
}

/// Bytes of a tensor of so many elements.
inline std::vector<std::byte> random_tensor(std::string_view name, std::uint64_t elements,
                                            gguf::TensorType type) {
  const gguf::BlockLayout block = gguf::block_layout(type);
  std::vector<std::byte> bytes = random_bytes(name, elements / block.elements * block.bytes);
  const bool norm = name.find("norm") != name.npos;
  const std::vector<ByteFix> fixes =
      norm ? std::vector<ByteFix>{{2, 0x7F, 0x80}, {3, 0, 0x3F}} : byte_fixes(type);
  for (std::size_t begin = 0; begin < bytes.size(); begin += block.bytes) {
    for (const ByteFix& fix : fixes) {
      const auto old = std::to_integer<unsigned>(bytes[begin + fix.offset]);
      bytes[begin + fix.offset] = static_cast<std::byte>((old & fix.mask) | fix.value);
    }
  }
  return bytes;
}

/// Tokens '!', '"', and so on, one that joins the two, and names for those that have no row.
inline std::vector<std::string> tiny_tokens(const TinyModel& model) {
  const std::uint32_t count = model.tokens == 0 ? model.vocabulary : model.tokens;
  const std::uint32_t spelled = std::min(count, model.vocabulary);
  std::vector<std::string> tokens;
  for (std::uint32_t i = 0; i + 1 < spelled; ++i) {
    tokens.emplace_back(1, static_cast<char>('!' + i));
  }
  tokens.emplace_back("!\"");
  while (tokens.size() < count) tokens.push_back("<" + std::to_string(tokens.size()) + ">");
  return tokens;
}

inline void add_tiny_metadata(GgufWriter& writer, const TinyModel& model) {
  const std::string prefix = model.architecture + ".";
  writer.string("general.architecture", model.architecture);
  writer.integer(prefix + "block_count", model.layers);
  writer.integer(prefix + "context_length", model.context);
  writer.integer(prefix + "embedding_length", model.width);
  writer.integer(prefix + "feed_forward_length", model.feed_forward);
  writer.integer(prefix + "attention.head_count", model.heads);
  writer.integer(prefix + "attention.head_count_kv", model.kv_heads);
  writer.integer(prefix + "attention.key_length", model.head_channels());
  writer.integer(prefix + "attention.value_length", model.head_channels());
  writer.integer(prefix + "rope.dimension_count", model.head_channels());
  writer.number(prefix + "rope.freq_base", model.rope_base());
  writer.number(prefix + "attention.layer_norm_rms_epsilon", 1e-5f);
  writer.integer(prefix + "vocab_size", model.vocabulary);
  writer.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "gpt-2");
  writer.strings("tokenizer.ggml.tokens", tiny_tokens(model));
  writer.strings("tokenizer.ggml.merges", {"! \""});
  if (!model.chat_template.empty()) writer.string("tokenizer.chat_template", model.chat_template);
}

inline void add_tiny_layer(GgufWriter& writer, const TinyModel& model, std::uint32_t layer) {
  const std::string prefix = "blk." + std::to_string(layer) + ".";
  const std::uint64_t queries = model.heads * model.head_channels();
  const std::uint64_t keys = model.kv_heads * model.head_channels();
  const auto matrix = [&](const char* name, std::uint64_t columns, std::uint64_t rows) {
    writer.tensor(prefix + name, model.type, {columns, rows},
                  random_tensor(prefix + name, columns * rows, model.type));
  };
  const auto vector = [&](const char* name, std::uint64_t count) {
    writer.tensor(prefix + name, gguf::TensorType::F32, {count},
                  random_tensor(prefix + name, count, gguf::TensorType::F32));
  };
  vector("attn_norm.weight", model.width);
  vector("ffn_norm.weight", model.width);
  matrix("attn_q.weight", model.width, queries);
  matrix("attn_k.weight", model.width, keys);
  matrix("attn_v.weight", model.width, keys);
  matrix("attn_output.weight", queries, model.width);
  matrix("ffn_gate.weight", model.width, model.feed_forward);
  matrix("ffn_up.weight", model.width, model.feed_forward);
  matrix("ffn_down.weight", model.feed_forward, model.width);
  if (model.architecture == "qwen2") {
    vector("attn_q.bias", queries);
    vector("attn_k.bias", keys);
    vector("attn_v.bias", keys);
  }
  if (model.architecture == "qwen3") {
    vector("attn_q_norm.weight", model.head_channels());
    vector("attn_k_norm.weight", model.head_channels());
  }
}

/// The GGUF file of a tiny model; the same bytes every time.
inline std::vector<std::byte> tiny_model(const TinyModel& model) {
  GgufWriter writer;
  add_tiny_metadata(writer, model);
  const auto table = [&](const char* name) {
    writer.tensor(name, model.type, {model.width, model.vocabulary},
                  random_tensor(name, std::uint64_t{model.width} * model.vocabulary, model.type));
  };
  table("token_embd.weight");
  writer.tensor("output_norm.weight", gguf::TensorType::F32, {model.width},
                random_tensor("output_norm.weight", model.width, gguf::TensorType::F32));
  if (model.architecture != "qwen2") table("output.weight");  // qwen2 uses the embedding
  for (std::uint32_t layer = 0; layer < model.layers; ++layer) add_tiny_layer(writer, model, layer);
  if (!model.unknown_tensor.empty())
    writer.tensor(model.unknown_tensor, gguf::TensorType::F32, {1}, std::vector<std::byte>(4));
  return writer.bytes();
}

}  // namespace decoder::test
