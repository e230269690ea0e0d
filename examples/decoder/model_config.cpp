#include "model_config.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "gguf.hpp"
#include "kernels.hpp"
#include "one_line.hpp"

namespace decoder {
namespace {

// Reads the keys that begin with the architecture's name.
class Keys {
 public:
  Keys(const gguf::File& file, const std::string& architecture)
      : file_(file), prefix_(architecture + '.') {}

  std::uint32_t count(const std::string& key) const {
    return checked(key, file_.integer(prefix_ + key));
  }
  std::uint32_t count(const std::string& key, std::uint64_t fallback) const {
    return checked(key, file_.integer(prefix_ + key, fallback));
  }
  float number(const std::string& key, float fallback) const {
    return static_cast<float>(file_.number(prefix_ + key, static_cast<double>(fallback)));
  }
  std::string_view text(const std::string& key) const { return file_.string(prefix_ + key, ""); }

  // Sizes stay far below what products of two or three of them could overflow.
  std::uint32_t checked(const std::string& key, std::uint64_t value) const {
    if (value == 0 || value > std::numeric_limits<std::int32_t>::max() / 64) {
      throw file_.error(prefix_ + key + " is " + std::to_string(value) +
                        ", no size of a model: the file is damaged");
    }
    return static_cast<std::uint32_t>(value);
  }

 private:
  const gguf::File& file_;
  std::string prefix_;
};

std::string known_architecture(const gguf::File& file) {
  const std::string architecture(file.string("general.architecture"));
  if (architecture != "llama" && architecture != "qwen2" && architecture != "qwen3") {
    throw file.error("architecture '" + one_line(architecture) +
                     "' is not supported: use a llama, qwen2 or qwen3 model");
  }
  return architecture;
}

std::uint32_t vocabulary_of(const gguf::File& file, const Keys& keys) {
  const auto& shape = [&]() -> const std::vector<std::uint64_t>& {
    const gguf::Tensor* embedding = file.find("token_embd.weight");
    if (embedding == nullptr) throw file.error("tensor token_embd.weight is missing: not a model");
    return embedding->shape;
  }();
  if (shape.size() != 2) throw file.error("tensor token_embd.weight is not a matrix");
  return keys.checked("vocab_size", shape[1]);
}

void read_rope(const gguf::File& file, const Keys& keys, ModelConfig& config) {
  config.rope_channels = keys.count("rope.dimension_count", config.head_dim);
  config.rope_base = keys.number("rope.freq_base", config.rope_base);
  const std::string_view scaling = keys.text("rope.scaling.type");
  if (scaling.empty()) {  // older files tell of linear scaling by one key alone
    config.rope_scale = 1.0f / keys.number("rope.scale_linear", 1.0f);
  } else if (scaling == "linear") {
    config.rope_scale = 1.0f / keys.number("rope.scaling.factor", 1.0f);
  } else if (scaling != "none") {
    throw file.error("RoPE scaling '" + one_line(scaling) +
                     "' is not supported: use a model with linear or no scaling");
  }
  if (config.architecture != "llama") config.rope_pairs = RopePairs::halves;
}

void check(const gguf::File& file, const ModelConfig& config) {
  const auto refuse_unless = [&](bool good, const char* what) {
    if (!good) throw file.error(std::string(what) + ": the file is damaged or not supported");
  };
  refuse_unless(config.layers <= 1024, "block_count exceeds 1,024");
  refuse_unless(config.vocabulary < 1u << 24, "the vocabulary has 2^24 tokens or more");
  refuse_unless(config.heads % config.kv_heads == 0,
                "attention.head_count is no multiple of attention.head_count_kv");
  refuse_unless(config.head_dim <= kernels::max_head_dim, "a head has more than 256 channels");
  refuse_unless(config.rope_channels <= config.head_dim && config.rope_channels % 2 == 0,
                "rope.dimension_count is odd or exceeds a head");
  refuse_unless(config.rope_base > 0 && std::isfinite(config.rope_scale), "RoPE is senseless");
  refuse_unless(config.norm_epsilon >= 0, "the norm's epsilon is negative");
}

}  // namespace

ModelConfig ModelConfig::read(const gguf::File& file) {
  ModelConfig config;
  config.architecture = known_architecture(file);
  config.name = file.string("general.name", "");
  const Keys keys(file, config.architecture);
  config.layers = keys.count("block_count");
  config.width = keys.count("embedding_length");
  config.heads = keys.count("attention.head_count");
  config.kv_heads = keys.count("attention.head_count_kv", config.heads);
  config.head_dim = keys.count("attention.key_length", config.width / config.heads);
  config.feed_forward = keys.count("feed_forward_length");
  config.context = keys.count("context_length");
  // A sliding window hides nothing from a text that is no longer than it.
  config.context = std::min(config.context, keys.count("attention.sliding_window", config.context));
  config.vocabulary = vocabulary_of(file, keys);
  config.norm_epsilon = keys.number("attention.layer_norm_rms_epsilon", config.norm_epsilon);
  read_rope(file, keys, config);
  check(file, config);
  return config;
}

}  // namespace decoder
