#include "model.hpp"

#include <sys/mman.h>

#include <cmath>
#include <set>
#include <string>
#include <utility>

#include "one_line.hpp"
#include "thread_pool.hpp"

namespace decoder {

/// Memory of all packed matrices: one mapping, zeroed, on huge pages where the system has them.
struct Model::Memory {
  explicit Memory(std::size_t size) : bytes(size) {
    void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw Error("no memory for the model's weights: use a smaller model");
#ifdef MADV_HUGEPAGE
    madvise(mapped, bytes, MADV_HUGEPAGE);
#endif
    data = static_cast<std::byte*>(mapped);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { munmap(data, bytes); }

  std::byte* data = nullptr;
  std::size_t bytes = 0;
};

namespace {

struct Pending {
  const gguf::Tensor* tensor;
  Matrix* matrix;
};

// Finds tensors and notes the matrices that are still to be packed.
class Loader {
 public:
  explicit Loader(const gguf::File& file) : file_(file) {}

  void matrix(const std::string& name, std::uint64_t columns, std::uint64_t rows, Matrix& out) {
    const gguf::Tensor& tensor = require(name, {columns, rows});
    out = describe(tensor);
    pending_.push_back({&tensor, &out});
  }

  std::vector<float> vector(const std::string& name, std::uint64_t count) {
    const gguf::Tensor& tensor = require(name, {count});
    std::vector<float> values(count);
    dequantise_row(tensor, 0, values.data());
    return values;
  }

  std::vector<float> optional_vector(const std::string& name, std::uint64_t count) {
    return file_.find(name) == nullptr ? std::vector<float>() : vector(name, count);
  }

  // Without one of its weights a block would compute something else than the model does.
  void refuse_unread_blocks() const {
    for (const auto& [name, tensor] : file_.tensors()) {
      if (name.starts_with("blk.") && !read_.contains(&tensor))
        throw file_.error("tensor " + one_line(name) +
                          " has no place in this decoder: use another model");
    }
  }

  const std::vector<Pending>& pending() const { return pending_; }

 private:
  const gguf::Tensor& require(const std::string& name, std::initializer_list<std::uint64_t> shape) {
    const gguf::Tensor& tensor = file_.require(name, shape);
    read_.insert(&tensor);
    return tensor;
  }

  const gguf::File& file_;
  std::vector<Pending> pending_;
  std::set<const gguf::Tensor*> read_;
};

void read_vectors(Loader& loader, const ModelConfig& config, const std::string& prefix,
                  LayerWeights& layer) {
  const std::uint64_t queries = std::uint64_t{config.heads} * config.head_dim;
  const std::uint64_t keys = std::uint64_t{config.kv_heads} * config.head_dim;
  layer.attention_norm = loader.vector(prefix + "attn_norm.weight", config.width);
  layer.feed_forward_norm = loader.vector(prefix + "ffn_norm.weight", config.width);
  layer.query_norm = loader.optional_vector(prefix + "attn_q_norm.weight", config.head_dim);
  layer.key_norm = loader.optional_vector(prefix + "attn_k_norm.weight", config.head_dim);
  layer.query_bias = loader.optional_vector(prefix + "attn_q.bias", queries);
  layer.key_bias = loader.optional_vector(prefix + "attn_k.bias", keys);
  layer.value_bias = loader.optional_vector(prefix + "attn_v.bias", keys);
}

void read_layer(Loader& loader, const ModelConfig& config, std::size_t index, LayerWeights& layer) {
  const std::string prefix = "blk." + std::to_string(index) + '.';
  const std::uint64_t queries = std::uint64_t{config.heads} * config.head_dim;
  const std::uint64_t keys = std::uint64_t{config.kv_heads} * config.head_dim;
  read_vectors(loader, config, prefix, layer);
  loader.matrix(prefix + "attn_q.weight", config.width, queries, layer.query);
  loader.matrix(prefix + "attn_k.weight", config.width, keys, layer.key);
  loader.matrix(prefix + "attn_v.weight", config.width, keys, layer.value);
  loader.matrix(prefix + "attn_output.weight", queries, config.width, layer.attention_output);
  loader.matrix(prefix + "ffn_gate.weight", config.width, config.feed_forward, layer.gate);
  loader.matrix(prefix + "ffn_up.weight", config.width, config.feed_forward, layer.up);
  loader.matrix(prefix + "ffn_down.weight", config.feed_forward, config.width, layer.down);
}

// Llama 3.1 and later divide each frequency by a factor of its own.
std::vector<float> frequencies_of(Loader& loader, const ModelConfig& config) {
  const std::size_t pairs = config.rope_channels / 2;
  const std::vector<float> factors = loader.optional_vector("rope_freqs.weight", pairs);
  std::vector<float> frequencies(pairs);
  for (std::size_t i = 0; i < pairs; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / config.rope_channels;
    const double factor = factors.empty() ? 1.0 : static_cast<double>(factors[i]);
    frequencies[i] = static_cast<float>(std::pow(static_cast<double>(config.rope_base), exponent) *
                                        static_cast<double>(config.rope_scale) / factor);
  }
  return frequencies;
}

constexpr std::size_t panels_per_task = 16;

// Packs one matrix after another, each by all threads.
void pack_all(const std::vector<Pending>& pending, std::byte* memory, unsigned threads) {
  ThreadPool pool(threads);
  for (const Pending& item : pending) {
    pool.parallel_for(item.matrix->panels(), panels_per_task,
                      [&](std::size_t first, std::size_t last) {
                        pack(*item.tensor, *item.matrix, first, last, memory);
                      });
    item.matrix->data = memory;
    memory += item.matrix->bytes();
  }
}

}  // namespace

Model::Model(gguf::File file, unsigned threads)
    : file_(std::move(file)), config_(ModelConfig::read(file_)), layers_(config_.layers) {
  Loader loader(file_);
  embedding_ = &file_.require("token_embd.weight", {config_.width, config_.vocabulary});
  output_norm_ = loader.vector("output_norm.weight", config_.width);
  frequencies_ = frequencies_of(loader, config_);
  for (std::size_t i = 0; i < layers_.size(); ++i) read_layer(loader, config_, i, layers_[i]);
  loader.refuse_unread_blocks();
  const bool tied = file_.find("output.weight") == nullptr;
  loader.matrix(tied ? embedding_->name : "output.weight", config_.width, config_.vocabulary,
                output_);
  std::size_t bytes = 0;
  for (const Pending& item : loader.pending()) bytes += item.matrix->bytes();
  memory_ = std::make_unique<Memory>(bytes);
  pack_all(loader.pending(), memory_->data, threads);
}

Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;

void Model::embed(std::size_t token, float* out) const noexcept {
  dequantise_row(*embedding_, token, out);
}

}  // namespace decoder
