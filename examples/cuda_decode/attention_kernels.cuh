/// Attention of one new token a sequence, and the mass that it hands to lethe.
///
/// Attend shares the tokens of a head out over blocks, so none of them knows the row's log-sum-exp:
/// each leaves its logits, its maximum, its sum and its output. MergeSplits makes the log-sum-exp
/// and the output of them. RecordMass is then one block for all heads of a tile of tokens, and one
/// thread adds a token's heads in ascending order, which is what lethe::gpu::MassSink asks for. The
/// logits go through memory for it, written and read: 8 x heads bytes a token, beside
/// 4 x kv_heads x head_dim of keys and values.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "head_kernels.cuh"
#include "launch.hpp"
#include "lethe/gpu/block.cuh"
#include "lethe/gpu/observe_block.cuh"
#include "lethe/gpu/state.hpp"
#include "numbers.cuh"

namespace cuda_decode {

/// Most blocks that share a head's tokens.
inline constexpr std::uint32_t most_splits = 128;

/// What the attention kernels of a layer write for each other; by row and head, as queries are.
struct AttentionBuffers {
  float* logits = nullptr;   ///< [rows][heads][capacity]; null where nobody observes
  float* maxima = nullptr;   ///< [rows][heads][splits]
  float* sums = nullptr;     ///< [rows][heads][splits]
  float* outputs = nullptr;  ///< [rows][heads][splits][head_dim]
  float* lse = nullptr;      ///< [rows][heads]
  std::uint32_t splits = 1;
  std::uint32_t split_tokens = 0;
};

/// A row's tokens in one layer, its own included; 0 for padding.
[[nodiscard]] LETHE_BLOCK_CODE inline std::uint32_t tokens_of(const lethe::gpu::State& state,
                                                              const std::int32_t* slots,
                                                              std::uint32_t layer,
                                                              std::uint32_t row) {
  const std::int32_t slot = slots[row];
  return slot < 0 ? 0 : state.lengths[state.number(layer, static_cast<std::uint32_t>(slot))];
}

/// Block (split, slice of a KV head's query heads, row).
template <class Cached, unsigned Heads>
struct Attend {
  static constexpr const char* name = "attend";
  static constexpr unsigned threads = 128;
  static constexpr unsigned least_blocks = Heads <= 4 ? 4 : 3;
  static constexpr std::uint32_t most_tile = 64;
  static constexpr std::uint32_t floats = (threads * octet_channels + most_tile) * Heads;
  /// Octets that a lane loads before it uses them: 64 bytes under way. Not measured yet.
  static constexpr std::uint32_t ahead = 4;
  struct Shared {
    float parts[floats];  ///< of logits by octet, at the end of outputs by token group
    float logits[Heads * most_tile];
    float maxima[Heads];
    float factors[Heads];
  };

  HeadShape shape{};
  lethe::gpu::State state{};
  std::uint32_t layer = 0;
  const std::int32_t* slots = nullptr;
  const float* queries = nullptr;  ///< [rows][heads][head_dim]
  LayerCache<Cached> cache{};
  AttentionBuffers buffers{};

  /// Slices of Heads query heads that a KV head's make.
  [[nodiscard]] LETHE_HOST_DEVICE std::uint32_t slices() const {
    return (shape.heads / shape.kv_heads + Heads - 1) / Heads;
  }
  [[nodiscard]] Grid grid(std::uint32_t rows) const {
    return {buffers.splits, shape.kv_heads * slices(), rows};
  }

  template <class Block>
  LETHE_BLOCK_CODE void run(const Block& block, Shared& shared, const Index& index) const;
};

/// One block of Attend. A lane has one octet of channels of the rows of its token group, so that
/// rows are read in whole and the query's part stays in registers.
template <class Block, class Cached, unsigned Heads>
class AttendBlock {
 public:
  using Kernel = Attend<Cached, Heads>;
  using Shared = typename Kernel::Shared;

  LETHE_BLOCK_CODE AttendBlock(const Block& block, Shared& shared, const Kernel& kernel,
                               const Index& index)
      : block_(block), shared_(shared), kernel_(kernel), row_(index.z), split_(index.x) {
    const HeadShape& shape = kernel.shape;
    const std::uint32_t group = shape.heads / shape.kv_heads;
    const std::uint32_t first = index.y % kernel.slices() * Heads;
    kv_head_ = index.y / kernel.slices();
    first_head_ = kv_head_ * group + first;
    heads_ = group - first < Heads ? group - first : Heads;
    octets_ = shape.head_dim / octet_channels;
    groups_ = Kernel::threads / octets_;
    const std::uint32_t fitting = Kernel::floats / (Heads * (octets_ + 1));
    most_tile_ = fitting < Kernel::most_tile ? fitting : Kernel::most_tile;
  }

  /// Tokens from begin to end of the row's slot.
  LETHE_BLOCK_CODE void attend(std::uint32_t begin, std::uint32_t end) {
    const auto slot = static_cast<std::uint32_t>(kernel_.slots[row_]);
    first_row_ = kernel_.cache.row(kernel_.shape, slot, kv_head_, 0);
    load_query();
    for (begin_ = begin; begin_ < end; begin_ += most_tile_) {
      tile_ = end - begin_ < most_tile_ ? end - begin_ : most_tile_;
      multiply_keys();
      finish_logits();
      raise_maxima();
      weigh();
      add_values();
    }
    write_outputs();
  }

 private:
  static constexpr std::uint32_t ahead = Kernel::ahead;

  [[nodiscard]] LETHE_BLOCK_CODE std::uint32_t octet(unsigned lane) const { return lane % octets_; }
  [[nodiscard]] LETHE_BLOCK_CODE std::uint32_t group(unsigned lane) const { return lane / octets_; }

  /// Heads that the slice lacks ask for nothing: their query is 0.
  LETHE_BLOCK_CODE void load_query() {
    const std::uint32_t channels = kernel_.shape.head_dim;
    const std::size_t row = (std::size_t{row_} * kernel_.shape.heads + first_head_) * channels;
    block_.lanes([&](unsigned lane) {
      LETHE_UNROLL
      for (unsigned head = 0; head < Heads; ++head) {
        totals_(lane, head) = 0.0f;
        LETHE_UNROLL
        for (unsigned i = 0; i < octet_channels; ++i) {
          const std::size_t channel = head * channels + octet(lane) * octet_channels + i;
          query_(lane, head * octet_channels + i) =
              head < heads_ ? kernel_.queries[row + channel] : 0.0f;
          sums_(lane, head * octet_channels + i) = 0.0f;
        }
      }
      if (lane < Heads) shared_.maxima[lane] = -INFINITY;
    });
  }

  /// Calls body(token of the tile, octet) for the lane's tokens, some octets loaded ahead.
  template <class Body>
  LETHE_BLOCK_CODE void each_octet(unsigned lane, const Cached* rows, const Body& body) const {
    if (group(lane) >= groups_) return;
    const Cached* first = rows + first_row_ + std::size_t{begin_} * kernel_.shape.head_dim +
                          octet(lane) * octet_channels;
    for (std::uint32_t token = group(lane); token < tile_; token += ahead * groups_) {
      Octet held[ahead];
      LETHE_UNROLL
      for (std::uint32_t i = 0; i < ahead; ++i) {
        const std::uint32_t at = token + i * groups_;
        if (at < tile_) held[i] = load_octet(first + std::size_t{at} * kernel_.shape.head_dim);
      }
      LETHE_UNROLL
      for (std::uint32_t i = 0; i < ahead; ++i) {
        if (token + i * groups_ < tile_) body(token + i * groups_, held[i]);
      }
    }
  }

  LETHE_BLOCK_CODE void multiply_keys() {
    block_.lanes([&](unsigned lane) {
      each_octet(lane, kernel_.cache.keys, [&](std::uint32_t token, const Octet& key) {
        LETHE_UNROLL
        for (unsigned head = 0; head < Heads; ++head) {
          float dot = 0.0f;
          LETHE_UNROLL
          for (unsigned i = 0; i < octet_channels; ++i) {
            dot += query_(lane, head * octet_channels + i) * channel_of<Cached>(key, i);
          }
          shared_.parts[(head * most_tile_ + token) * (octets_ + 1) + octet(lane)] = dot;
        }
      });
    });
  }

  LETHE_BLOCK_CODE void finish_logits() {
    block_.lanes([&](unsigned lane) {
      for (std::uint32_t pair = lane; pair < heads_ * most_tile_; pair += Kernel::threads) {
        const std::uint32_t head = pair / most_tile_;
        const std::uint32_t token = pair % most_tile_;
        if (token >= tile_) continue;
        float logit = 0.0f;
        for (std::uint32_t i = 0; i < octets_; ++i) {
          logit += shared_.parts[pair * (octets_ + 1) + i];
        }
        shared_.logits[head * Kernel::most_tile + token] = logit;
        if (kernel_.buffers.logits == nullptr) continue;
        const std::size_t row = std::size_t{row_} * kernel_.shape.heads + first_head_ + head;
        kernel_.buffers.logits[row * kernel_.cache.capacity + begin_ + token] = logit;
      }
    });
  }

  /// What has been summed was weighed by another maximum: the factor makes it that of the new one.
  LETHE_BLOCK_CODE void raise_maxima() {
    block_.lanes([&](unsigned lane) {
      if (lane >= heads_) return;
      float maximum = shared_.maxima[lane];
      for (std::uint32_t token = 0; token < tile_; ++token) {
        maximum = std::fmax(maximum, shared_.logits[lane * Kernel::most_tile + token]);
      }
      shared_.factors[lane] = std::exp(shared_.maxima[lane] - maximum);
      shared_.maxima[lane] = maximum;
    });
  }

  LETHE_BLOCK_CODE void weigh() {
    block_.lanes([&](unsigned lane) {
      for (std::uint32_t i = lane; i < Heads * Kernel::most_tile; i += Kernel::threads) {
        const std::uint32_t head = i / Kernel::most_tile;
        if (i % Kernel::most_tile >= tile_) continue;
        shared_.logits[i] =
            head < heads_ ? std::exp(shared_.logits[i] - shared_.maxima[head]) : 0.0f;
      }
    });
  }

  LETHE_BLOCK_CODE void add_values() {
    block_.lanes([&](unsigned lane) {
      LETHE_UNROLL
      for (unsigned head = 0; head < Heads; ++head) {
        const float factor = head < heads_ ? shared_.factors[head] : 0.0f;
        totals_(lane, head) *= factor;
        LETHE_UNROLL
        for (unsigned i = 0; i < octet_channels; ++i) {
          sums_(lane, head * octet_channels + i) *= factor;
        }
      }
      each_octet(lane, kernel_.cache.values, [&](std::uint32_t token, const Octet& value) {
        LETHE_UNROLL
        for (unsigned head = 0; head < Heads; ++head) {
          const float weight = shared_.logits[head * Kernel::most_tile + token];
          totals_(lane, head) += weight;
          LETHE_UNROLL
          for (unsigned i = 0; i < octet_channels; ++i) {
            sums_(lane, head * octet_channels + i) += weight * channel_of<Cached>(value, i);
          }
        }
      });
    });
  }

  /// Token groups are added in ascending order.
  LETHE_BLOCK_CODE void write_outputs() {
    const std::uint32_t channels = kernel_.shape.head_dim;
    block_.lanes([&](unsigned lane) {
      if (group(lane) >= groups_) return;
      LETHE_UNROLL
      for (unsigned head = 0; head < Heads; ++head) {
        float* parts = shared_.parts + (group(lane) * Heads + head) * channels;
        LETHE_UNROLL
        for (unsigned i = 0; i < octet_channels; ++i) {
          parts[octet(lane) * octet_channels + i] = sums_(lane, head * octet_channels + i);
        }
        if (octet(lane) == 0) {
          shared_.logits[head * Kernel::most_tile + group(lane)] = totals_(lane, head);
        }
      }
    });
    block_.lanes([&](unsigned lane) {
      for (std::uint32_t i = lane; i < heads_ * channels; i += Kernel::threads) {
        float sum = 0.0f;
        for (std::uint32_t group = 0; group < groups_; ++group) {
          sum += shared_.parts[group * Heads * channels + i];
        }
        kernel_.buffers.outputs[part(i / channels) * channels + i % channels] = sum;
      }
      if (lane < heads_) write_total(lane);
    });
  }

  LETHE_BLOCK_CODE void write_total(unsigned head) const {
    float total = 0.0f;
    for (std::uint32_t group = 0; group < groups_; ++group) {
      total += shared_.logits[head * Kernel::most_tile + group];
    }
    kernel_.buffers.sums[part(head)] = total;
    kernel_.buffers.maxima[part(head)] = shared_.maxima[head];
  }

  /// Number of a head's part among those of all splits.
  [[nodiscard]] LETHE_BLOCK_CODE std::size_t part(std::uint32_t head) const {
    const std::size_t row = std::size_t{row_} * kernel_.shape.heads + first_head_ + head;
    return row * kernel_.buffers.splits + split_;
  }

  const Block& block_;
  Shared& shared_;
  const Kernel& kernel_;
  std::uint32_t row_;
  std::uint32_t split_;
  std::uint32_t kv_head_ = 0;
  std::uint32_t first_head_ = 0;
  std::uint32_t heads_ = 0;
  std::uint32_t octets_ = 0;
  std::uint32_t groups_ = 0;
  std::uint32_t most_tile_ = 0;
  std::uint32_t begin_ = 0;
  std::uint32_t tile_ = 0;
  std::size_t first_row_ = 0;
  typename Block::template Registers<float, Heads * octet_channels> query_;
  typename Block::template Registers<float, Heads * octet_channels> sums_;
  typename Block::template Registers<float, Heads> totals_;
};

template <class Cached, unsigned Heads>
template <class Block>
LETHE_BLOCK_CODE void Attend<Cached, Heads>::run(const Block& block, Shared& shared,
                                                 const Index& index) const {
  const std::uint32_t tokens = tokens_of(state, slots, layer, index.z);
  const std::uint32_t begin = index.x * buffers.split_tokens;
  if (begin >= tokens) return;
  const std::uint32_t room = tokens - begin;
  const std::uint32_t count = room < buffers.split_tokens ? room : buffers.split_tokens;
  AttendBlock<Block, Cached, Heads>(block, shared, *this, index).attend(begin, begin + count);
}

/// Block (head, row): a head's output and log-sum-exp, from its splits.
template <class Weight>
struct MergeSplits {
  static constexpr const char* name = "merge_splits";
  static constexpr unsigned threads = 128;
  struct Shared {
    float factors[most_splits];
  };

  HeadShape shape{};
  lethe::gpu::State state{};
  std::uint32_t layer = 0;
  const std::int32_t* slots = nullptr;
  AttentionBuffers buffers{};
  Weight* out = nullptr;  ///< [rows][heads][head_dim], as a product takes it

  template <class Block>
  LETHE_BLOCK_CODE void run(const Block& block, Shared& shared, const Index& index) const {
    const std::uint32_t tokens = tokens_of(state, slots, layer, index.y);
    if (tokens == 0) return;
    const std::uint32_t used = (tokens + buffers.split_tokens - 1) / buffers.split_tokens;
    const std::size_t head = std::size_t{index.y} * shape.heads + index.x;
    const std::size_t first = head * buffers.splits;
    block.lanes([&](unsigned lane) {
      if (lane == 0) buffers.lse[head] = log_sum_exp(first, used);
    });
    const float lse = block.read(buffers.lse[head]);
    block.lanes([&](unsigned lane) {
      if (lane < used) shared.factors[lane] = std::exp(buffers.maxima[first + lane] - lse);
    });
    block.lanes([&](unsigned lane) {
      for (std::uint32_t i = lane; i < shape.head_dim; i += threads) {
        float sum = 0.0f;
        for (std::uint32_t split = 0; split < used; ++split) {
          sum += shared.factors[split] * buffers.outputs[(first + split) * shape.head_dim + i];
        }
        narrow(sum, out[head * shape.head_dim + i]);
      }
    });
  }

 private:
  [[nodiscard]] LETHE_BLOCK_CODE float log_sum_exp(std::size_t first, std::uint32_t used) const {
    float maximum = -INFINITY;
    for (std::uint32_t split = 0; split < used; ++split) {
      maximum = std::fmax(maximum, buffers.maxima[first + split]);
    }
    float sum = 0.0f;
    for (std::uint32_t split = 0; split < used; ++split) {
      sum += buffers.sums[first + split] * std::exp(buffers.maxima[first + split] - maximum);
    }
    return maximum + std::log(sum);
  }
};

// [mass]
/// Block (tile, row): each lane has a token, adds its heads' probabilities in ascending order, and
/// hands the sum to lethe.
struct RecordMass {
  static constexpr const char* name = "record_mass";
  static constexpr unsigned threads = 128;
  using Shared = NoShared;

  lethe::gpu::ObservedLayer observed{};
  const float* logits = nullptr;  ///< [rows][heads][capacity]
  const float* lse = nullptr;     ///< [rows][heads]
  std::uint32_t heads = 0;

  template <class Block>
  LETHE_BLOCK_CODE void run(const Block& block, Shared&, const Index& index) const {
    const lethe::gpu::MassSink sink(observed, 1, index.y);
    block.lanes([&](unsigned lane) {
      const std::uint32_t token = index.x * threads + lane;
      if (token >= sink.tokens()) return;
      float mass = 0.0f;
      for (std::uint32_t head = 0; head < heads; ++head) {
        const std::size_t row = std::size_t{index.y} * heads + head;
        const float logit = logits[row * observed.state.shape.capacity + token];
        mass += lethe::exact_exp(logit - lse[row]);
      }
      sink(token, 0, mass);
    });
  }
};
// [mass]

}  // namespace cuda_decode
