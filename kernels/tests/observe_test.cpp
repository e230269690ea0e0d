#include "lethe/gpu/observe_block.cuh"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "catch.hpp"
#include "host_state.hpp"
#include "lethe/gpu/observe_checks.hpp"
#include "lethe/gpu/round_block.cuh"
#include "lethe/policies.hpp"
#include "naive/token_cache.hpp"
#include "samples.hpp"

namespace {

using lethe::gpu::BatchObservation;
using lethe::gpu::HostBlock;
using lethe::gpu::QueryWeight;

constexpr std::uint32_t layers = 2;
constexpr std::uint32_t capacity = 160;
constexpr std::size_t heads = 6;

constexpr lethe::Retention retention{.first_tokens = 4, .recent_ratio = 0.2f};
using Cache = naive::TokenCache<naive::plain>;

/// One sequence as the host library decodes it.
struct Sequence {
  explicit Sequence(float decay)
      : pruner({.layers = layers, .capacity = capacity},
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
  for (std::size_t i = 0; i < rows * heads * queries * capacity; ++i) {
    const float u = samples.uniform();
    made.data.push_back(stored<Element>(logits ? samples.between(-9.0f, 4.0f) : u * u * u * 0.1f));
  }
  for (std::size_t i = 0; i < rows * heads * queries; ++i) {
    made.lse.push_back(samples.between(3.0f, 8.0f));
  }
  return made;
}

template <class Element>
lethe::Probabilities<Element> of_row(const Attention<Element>& seen, std::size_t row,
                                     lethe::Probabilities<Element>) {
  return {.data = seen.data.data() + row * heads * seen.queries * capacity,
          .heads = heads,
          .queries = seen.queries,
          .columns = capacity};
}

template <class Element>
lethe::Logits<Element> of_row(const Attention<Element>& seen, std::size_t row,
                              lethe::Logits<Element> kind) {
  kind.data = seen.data.data() + row * heads * seen.queries * capacity;
  kind.lse = seen.lse.data() + row * heads * seen.queries;
  kind.heads = heads;
  kind.queries = seen.queries;
  kind.columns = capacity;
  return kind;
}

/// A batch that reorders, grows and shrinks, decoded by the host library and by emulated blocks.
template <class Observation>
class Decode {
 public:
  Decode(std::uint64_t seed, Observation kind, float decay)
      : samples_(seed), kind_(kind), device_({layers, slots, capacity}), sequences_(slots) {
    decay_ = decay;
    std::vector<std::int32_t> all{0, 1, 2, 3};
    start(all);
  }

  /// Returns what differs first; empty: nothing does.
  std::string run(std::size_t steps) {
    for (std::size_t step = 0; step < steps; ++step) {
      const std::vector<std::int32_t> batch = random_batch();
      if (samples_.below(40) == 0 && of(batch[0]) != nullptr) start({batch[0]});
      const std::size_t tokens = 1 + samples_.below(3);
      const std::string fault = decode(batch, tokens);
      if (!fault.empty()) return "step " + std::to_string(step) + ": " + fault;
    }
    return {};
  }

  std::size_t pruned = 0;

 private:
  static constexpr std::uint32_t slots = 4;
  using Element = std::remove_cv_t<std::remove_pointer_t<decltype(Observation{}.data)>>;

  [[nodiscard]] HostBlock<32> block() { return HostBlock<32>(samples_.word()); }

  void start(const std::vector<std::int32_t>& batch) {
    const auto rows = static_cast<std::uint32_t>(batch.size());
    for (std::uint32_t row = 0; row < rows; ++row) {
      lethe::gpu::start_block(block(), device_.state, {batch.data(), rows}, 64, row);
      sequences_[static_cast<std::size_t>(batch[row])].emplace(decay_);
    }
  }

  /// Some of the slots in some order, and padding.
  std::vector<std::int32_t> random_batch() {
    std::vector<std::int32_t> batch{0, 1, 2, 3, -1, 99};
    for (std::size_t i = 0; i < batch.size(); ++i) {
      std::swap(batch[i], batch[samples_.below(batch.size())]);
    }
    batch.resize(1 + samples_.below(batch.size()));
    return batch;
  }

  std::string decode(const std::vector<std::int32_t>& batch, std::size_t tokens) {
    const auto rows = static_cast<std::uint32_t>(batch.size());
    make_room({batch.data(), rows}, tokens);
    for (std::uint32_t row = 0; row < rows; ++row) {
      lethe::gpu::append_block(block(), device_.state, {batch.data(), rows},
                               static_cast<std::uint32_t>(tokens), row);
    }
    std::vector<QueryWeight> weights(rows * tokens);
    for (std::uint32_t row = 0; row < rows; ++row) {
      Sequence* sequence = of(batch[row]);
      for (std::size_t query = 0; sequence != nullptr && query < tokens; ++query) {
        weights[row * tokens + query] = sequence->weights.of(query);
      }
    }
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      observe(batch, tokens, layer, weights);
    }
    std::string fault;
    for (const std::int32_t slot : batch) {
      if (of(slot) == nullptr) continue;
      of(slot)->pruner.commit();
      of(slot)->weights.commit(tokens);
      fault += difference(static_cast<std::uint32_t>(slot));
    }
    return fault;
  }

  [[nodiscard]] Sequence* of(std::int32_t slot) {
    return slot >= 0 && slot < static_cast<std::int32_t>(slots)
               ? &*sequences_[static_cast<std::size_t>(slot)]
               : nullptr;
  }

  void make_room(const lethe::gpu::Batch& batch, std::size_t tokens) {
    lethe::gpu::Round round{.state = device_.state, .batch = batch, .plans = device_.plans};
    round.settings = {.capacity = capacity, .step_tokens = tokens};
    round.settings.policy = {.retention = retention, .first_threshold = 64};
    round.settings.breakpoint.sparsity_ratio = 30.0f;
    const auto shared = std::make_unique<lethe::gpu::detail::PlanShared>();
    for (std::uint32_t row = 0; row < batch.rows; ++row) {
      Sequence* sequence = of(batch.slot_of_row[row]);
      for (std::uint32_t layer = 0; layer < layers; ++layer) {
        lethe::gpu::plan_block(block(), *shared, round, layer, row);
        if (sequence == nullptr) continue;
        device_.compact(layer, static_cast<std::uint32_t>(batch.slot_of_row[row]));
      }
      if (sequence == nullptr) continue;
      pruned += sequence->pruner.make_room(sequence->cache, tokens) != 0 ? 1 : 0;
      std::vector<std::uint32_t> added(tokens);
      for (std::uint32_t& token : added) token = sequence->next++;
      for (std::size_t layer = 0; layer < layers; ++layer) sequence->cache.append(layer, added);
    }
  }

  void observe(const std::vector<std::int32_t>& batch, std::size_t tokens, std::uint32_t layer,
               const std::vector<QueryWeight>& weights) {
    const auto rows = static_cast<std::uint32_t>(batch.size());
    constexpr bool logits = std::is_same_v<Observation, lethe::Logits<Element>>;
    const auto seen = random_attention<Element>(samples_, rows, tokens, logits);
    const BatchObservation<Observation> given =
        lethe::gpu::detail::packed(BatchObservation<Observation>{of_row(seen, 0, kind_)});
    const lethe::gpu::ObservedLayer observed{
        device_.state, {batch.data(), rows}, layer, weights.data()};
    REQUIRE(lethe::gpu::check(observed, given).ok());
    for (std::uint32_t row = 0; row < rows; ++row) {
      for (std::uint32_t tile = 0; tile * 32 < capacity; ++tile) {
        lethe::gpu::observe_block(block(), observed, given, tile, row);
      }
      Sequence* sequence = of(batch[row]);
      if (sequence != nullptr) sequence->pruner.observe(layer, of_row(seen, row, kind_));
    }
  }

  std::string difference(std::uint32_t slot) {
    auto& pruner = sequences_[slot]->pruner;
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      const std::span<const float> host = pruner.scores(layer);
      const std::span<float> device = device_.scores(layer, slot);
      if (host.size() != device.size()) return "length";
      const std::span<const lethe::Position> positions = pruner.positions(layer);
      const std::span<lethe::Position> on_device = device_.positions(layer, slot);
      if (!std::equal(positions.begin(), positions.end(), on_device.begin())) return "positions";
      for (std::size_t i = 0; i < host.size(); ++i) {
        const auto bits = [](float value) { return std::bit_cast<std::uint32_t>(value); };
        if (bits(host[i]) != bits(device[i])) return "score of slot " + std::to_string(i);
      }
      const std::size_t number = device_.state.number(layer, slot);
      if (device_.state.cadences[number].threshold != pruner.threshold(layer)) return "threshold";
    }
    return {};
  }

  Samples samples_;
  Observation kind_;
  float decay_ = 0.98f;
  gpu_test::HostState device_;
  std::vector<std::optional<Sequence>> sequences_;
};

template <class Observation>
void decodes_as_the_host(std::uint64_t seed, Observation kind, float decay) {
  Decode<Observation> decode(seed, kind, decay);
  CHECK(decode.run(250) == "");
  CHECK(decode.pruned > 5);
}

}  // namespace

TEST_CASE("a batch decodes as the host library does, from probabilities") {
  decodes_as_the_host(1, lethe::Probabilities<float>{}, 0.98f);
  decodes_as_the_host(2, lethe::Probabilities<lethe::BFloat16>{}, 1.0f);
  // Scales are renewed every 60 queries.
  decodes_as_the_host(3, lethe::Probabilities<float>{}, 0.5f);
}

TEST_CASE("a batch decodes as the host library does, from logits") {
  decodes_as_the_host(4, lethe::Logits<float>{.scale = 0.7f}, 0.98f);
  decodes_as_the_host(5, lethe::Logits<lethe::BFloat16>{.base = lethe::LogBase::two}, 0.9f);
}

TEST_CASE("the mass sink makes the same scores as a batch's probabilities") {
  Samples samples(8);
  const gpu_test::HostState whole({1, 2, capacity});
  const gpu_test::HostState fused({1, 2, capacity});
  const std::vector<std::int32_t> batch{1, -1};
  const std::vector<QueryWeight> weights{{0.5f, 1.0f}, {7.0f, 1.0f}};
  for (const gpu_test::HostState* host : {&whole, &fused}) {
    lethe::gpu::start_block(HostBlock<32>(), host->state, {batch.data(), 2}, 64, 0);
    lethe::gpu::append_block(HostBlock<32>(), host->state, {batch.data(), 2}, 100, 0);
  }
  const auto seen = random_attention<float>(samples, 2, 1, false);
  const auto given = lethe::gpu::detail::packed(BatchObservation<lethe::Probabilities<float>>{
      of_row(seen, 0, lethe::Probabilities<float>{})});
  for (std::uint32_t tile = 0; tile < capacity / 32; ++tile) {
    lethe::gpu::observe_block(HostBlock<32>(3), {whole.state, {batch.data(), 2}, 0, weights.data()},
                              given, tile, 0);
  }
  const lethe::gpu::ObservedLayer layer{fused.state, {batch.data(), 2}, 0, weights.data()};
  const lethe::gpu::MassSink sink(layer, 1, 0);
  CHECK(sink.tokens() == 100);
  CHECK(lethe::gpu::MassSink(layer, 1, 1).tokens() == 0);
  for (std::uint32_t token = 0; token < sink.tokens(); ++token) {
    float mass = 0;
    for (std::size_t head = 0; head < heads; ++head) mass += seen.data[head * capacity + token];
    sink(token, 0, mass);
  }
  const std::span<float> expected = whole.scores(0, 1);
  CHECK(std::equal(expected.begin(), expected.end(), fused.scores(0, 1).begin()));
  CHECK(*std::max_element(expected.begin(), expected.end()) > 0.0f);
}

TEST_CASE("what a call cannot do is refused by name before any launch") {
  const gpu_test::HostState host({1, 2, capacity});
  lethe::gpu::Round round{.state = host.state, .batch = {nullptr, 2}, .plans = host.plans};
  round.settings.capacity = capacity;
  CHECK(lethe::gpu::check(round).ok());
  const auto remedy = [&](auto change) {
    lethe::gpu::Round changed = round;
    change(changed);
    const lethe::gpu::Status status = lethe::gpu::check(changed);
    return status.ok() ? std::string() : std::string(status.remedy);
  };
  CHECK(remedy([](auto& r) { r.state = {}; }) == "layers: give 1 to 65535");
  CHECK(remedy([](auto& r) { r.batch.rows = 3; }).starts_with("slot_of_row"));
  CHECK(remedy([](auto& r) { r.settings.capacity = 5; }).starts_with("capacity"));
  CHECK(remedy([](auto& r) { r.settings.step_tokens = capacity + 1; }).starts_with("step_tokens"));
  CHECK(remedy([](auto& r) { r.settings.slack_ratio = 1.0f; }).starts_with("slack_ratio"));
  CHECK(remedy([](auto& r) { r.settings.breakpoint.segments = 0; }).starts_with("segments"));
  CHECK(remedy([](auto& r) { r.settings.block_tokens = 0; }).starts_with("block_tokens"));
  CHECK(remedy([](auto& r) { r.plans = {}; }).starts_with("plans"));
}

TEST_CASE("an observation that says too little is refused by name") {
  const gpu_test::HostState host({1, 2, capacity});
  const QueryWeight weight{};
  const lethe::gpu::ObservedLayer layer{host.state, {nullptr, 2}, 0, &weight};
  const float logit = 0;
  const auto remedy = [&](const lethe::gpu::ObservedLayer& at, const lethe::Logits<float>& seen) {
    const lethe::gpu::Status status =
        lethe::gpu::check(at, BatchObservation<lethe::Logits<float>>{seen});
    return status.ok() ? std::string() : std::string(status.remedy);
  };
  CHECK(remedy(layer, {.data = &logit, .lse = &logit, .columns = 1}).empty());
  CHECK(remedy(layer, {.data = &logit, .columns = 1}).starts_with("lse"));
  CHECK(remedy(layer, {.lse = &logit, .columns = 1}).starts_with("data"));
  CHECK(remedy(layer, {.data = &logit, .lse = &logit}).starts_with("columns"));
  lethe::gpu::ObservedLayer other = layer;
  other.layer = 1;
  CHECK(remedy(other, {.data = &logit, .lse = &logit, .columns = 1}).starts_with("layer"));
  other = layer;
  other.weights = nullptr;
  CHECK(remedy(other, {.data = &logit, .lse = &logit, .columns = 1}).starts_with("weights"));
}

TEST_CASE("memory is sized by a query, and too little of it is refused") {
  std::size_t bytes = 0;
  lethe::gpu::State state;
  const lethe::gpu::StateShape shape{2, 3, 100};
  CHECK(lethe::gpu::place_state(shape, nullptr, bytes, state).ok());
  CHECK(bytes >= 2 * 3 * 100 * 8);
  CHECK(state.scores == nullptr);
  const gpu_test::Memory memory = gpu_test::poisoned_memory(bytes + 256);
  std::size_t less = bytes - 1;
  CHECK(std::string(lethe::gpu::place_state(shape, memory.get(), less, state).remedy)
            .starts_with("bytes"));
  CHECK(less == bytes);
  auto* odd = static_cast<std::byte*>(memory.get()) + 4;
  CHECK(
      std::string(lethe::gpu::place_state(shape, odd, bytes, state).remedy).starts_with("memory"));
  CHECK_FALSE(lethe::gpu::place_state({0, 1, 1}, nullptr, bytes, state).ok());
}
