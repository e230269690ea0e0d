/// Batches that decode at random, by the host library and by whoever is compared with it.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "host_state.hpp"
#include "lethe/budget/mass_target.hpp"
#include "lethe/gpu/observe_block.cuh"
#include "lethe/gpu/policies.hpp"
#include "lethe/gpu/window_block.cuh"
#include "lethe/policies.hpp"
#include "naive/token_cache.hpp"
#include "samples.hpp"

namespace gpu_test {

using lethe::gpu::QueryWeight;

inline constexpr std::uint32_t layers = 2;
inline constexpr std::uint32_t decode_capacity = 160;
inline constexpr std::size_t decode_heads = 6;

inline constexpr lethe::Retention retention{.first_tokens = 4, .recent_ratio = 0.2f};
using Cache = naive::TokenCache<naive::with_heads>;

/// What a decode's score rows are, and what shares a kept set.
struct DecodeScope {
  std::uint32_t groups = 1;
  lethe::Scope scope = lethe::Scope::layer;
  /// Masses of few bits: with decay 1 no sum of them is rounded.
  bool exact = false;

  [[nodiscard]] std::uint32_t sets() const { return scope == lethe::Scope::head ? groups : 1; }
};

/// Decayed mass and a breakpoint: a policy as the host's pruner has it, and as a round is told.
struct DecayedMass {
  using Pruner = lethe::Pruner<lethe::Rasr, lethe::SegmentBreakpoint>;

  [[nodiscard]] Pruner pruner() const {
    return {
        {.layers = layers, .capacity = decode_capacity, .groups = kept.groups, .scope = kept.scope},
        {.retention = retention, .first_threshold = 64},
        {.decay = decay},
        {.sparsity_ratio = 30.0f}};
  }
  [[nodiscard]] lethe::gpu::PlanSettings settings() const {
    return {.policy = {.retention = retention, .first_threshold = 64},
            .breakpoint = {.sparsity_ratio = 30.0f}};
  }

  float decay = 0.98f;
  DecodeScope kept{};
};

/// Decayed mass, a share of which is to stay, and at most a fifth of which is to be lost.
struct TargetedMass {
  using Pruner = lethe::Pruner<lethe::Rasr, lethe::MassTarget>;

  [[nodiscard]] Pruner pruner() const {
    return {{.layers = layers, .capacity = decode_capacity, .max_lost_mass = 0.2f},
            {.retention = retention, .first_threshold = 64},
            {.decay = decay},
            {.share = share}};
  }
  [[nodiscard]] lethe::gpu::PlanSettings settings() const {
    return {.policy = {.retention = retention, .first_threshold = 64},
            .rule = lethe::gpu::BudgetRule::mass_target,
            .mass_target = {.share = share},
            .max_lost_mass = 0.2f};
  }

  float decay = 0.98f;
  float share = 0.7f;
};

/// A named policy of the library, and its settings on the device.
template <class Named, class Config>
struct NamedPolicy {
  using Pruner = Named;

  [[nodiscard]] Pruner pruner() const {
    return Pruner({.layers = layers, .capacity = decode_capacity}, config);
  }
  [[nodiscard]] lethe::gpu::PlanSettings settings() const { return on_device; }

  Config config{};
  lethe::gpu::PlanSettings on_device{};
  float decay = 1.0f;
};

/// What a policy keeps; but for decayed mass, one set of a layer.
template <class Policy>
DecodeScope kept_by(const Policy& policy) {
  if constexpr (std::is_same_v<Policy, DecayedMass>) return policy.kept;
  return {};
}

/// One sequence as the host library decodes it.
template <class Policy>
struct Sequence {
  explicit Sequence(const Policy& policy)
      : pruner(policy.pruner()),
        cache(layers, kept_by(policy).sets()),
        weights({.decay = policy.decay}) {}

  typename Policy::Pruner pruner;
  Cache cache;
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
                                    bool logits, bool exact = false) {
  Attention<Element> made{.data = {}, .lse = {}, .rows = rows, .queries = queries};
  for (std::size_t i = 0; i < rows * decode_heads * queries * decode_capacity; ++i) {
    const float random = samples.uniform();
    const float u = exact ? std::floor(random * 8.0f) * 0.125f : random;
    made.data.push_back(stored<Element>(logits ? samples.between(-9.0f, 4.0f) : u * u * u * 0.1f));
    if (exact) made.data.back() = stored<Element>(u * u * u);
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

/// The scores that a round would see, made from what the state holds.
inline std::vector<float> scores_in(const HostState& host, const lethe::gpu::ScoreSettings& score,
                                    std::uint32_t layer, std::uint32_t slot) {
  using lethe::gpu::ScoreRule;
  const lethe::gpu::State& state = host.state;
  const std::span<const lethe::Position> positions = host.positions(layer, slot);
  const std::uint32_t seen = state.next_positions[slot];
  std::vector<float> scores(positions.size());
  if (score.rule == ScoreRule::window) {
    const lethe::gpu::WindowInput input{.mass = state.window(state.number(layer, slot)),
                                        .positions = positions.data(),
                                        .tokens = static_cast<std::uint32_t>(positions.size()),
                                        .seen = seen};
    std::vector<lethe::Slot> scratch(positions.size());
    lethe::gpu::window_scores(lethe::gpu::HostBlock<32>(seen), input, score.window, scores.data(),
                              scratch.data());
  } else if (score.rule != ScoreRule::rasr) {
    const std::uint64_t stream = lethe::detail::draw_stream(score.random.seed, seen, layer, 0);
    const lethe::gpu::detail::DrawnScores drawn(positions.data(), stream,
                                                score.rule == ScoreRule::random);
    for (std::uint32_t i = 0; i < positions.size(); ++i) scores[i] = drawn[i];
  } else {
    const std::span<const float> held = host.scores(layer, slot);
    std::copy(held.begin(), held.end(), scores.begin());
  }
  return scores;
}

/// A batch that reorders, grows and shrinks, decoded by the host library and by a runner: emulated
/// blocks, or a device.
template <class Observation, class Runner, class Policy = DecayedMass>
class Decode {
 public:
  Decode(std::uint64_t seed, Observation kind, const Policy& policy)
      : samples_(seed), kind_(kind), policy_(policy), runner_(shape_of(policy), seed) {
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
  using Decoded = Sequence<Policy>;
  using Element = std::remove_cv_t<std::remove_pointer_t<decltype(Observation{}.data)>>;
  static constexpr std::uint32_t slots = 4;

  static lethe::gpu::StateShape shape_of(const Policy& policy) {
    lethe::gpu::StateShape shape =
        lethe::gpu::shape_for(policy.settings(), layers, slots, decode_capacity);
    shape.groups = kept_by(policy).groups;
    shape.scope = kept_by(policy).scope;
    return shape;
  }

  void start(const Rows& batch) {
    const std::size_t threshold = policy_.settings().policy.first_threshold;
    runner_.start(batch, static_cast<std::uint32_t>(threshold));
    for (const std::int32_t slot : batch) {
      sequences_[static_cast<std::size_t>(slot)].emplace(policy_);
    }
  }

  /// Some of the slots in some order, and padding.
  Rows random_batch() {
    Rows batch{0, 1, 2, 3, -1, 99};
    for (std::int32_t& slot : batch) std::swap(slot, batch[samples_.below(batch.size())]);
    batch.resize(1 + samples_.below(batch.size()));
    return batch;
  }

  [[nodiscard]] Decoded* of(std::int32_t slot) {
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
      Decoded* sequence = of(batch[row]);
      for (std::size_t query = 0; sequence != nullptr && query < tokens; ++query) {
        weights[row * tokens + query] = sequence->weights.of(query);
      }
    }
    return weights;
  }

  void make_room(const Rows& batch, std::size_t tokens) {
    lethe::gpu::PlanSettings settings = policy_.settings();
    settings.capacity = decode_capacity;
    settings.step_tokens = tokens;
    runner_.make_room(batch, settings);
    for (const std::int32_t slot : batch) {
      Decoded* sequence = of(slot);
      if (sequence == nullptr) continue;
      pruned += sequence->pruner.make_room(sequence->cache, tokens) != 0 ? 1 : 0;
      std::vector<std::uint32_t> added(tokens);
      for (std::uint32_t& token : added) token = sequence->next++;
      for (std::size_t layer = 0; layer < layers; ++layer) sequence->cache.append(layer, added);
    }
  }

  void observe(const Rows& batch, std::size_t tokens, std::uint32_t layer,
               const std::vector<QueryWeight>& weights) {
    if (!lethe::gpu::shape_for(policy_.settings(), 1, 1, 1).scores) return;
    constexpr bool logits = std::is_same_v<Observation, lethe::Logits<Element>>;
    const auto seen =
        random_attention<Element>(samples_, batch.size(), tokens, logits, kept_by(policy_).exact);
    runner_.observe(batch, layer, weights, seen,
                    lethe::gpu::BatchObservation<Observation>{of_row(seen, 0, kind_)});
    for (std::size_t row = 0; row < batch.size(); ++row) {
      Decoded* sequence = of(batch[row]);
      if (sequence != nullptr) sequence->pruner.observe(layer, of_row(seen, row, kind_));
    }
  }

  std::string difference(const HostState& state, std::uint32_t slot) {
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      const std::size_t number = state.state.number(layer, slot);
      if (state.state.cadences[number].threshold != sequences_[slot]->pruner.threshold(layer)) {
        return "threshold";
      }
      for (std::uint32_t set = 0; set < state.state.shape.sets(); ++set) {
        const std::string fault = difference(state, layer, slot, set);
        if (!fault.empty()) return fault;
      }
    }
    return {};
  }

  std::string difference(const HostState& state, std::uint32_t layer, std::uint32_t slot,
                         std::uint32_t set) {
    auto& pruner = sequences_[slot]->pruner;
    const std::span<const float> host = pruner.scores(layer, set);
    const std::vector<float> device =
        planned_scores(policy_.settings().score, state, layer, slot, set);
    if (host.size() != device.size()) return "length";
    const std::span<const lethe::Position> positions = pruner.positions(layer, set);
    const std::span<lethe::Position> on_device = state.positions(layer, slot, set);
    if (!std::equal(positions.begin(), positions.end(), on_device.begin())) return "positions";
    for (std::size_t i = 0; i < host.size(); ++i) {
      const auto bits = [](float value) { return std::bit_cast<std::uint32_t>(value); };
      if (bits(host[i]) != bits(device[i])) return "score of slot " + std::to_string(i);
    }
    return {};
  }

  /// Those of a set: one group's, or the sum of the layer's groups.
  static std::vector<float> planned_scores(const lethe::gpu::ScoreSettings& score,
                                           const HostState& state, std::uint32_t layer,
                                           std::uint32_t slot, std::uint32_t set) {
    if (state.state.shape.groups == 1) return scores_in(state, score, layer, slot);
    const std::span<const float> first = state.scores(layer, slot, set);
    std::vector<float> scores(first.begin(), first.end());
    if (state.state.shape.sets() != 1) return scores;
    for (std::uint32_t group = 1; group < state.state.shape.groups; ++group) {
      const std::span<const float> own = state.scores(layer, slot, group);
      for (std::size_t i = 0; i < scores.size(); ++i) scores[i] += own[i];
    }
    return scores;
  }

  Samples samples_;
  Observation kind_;
  Policy policy_;
  Runner runner_;
  std::vector<std::optional<Decoded>> sequences_;
};

/// Calls run(name, policy) for each policy of the library that a device has beside Lethe's own.
template <class Run>
void for_each_policy(Run&& run) {
  namespace there = lethe::gpu::policies;
  namespace here = lethe::policies;
  const lethe::H2OConfig h2o{.budget = 70};
  const lethe::TOVAConfig tova{.budget = 60};
  const lethe::SnapKVConfig snap_kv{.budget = 80, .window = 8, .pool = 5};
  const lethe::SnapKVConfig mean{.window = 4, .pooling = lethe::Pooling::mean};
  const lethe::StreamingLLMConfig streaming{.budget = 50};
  const lethe::RandomAttentionConfig random{.budget = 90, .recent_tokens = 16, .seed = 7};
  run("H2O", NamedPolicy<here::H2O, lethe::H2OConfig>{h2o, there::h2o(h2o)});
  run("TOVA", NamedPolicy<here::TOVA, lethe::TOVAConfig>{tova, there::tova(tova)});
  using HostSnapKV = NamedPolicy<here::SnapKV, lethe::SnapKVConfig>;
  run("SnapKV", HostSnapKV{snap_kv, there::snap_kv(snap_kv)});
  run("SnapKV, means", HostSnapKV{mean, there::snap_kv(mean)});
  run("StreamingLLM", NamedPolicy<here::StreamingLLM, lethe::StreamingLLMConfig>{
                          streaming, there::streaming_llm(streaming)});
  run("RandomAttention", NamedPolicy<here::RandomAttention, lethe::RandomAttentionConfig>{
                             random, there::random_attention(random)});
  const lethe::LetheConfig own{.first_threshold = 64};
  run("Lethe", NamedPolicy<here::Lethe, lethe::LetheConfig>{own, there::lethe(own), own.decay});
  run("a mass target", TargetedMass{});
}

}  // namespace gpu_test
