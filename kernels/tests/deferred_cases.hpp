/// Batches whose queries wait to be scored, decoded at random by the host library and by whoever is
/// compared with it.
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
#include "lethe/gpu/flush.hpp"
#include "lethe/gpu/rasr_weights.hpp"
#include "lethe/gpu/round_block.cuh"
#include "lethe/gpu/round_compaction.hpp"
#include "lethe/policies.hpp"
#include "row_cache.hpp"
#include "samples.hpp"

namespace gpu_test {

/// Where keys lie: token by token, head by head, or in a pool of blocks.
enum class KeyLayout { tokens, heads, pages };

/// What a case of deferred scoring is made of.
struct DeferredCase {
  lethe::gpu::RingShape ring{.queries = 16, .heads = 6, .kv_heads = 2, .head_dimension = 24};
  KeyLayout layout = KeyLayout::tokens;
  float decay = 0.98f;
  float softcap = 0.0f;
  lethe::LogBase base = lethe::LogBase::e;
  bool exact = false;
};

inline constexpr lethe::gpu::StateShape deferred_state{.layers = 2, .slots = 4, .capacity = 104};
inline constexpr lethe::Retention deferred_retention{.first_tokens = 4, .recent_ratio = 0.2f};

/// The keys of every (layer, slot) in one piece of memory, and the block tables over it.
class KeyPlace {
 public:
  KeyPlace(const DeferredCase& given, std::size_t element_bytes, Samples& samples)
      : ring_(given.ring),
        layout_(given.layout),
        row_(ring_.head_dimension * static_cast<std::uint32_t>(element_bytes)) {
    for (std::uint32_t layer = 0; layer < deferred_state.layers; ++layer) {
      std::vector<std::uint32_t> pool(deferred_state.slots * blocks);
      for (std::uint32_t i = 0; i < pool.size(); ++i) pool[i] = i;
      for (std::uint32_t& block : pool) std::swap(block, pool[samples.below(pool.size())]);
      numbers.insert(numbers.end(), pool.begin(), pool.end());
    }
    numbers.resize(3 * entries() + 4 * rings(), blocks);
  }

  [[nodiscard]] std::size_t bytes() const { return rings() * deferred_state.capacity * token(); }

  /// Of a row, in bytes.
  [[nodiscard]] std::size_t offset(std::uint32_t layer, std::uint32_t slot, std::uint32_t head,
                                   std::uint32_t place) const {
    const std::size_t number = std::size_t{layer} * deferred_state.slots + slot;
    if (layout_ == KeyLayout::pages) {
      const std::size_t block =
          layer * deferred_state.slots * blocks + numbers[number * blocks + place / block_tokens];
      return (block * ring_.kv_heads + head) * block_tokens * row_ + place % block_tokens * row_;
    }
    return number * deferred_state.capacity * token() + place * token_stride() +
           head * head_stride();
  }

  /// How a flush is told of keys at `keys`, and of `numbers` at `tables`.
  template <class Given>
  void describe(std::byte* keys, std::uint32_t* tables, Given& given) const {
    const std::size_t strip = deferred_state.capacity * token();
    if (layout_ != KeyLayout::pages) {
      given.strips = {keys,
                      row_,
                      ring_.kv_heads,
                      token_stride(),
                      head_stride(),
                      strip,
                      strip * deferred_state.slots};
      return;
    }
    given.pages = {keys,
                   row_,
                   ring_.kv_heads,
                   row_,
                   std::size_t{row_} * block_tokens,
                   token() * block_tokens,
                   strip * deferred_state.slots};
    given.tables = tables_at(tables);
  }

  /// Tables, workspace and freed blocks, then entries and three numbers a table.
  std::vector<std::uint32_t> numbers;

  [[nodiscard]] std::size_t rings() const {
    return std::size_t{deferred_state.layers} * deferred_state.slots;
  }
  [[nodiscard]] std::size_t entries() const { return rings() * blocks; }
  static constexpr std::uint32_t block_tokens = 8;
  static constexpr std::uint32_t blocks = deferred_state.capacity / block_tokens;

 private:
  [[nodiscard]] lethe::gpu::DeviceTables tables_at(std::uint32_t* at) const {
    std::uint32_t* counts = at + 3 * entries();
    return {.tables = at,
            .entries = counts,
            .capacity = blocks,
            .block_tokens = block_tokens,
            .freed = at + 2 * entries(),
            .freed_counts = counts + rings(),
            .fresh_used = counts + 2 * rings(),
            .begins = counts + 3 * rings(),
            .workspace = at + entries()};
  }

  /// Bytes of a token, all its heads.
  [[nodiscard]] std::size_t token() const { return std::size_t{row_} * ring_.kv_heads; }
  [[nodiscard]] std::size_t token_stride() const {
    return layout_ == KeyLayout::tokens ? token() : row_;
  }
  [[nodiscard]] std::size_t head_stride() const {
    return layout_ == KeyLayout::tokens ? row_ : std::size_t{row_} * deferred_state.capacity;
  }

  lethe::gpu::RingShape ring_;
  KeyLayout layout_;
  std::uint32_t row_;
};

/// The compaction of a round that moves the keys of a flush along. Its tables must have every block
/// again as an entry.
template <class Element>
lethe::gpu::Compaction compaction_with_keys(const lethe::gpu::Round& round,
                                            const lethe::gpu::Flush<Element>& flush) {
  lethe::gpu::Compaction compaction =
      lethe::gpu::compaction_of(round.state, round.plans, round.batch);
  if (flush.pages.base != nullptr) {
    compaction.pages[compaction.page_count++] = flush.pages;
    compaction.tables = flush.tables;
  } else {
    compaction.strips[compaction.strip_count++] = flush.strips;
  }
  return compaction;
}

/// A finite number between -2 and 2 that Element holds.
template <class Element>
Element random_element(Samples& samples) {
  if constexpr (std::is_same_v<Element, float>) {
    return samples.between(-1.5f, 1.5f);
  } else if constexpr (std::is_same_v<Element, lethe::Half>) {
    const auto bits = static_cast<std::uint16_t>(samples.word());
    return {static_cast<std::uint16_t>((bits & 0x8FFFu) | 0x3000u)};
  } else {
    const auto bits = std::bit_cast<std::uint32_t>(samples.between(-1.5f, 1.5f));
    return {static_cast<std::uint16_t>(bits >> 16)};
  }
}

/// A step's queries of a batch in one layer: [row][query][head] or [row][head][query].
template <class Element>
struct StepAttention {
  StepAttention(Samples& samples, const DeferredCase& given, std::size_t rows,
                std::size_t queries) {
    const lethe::gpu::RingShape& ring = given.ring;
    const std::size_t lines = rows * queries * ring.heads;
    for (std::size_t i = 0; i < lines * ring.head_dimension; ++i) {
      data.push_back(random_element<Element>(samples));
    }
    for (std::size_t i = 0; i < lines; ++i) lse.push_back(samples.between(3.0f, 8.0f));
    seen.first = {.data = data.data(),
                  .lse = lse.data(),
                  .heads = ring.heads,
                  .queries = queries,
                  .head_dimension = ring.head_dimension,
                  .scale = samples.below(2) == 0 ? 0.0f : 0.5f,
                  .softcap = given.softcap,
                  .base = given.base};
    if (samples.below(2) == 0) return;
    seen.first.head_stride = ring.head_dimension;
    seen.first.query_stride = std::size_t{ring.heads} * ring.head_dimension;
    seen.first.lse_head_stride = 1;
    seen.first.lse_query_stride = ring.heads;
    seen.row_stride = queries * seen.first.query_stride;
    seen.lse_row_stride = queries * ring.heads;
  }

  [[nodiscard]] lethe::Queries<Element> of_row(std::size_t row) const {
    lethe::Queries<Element> own = seen.first;
    own.data += row * own.queries * own.heads * own.head_dimension;
    own.lse += row * own.queries * own.heads;
    return own;
  }

  std::vector<Element> data;
  std::vector<float> lse;
  lethe::gpu::BatchObservation<lethe::Queries<Element>> seen;
};

/// One sequence as the host library decodes it.
struct DeferredSequence {
  explicit DeferredSequence(const DeferredCase& given)
      : pruner({.layers = deferred_state.layers,
                .capacity = deferred_state.capacity,
                .deferred = {.queries = given.ring.queries,
                             .heads = given.ring.heads,
                             .kv_heads = given.ring.kv_heads,
                             .head_dimension = given.ring.head_dimension}},
               {.retention = deferred_retention, .first_threshold = 40}, {.decay = given.decay},
               {.sparsity_ratio = 30.0f}),
        cache(deferred_state.layers, given.ring.kv_heads),
        weights({.decay = given.decay}) {}

  lethe::Pruner<lethe::Rasr, lethe::SegmentBreakpoint> pruner;
  RowCache cache;
  lethe::gpu::RasrWeights weights;
};

/// Whether a score is the host's: its bits, or as near as deferred scores promise to be; `most` is
/// the row's largest.
inline bool same_score(float host, float found, float most, bool exact) {
  if (exact) return std::bit_cast<std::uint32_t>(host) == std::bit_cast<std::uint32_t>(found);
  return std::abs(host - found) <= 1e-6f * most + 2e-4f * host;
}

/// A batch that reorders, grows and shrinks, whose queries wait. Runner: emulated blocks, or a
/// device.
template <class Element, class Runner>
class DeferredDecode {
 public:
  DeferredDecode(std::uint64_t seed, const DeferredCase& given)
      : samples_(seed),
        case_(given),
        place_(given, sizeof(Element), samples_),
        runner_(given, place_, seed) {
    sequences_.resize(deferred_state.slots);
    start({0, 1, 2, 3});
  }

  /// Returns what differs first; empty: nothing does.
  std::string run(std::size_t steps) {
    for (std::size_t step = 0; step < steps; ++step) {
      const Rows batch = random_batch();
      if (samples_.below(60) == 0 && of(batch[0]) != nullptr) start({batch[0]});
      const std::string fault = decode(batch, 1 + samples_.below(3));
      if (!fault.empty()) return "step " + std::to_string(step) + ": " + fault;
    }
    return flush();
  }

  std::size_t pruned = 0;

 private:
  using Rows = std::vector<std::int32_t>;

  void start(const Rows& batch) {
    runner_.start(batch, 40);
    for (const std::int32_t slot : batch) {
      sequences_[static_cast<std::size_t>(slot)].emplace(case_);
    }
  }

  /// Some of the slots in some order, and padding.
  Rows random_batch() {
    Rows batch{0, 1, 2, 3, -1, 99};
    for (std::int32_t& slot : batch) std::swap(slot, batch[samples_.below(batch.size())]);
    batch.resize(1 + samples_.below(batch.size()));
    return batch;
  }

  [[nodiscard]] DeferredSequence* of(std::int32_t slot) {
    return slot >= 0 && slot < static_cast<std::int32_t>(deferred_state.slots)
               ? &*sequences_[static_cast<std::size_t>(slot)]
               : nullptr;
  }

  std::string decode(const Rows& batch, std::size_t tokens) {
    make_room(batch, tokens);
    runner_.append(batch, static_cast<std::uint32_t>(tokens));
    append_keys(batch, tokens);
    const std::vector<lethe::gpu::QueryWeight> weights = weights_of(batch, tokens);
    for (std::uint32_t layer = 0; layer < deferred_state.layers; ++layer) {
      const StepAttention<Element> attention(samples_, case_, batch.size(), tokens);
      runner_.push(batch, layer, weights, attention);
      for (std::size_t row = 0; row < batch.size(); ++row) {
        DeferredSequence* sequence = of(batch[row]);
        if (sequence != nullptr) sequence->pruner.observe(layer, attention.of_row(row));
      }
    }
    for (const std::int32_t slot : batch) {
      if (of(slot) == nullptr) continue;
      of(slot)->pruner.commit();
      of(slot)->weights.commit(tokens);
    }
    return difference(batch);
  }

  std::string flush() {
    const Rows all{0, 1, 2, 3};
    runner_.flush(all);
    for (const std::int32_t slot : all) of(slot)->pruner.flush(of(slot)->cache);
    return difference(all);
  }

  void make_room(const Rows& batch, std::size_t tokens) {
    lethe::gpu::PlanSettings settings{.capacity = deferred_state.capacity, .step_tokens = tokens};
    settings.policy = {.retention = deferred_retention, .first_threshold = 40};
    settings.breakpoint.sparsity_ratio = 30.0f;
    runner_.make_room(batch, settings);
    for (const std::int32_t slot : batch) {
      DeferredSequence* sequence = of(slot);
      if (sequence == nullptr) continue;
      pruned += sequence->pruner.make_room(sequence->cache, tokens) != 0 ? 1 : 0;
    }
  }

  /// The step's keys, behind those that each layer holds.
  void append_keys(const Rows& batch, std::size_t tokens) {
    for (const std::int32_t slot : batch) {
      if (of(slot) == nullptr) continue;
      for (std::uint32_t layer = 0; layer < deferred_state.layers; ++layer) {
        for (std::size_t i = 0; i < tokens; ++i)
          append_key(static_cast<std::uint32_t>(slot), layer);
      }
    }
  }

  void append_key(std::uint32_t slot, std::uint32_t layer) {
    RowCache& cache = sequences_[slot]->cache;
    const auto token = static_cast<std::uint32_t>(cache.size(layer));
    for (std::uint32_t head = 0; head < case_.ring.kv_heads; ++head) {
      std::vector<Element> row(case_.ring.head_dimension);
      CachedRow cached;
      for (Element& channel : row) {
        channel = random_element<Element>(samples_);
        cached.key.push_back(lethe::to_float(channel));
      }
      runner_.put_key(place_.offset(layer, slot, head, token), row);
      cache.append(layer, head, std::move(cached));
    }
  }

  std::vector<lethe::gpu::QueryWeight> weights_of(const Rows& batch, std::size_t tokens) {
    std::vector<lethe::gpu::QueryWeight> weights(batch.size() * tokens);
    for (std::size_t row = 0; row < batch.size(); ++row) {
      DeferredSequence* sequence = of(batch[row]);
      for (std::size_t query = 0; sequence != nullptr && query < tokens; ++query) {
        weights[row * tokens + query] = sequence->weights.of(query);
      }
    }
    return weights;
  }

  std::string difference(const Rows& batch) {
    const HostState& state = runner_.read();
    std::string fault;
    for (const std::int32_t slot : batch) {
      for (std::uint32_t layer = 0; of(slot) != nullptr && layer < deferred_state.layers; ++layer) {
        fault += difference(state, layer, static_cast<std::uint32_t>(slot));
      }
    }
    return fault;
  }

  std::string difference(const HostState& state, std::uint32_t layer, std::uint32_t slot) {
    auto& pruner = sequences_[slot]->pruner;
    const std::span<const float> host = pruner.scores(layer);
    const std::span<float> found = state.scores(layer, slot);
    if (host.size() != found.size()) return "length";
    const std::span<const lethe::Position> positions = pruner.positions(layer);
    if (!std::equal(positions.begin(), positions.end(), state.positions(layer, slot).begin())) {
      return "positions";
    }
    const float most = host.empty() ? 0.0f : *std::max_element(host.begin(), host.end());
    for (std::size_t i = 0; i < host.size(); ++i) {
      if (!same_score(host[i], found[i], most, case_.exact)) {
        return "score of slot " + std::to_string(i) + ": " + std::to_string(host[i]) + " and " +
               std::to_string(found[i]);
      }
    }
    return {};
  }

  Samples samples_;
  DeferredCase case_;
  KeyPlace place_;
  Runner runner_;
  std::vector<std::optional<DeferredSequence>> sequences_;
};

}  // namespace gpu_test
