/// Batches that decode at random, by the host library and by whoever is compared with it.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "host_state.hpp"
#include "lethe/gpu/observe_block.cuh"
#include "lethe/gpu/plan.cuh"
#include "lethe/policies.hpp"
#include "naive/token_cache.hpp"
#include "samples.hpp"

namespace gpu_test {

using lethe::gpu::QueryWeight;

inline constexpr std::uint32_t layers = 2;
inline constexpr std::uint32_t decode_capacity = 160;
inline constexpr std::size_t decode_heads = 6;

inline constexpr lethe::Retention retention{.first_tokens = 4, .recent_ratio = 0.2f};
using Cache = naive::TokenCache<naive::plain>;

/// One sequence as the host library decodes it.
struct Sequence {
  explicit Sequence(float decay)
      : pruner({.layers = layers, .capacity = decode_capacity},
               {.retention = retention, .first_threshold = 64}, {.decay = decay},
               {.sparsity_ratio = 30.0f}),
        weights({.decay = decay}) {}

  lethe::Pruner<lethe::Rasr, lethe::SegmentBreakpoint> pruner;
  Cache cache{layers, 1};
  lethe::gpu::RasrWeights weights;
  std::uint32_t next = 0;
};

/// The attention of one step in one layer: probabilities [row][head][query][column] of Element, or
/// logits with their log-sum-exp.
template <class Element>
struct Attention {
  std::vector<Element> data;
  std::vector<float> lse;
  std::size_t rows = 0;
  std::size_t queries = 1;
};

template <class Element>
Element stored(float value) {
  if constexpr (std::is_same_v<Element, float>) {
    return value;
  } else {
    return {static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16)};
  }
}

template <class Element>
Attention<Element> random_attention(Samples& samples, std::size_t rows, std::size_t queries,
                                    bool logits) {
  Attention<Element> made{.data = {}, .lse = {}, .rows = rows, .queries = queries};
  for (std::size_t i = 0; i < rows * decode_heads * queries * decode_capacity; ++i) {
    const float u = samples.uniform();
    made.data.push_back(stored<Element>(logits ? samples.between(-9.0f, 4.0f) : u * u * u * 0.1f));
  }
  for (std::size_t i = 0; i < rows * decode_heads * queries; ++i) {
    made.lse.push_back(samples.between(3.0f, 8.0f));
  }
  return made;
}

template <class Element>
lethe::Probabilities<Element> of_row(const Attention<Element>& seen, std::size_t row,
                                     lethe::Probabilities<Element>) {
  return {.data = seen.data.data() + row * decode_heads * seen.queries * decode_capacity,
          .heads = decode_heads,
          .queries = seen.queries,
          .columns = decode_capacity};
}

template <class Element>
lethe::Logits<Element> of_row(const Attention<Element>& seen, std::size_t row,
                              lethe::Logits<Element> kind) {
  kind.data = seen.data.data() + row * decode_heads * seen.queries * decode_capacity;
  kind.lse = seen.lse.data() + row * decode_heads * seen.queries;
  kind.heads = decode_heads;
  kind.queries = seen.queries;
  kind.columns = decode_capacity;
  return kind;
}

/// A batch that reorders, grows and shrinks, decoded by the host library and by a runner: emulated
/// blocks, or a device.
template <class Observation, class Runner>
class Decode {
 public:
  Decode(std::uint64_t seed, Observation kind, float decay)
      : samples_(seed),
        kind_(kind),
        decay_(decay),
        runner_({layers, slots, decode_capacity}, seed) {
    sequences_.resize(slots);
    start({0, 1, 2, 3});
  }

  /// Returns what differs first; empty: nothing does.
  std::string run(std::size_t steps) {
    for (std::size_t step = 0; step < steps; ++step) {
      const Rows batch = random_batch();
      if (samples_.below(40) == 0 && of(batch[0]) != nullptr) start({batch[0]});
      const std::string fault = decode(batch, 1 + samples_.below(3));
      if (!fault.empty()) return "step " + std::to_string(step) + ": " + fault;
    }
    return {};
  }

  std::size_t pruned = 0;

 private:
  using Rows = std::vector<std::int32_t>;
  using Element = std::remove_cv_t<std::remove_pointer_t<decltype(Observation{}.data)>>;
  static constexpr std::uint32_t slots = 4;

  void start(const Rows& batch) {
    runner_.start(batch, 64);
    for (const std::int32_t slot : batch) {
      sequences_[static_cast<std::size_t>(slot)].emplace(decay_);
    }
  }

  /// Some of the slots in some order, and padding.
  Rows random_batch() {
    Rows batch{0, 1, 2, 3, -1, 99};
    for (std::int32_t& slot : batch) std::swap(slot, batch[samples_.below(batch.size())]);
    batch.resize(1 + samples_.below(batch.size()));
    return batch;
  }

  [[nodiscard]] Sequence* of(std::int32_t slot) {
    return slot >= 0 && slot < static_cast<std::int32_t>(slots)
               ? &*sequences_[static_cast<std::size_t>(slot)]
               : nullptr;
  }

  std::string decode(const Rows& batch, std::size_t tokens) {
    make_room(batch, tokens);
    runner_.append(batch, static_cast<std::uint32_t>(tokens));
    const std::vector<QueryWeight> weights = weights_of(batch, tokens);
    for (std::uint32_t layer = 0; layer < layers; ++layer) observe(batch, tokens, layer, weights);
    std::string fault;
    const HostState& state = runner_.read();
    for (const std::int32_t slot : batch) {
      if (of(slot) == nullptr) continue;
      of(slot)->pruner.commit();
      of(slot)->weights.commit(tokens);
      fault += difference(state, static_cast<std::uint32_t>(slot));
    }
    return fault;
  }

  std::vector<QueryWeight> weights_of(const Rows& batch, std::size_t tokens) {
    std::vector<QueryWeight> weights(batch.size() * tokens);
    for (std::size_t row = 0; row < batch.size(); ++row) {
      Sequence* sequence = of(batch[row]);
      for (std::size_t query = 0; sequence != nullptr && query < tokens; ++query) {
        weights[row * tokens + query] = sequence->weights.of(query);
      }
    }
    return weights;
  }

  void make_room(const Rows& batch, std::size_t tokens) {
    lethe::gpu::PlanSettings settings{.capacity = decode_capacity, .step_tokens = tokens};
    settings.policy = {.retention = retention, .first_threshold = 64};
    settings.breakpoint.sparsity_ratio = 30.0f;
    runner_.make_room(batch, settings);
    for (const std::int32_t slot : batch) {
      Sequence* sequence = of(slot);
      if (sequence == nullptr) continue;
      pruned += sequence->pruner.make_room(sequence->cache, tokens) != 0 ? 1 : 0;
      std::vector<std::uint32_t> added(tokens);
      for (std::uint32_t& token : added) token = sequence->next++;
      for (std::size_t layer = 0; layer < layers; ++layer) sequence->cache.append(layer, added);
    }
  }

  void observe(const Rows& batch, std::size_t tokens, std::uint32_t layer,
               const std::vector<QueryWeight>& weights) {
    constexpr bool logits = std::is_same_v<Observation, lethe::Logits<Element>>;
    const auto seen = random_attention<Element>(samples_, batch.size(), tokens, logits);
    runner_.observe(batch, layer, weights, seen,
                    lethe::gpu::BatchObservation<Observation>{of_row(seen, 0, kind_)});
    for (std::size_t row = 0; row < batch.size(); ++row) {
      Sequence* sequence = of(batch[row]);
      if (sequence != nullptr) sequence->pruner.observe(layer, of_row(seen, row, kind_));
    }
  }

  std::string difference(const HostState& state, std::uint32_t slot) {
    auto& pruner = sequences_[slot]->pruner;
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      const std::span<const float> host = pruner.scores(layer);
      const std::span<float> device = state.scores(layer, slot);
      if (host.size() != device.size()) return "length";
      const std::span<const lethe::Position> positions = pruner.positions(layer);
      const std::span<lethe::Position> on_device = state.positions(layer, slot);
      if (!std::equal(positions.begin(), positions.end(), on_device.begin())) return "positions";
      for (std::size_t i = 0; i < host.size(); ++i) {
        const auto bits = [](float value) { return std::bit_cast<std::uint32_t>(value); };
        if (bits(host[i]) != bits(device[i])) return "score of slot " + std::to_string(i);
      }
      const std::size_t number = state.state.number(layer, slot);
      if (state.state.cadences[number].threshold != pruner.threshold(layer)) return "threshold";
    }
    return {};
  }

  Samples samples_;
  Observation kind_;
  float decay_;
  Runner runner_;
  std::vector<std::optional<Sequence>> sequences_;
};

}  // namespace gpu_test
