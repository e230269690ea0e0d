/// What a pruner knows of its sequence, and the step in progress: who sits where, what was
/// observed.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "lethe/attention.hpp"
#include "lethe/cache_checks.hpp"
#include "lethe/cache_view.hpp"
#include "lethe/deferred.hpp"
#include "lethe/drafts.hpp"
#include "lethe/pruner_config.hpp"
#include "lethe/score.hpp"
#include "lethe/slot_table.hpp"
#include "lethe/step_queries.hpp"

namespace lethe::detail {

/// A layer's cadence.
struct LayerCadence {
  std::uint64_t bound = 0;
  std::uint64_t threshold = 0;
  /// Tokens appended since the layer was last examined.
  std::uint64_t since_round = 0;
  /// 0: the layer has no cache of its own to prune.
  std::uint64_t tracked = 1;
  /// Queries that the open step has deferred, and the most that a token has brought so far.
  std::uint64_t step_queries = 0;
  std::uint64_t queries_each = 1;
};

/// State of one sequence, apart from rounds. Nothing is allocated after construction.
template <class Scorer>
class SequenceState {
 public:
  SequenceState(const PrunerConfig& settings, const PolicySettings& policy_settings,
                const typename Scorer::Config& score)
      : config((check(settings, policy_settings), settings)),
        policy(policy_settings),
        scorer(score, shape()),
        slots(config.layers, kept_sets(), head_slots(config)),
        drafts(shape(), Scorer::reads_mass ? config.draft_tokens : 0),
        deferred(Scorer::reads_mass ? config.deferred : DeferredConfig{}, config.layers),
        query_rows(make_query_rows()),
        layers(config.layers) {
    reset();
  }

  /// Kept sets of a layer: one, or one for each head.
  [[nodiscard]] std::size_t kept_sets() const {
    return config.scope == Scope::head ? config.groups : 1;
  }

  /// Tokens of a layer; none where the cache has no layer to prune.
  [[nodiscard]] std::size_t held(std::size_t layer) const {
    return layers[layer].tracked != 0 ? slots.size(layer) : 0;
  }

  /// Tokens of a layer as one of its score groups sees them: its head's, where each keeps a set.
  [[nodiscard]] std::size_t held_by(std::size_t layer, std::size_t group) const {
    return config.scope == Scope::head ? slots.size(layer, group) : slots.held(layer);
  }

  /// Whether `tokens` more fit in every head, if the longest held `longest`.
  [[nodiscard]] bool fits_heads(std::size_t longest, std::size_t tokens) const {
    return config.head_capacity == 0 || longest + tokens <= config.head_capacity;
  }

  /// Whether max_lost_mass can change what a round keeps.
  [[nodiscard]] bool guards() const { return Scorer::reads_mass && config.max_lost_mass < 1.0f; }

  void reset() {
    slots.reset();
    scorer.reset();
    deferred.reset();
    abandon_step();
    std::fill(layers.begin(), layers.end(),
              LayerCadence{.bound = config.capacity,
                           .threshold = std::min(policy.first_threshold, config.capacity)});
    committed = 0;
    pinned = next_layer = 0;
  }

  // The step.

  template <class Cache>
  void begin(const Cache& cache, std::size_t tokens) {
    const std::size_t count = cache.layers();
    if (count != config.layers) {
      refuse("layers", std::to_string(count), "the cache must have the pruner's layers");
    }
    check_scope<Cache>(config);
    check_keys<Cache>(deferred.active());
    if (queries_seen != 0 && !speculative()) refuse_open_step();
    abandon_step();
    require(tokens <= config.capacity, "make_room tokens", tokens,
            "append at most the capacity in one step: split the prompt into chunks");
    for (std::size_t layer = 0; layer < count; ++layer) begin_layer(cache, layer, tokens);
    check_totals(cache);
    step_tokens = tokens;
  }

  /// No step is open: nothing more is observed or committed before the next make_room.
  void abandon_step() {
    step_tokens = 0;
    queries_seen = 0;
    drafts.clear();
    query_rows.clear();
  }

  /// Positions below this stay whatever their score.
  [[nodiscard]] std::size_t prefix_end() const {
    return std::max(policy.retention.first_tokens, pinned);
  }

  /// The caps over all layers must leave room for more than first and pinned tokens.
  template <class Cache>
  void check_totals(const Cache& cache) const {
    if (config.total_capacity == 0 && config.total_bytes == 0) return;
    std::size_t tokens = 0;
    std::size_t bytes = 0;
    for (std::size_t layer = 0; layer < config.layers; ++layer) {
      if (layers[layer].tracked == 0) continue;
      tokens += prefix_end();
      bytes += prefix_end() * token_bytes_of(cache, layer);
    }
    const char* remedy = "first and pinned tokens of all layers fill it: choose more";
    require(config.total_capacity == 0 || config.total_capacity > tokens, "total_capacity",
            config.total_capacity, remedy);
    require(config.total_bytes == 0 || config.total_bytes > bytes, "total_bytes",
            config.total_bytes, remedy);
  }

  [[noreturn]] LETHE_COLD static void refuse_open_step() {
    raise<std::invalid_argument>(
        "lethe: make_room came inside a step: commit what was observed first, or set draft_tokens "
        "to be able to drop it");
  }

  template <class Cache>
  void begin_layer(const Cache& cache, std::size_t layer, std::size_t tokens) {
    const LayerState state = state_of(cache, layer);
    layers[layer].tracked = state == LayerState::fixed || state == LayerState::absent ? 0 : 1;
    if (layers[layer].tracked == 0) return;
    slots.reclaim(layer);
    deferred.commit(layer, 0, committed, {});
    layers[layer].step_queries = 0;
    check_heads(cache, layer, config);
    if (deferred.active()) check_key_heads(cache, layer, config);
    layers[layer].bound = bound_in(cache, layer, config, prefix_end());
    check_sizes(cache, layer);
    if (tokens > layers[layer].bound) {
      refuse("make_room tokens", std::to_string(tokens),
             "append at most the bound, " + std::to_string(layers[layer].bound) +
                 ", in one step: split the prompt into chunks");
    }
  }

  /// The cache must hold what was committed and not dropped.
  template <class Cache>
  void check_sizes(const Cache& cache, std::size_t layer) const {
    if constexpr (UnequalHeadsCache<Cache>) {
      for (std::size_t head = 0; config.head_capacity != 0 && head < config.groups; ++head) {
        const std::size_t held = cache.size(layer, head);
        if (held != slots.size(layer, head)) refuse_size(layer, held, slots.size(layer, head));
      }
    }
    const std::size_t held = cache.size(layer);
    if (held != slots.longest(layer)) refuse_size(layer, held, slots.longest(layer));
  }

  [[noreturn]] LETHE_COLD static void refuse_size(std::size_t layer, std::size_t held,
                                                  std::size_t expected) {
    refuse("cache.size", std::to_string(held),
           "layer " + std::to_string(layer) + " should hold the " + std::to_string(expected) +
               " tokens that were committed: begin with an empty cache, append what make_room "
               "announced, and let apply drop what its plans drop");
  }

  template <class Cache>
  void flush_full(const Cache& cache, std::size_t tokens) {
    if (!deferred.active()) return;
    for (std::size_t layer = 0; layer < config.layers; ++layer) {
      const std::size_t expected = tokens * layers[layer].queries_each;
      if (deferred.waiting(layer) + expected > deferred.capacity()) flush_layer(cache, layer);
    }
  }

  template <class Cache>
  void flush_layer(const Cache& cache, std::size_t layer) {
    if (deferred.waiting(layer) == 0) return;
    if constexpr (KeyReadableCache<Cache>) {
      deferred.flush(
          layer, config.groups, committed,
          [&](std::size_t head, std::size_t first, std::span<float> out) {
            cache.read_keys(layer, head, first, out);
          },
          [&](std::int64_t query, std::size_t group, std::size_t first,
              std::span<const float> mass) { scorer.record(layer, group, query, first, mass); });
    }
  }

  template <class Observation>
  void record(std::size_t layer, const Observation& seen) {
    if constexpr (Scorer::reads_mass) {
      if (!admits(layer, seen)) return;
      check_columns(layer, seen.columns, seen.first_query + seen.queries);
      queries_seen = std::max(queries_seen, seen.first_query + seen.queries);
      const auto before = [&](std::size_t group) { return held_by(layer, group); };
      for_each_mass_tile(seen, config.groups, before,
                         [&](std::size_t query, std::size_t group, std::size_t first,
                             std::span<const float> mass) {
                           if (speculative()) {
                             drafts.record(layer, group, query, first, mass);
                           } else {
                             scorer.record(layer, group, static_cast<std::int64_t>(query), first,
                                           mass);
                           }
                         });
    }
  }

  /// Whether a layer's observation is wanted; refuses one of more queries than were announced.
  template <class Observation>
  [[nodiscard]] bool admits(std::size_t layer, const Observation& seen) {
    require(layer < config.layers, "observe layer", layer, "the pruner has fewer layers");
    const std::size_t end = seen.first_query + seen.queries;
    if (end > step_tokens) refuse_queries(end);
    return layers[layer].tracked != 0;
  }

  [[noreturn]] LETHE_COLD void refuse_queries(std::size_t end) const {
    if (step_tokens == 0) {
      refuse("observe queries", std::to_string(end), "no step is open: call make_room first");
    }
    refuse("observe queries", std::to_string(end),
           "make_room announced " + std::to_string(step_tokens) + " tokens for this step");
  }

  /// Tokens of a layer that attention rows have a column for: of its longest head.
  [[nodiscard]] std::size_t columns_held(std::size_t layer) const {
    return slots.longest(layer) - (slots.vacant(layer) ? 1u : 0u);
  }

  /// A row must cover the layer's tokens and the step's, up to its last query.
  void check_columns(std::size_t layer, std::size_t columns, std::size_t queries) const {
    if (columns < columns_held(layer) + queries) refuse_columns(layer, columns, queries);
  }

  [[noreturn]] LETHE_COLD void refuse_columns(std::size_t layer, std::size_t columns,
                                              std::size_t queries) const {
    refuse("observe columns", std::to_string(columns),
           "layer " + std::to_string(layer) + " needs " + std::to_string(columns_held(layer)) +
               " for its tokens and " + std::to_string(queries) + " for those of the step");
  }

  template <class Element>
  void check_deferred_room(std::size_t layer, const Queries<Element>& queries) const {
    if (!deferred.active() || deferred.waiting(layer) + queries.queries > deferred.capacity()) {
      refuse_queries_waiting(layer, queries.queries);
    }
    require(queries.heads == config.deferred.heads, "Queries::heads", queries.heads,
            "give those of PrunerConfig::deferred");
    require(queries.head_dimension == config.deferred.head_dimension, "Queries::head_dimension",
            queries.head_dimension, "give that of PrunerConfig::deferred");
  }

  [[noreturn]] LETHE_COLD void refuse_queries_waiting(std::size_t layer, std::size_t more) const {
    if (!deferred.active()) {
      refuse("deferred.queries", "0", "set PrunerConfig::deferred to observe Queries");
    }
    const std::size_t waiting = deferred.waiting(layer);
    refuse("deferred.queries", std::to_string(config.deferred.queries),
           std::to_string(waiting) + " queries wait and " + std::to_string(more) +
               " more came: choose at least those of one step, of all layers that share a cache");
  }

  /// Whether what this step tells is held back until commit.
  [[nodiscard]] bool speculative() const {
    constexpr bool reads = Scorer::reads_mass || ReadsQueries<Scorer>;
    return reads && config.draft_tokens != 0 && step_tokens <= config.draft_tokens;
  }

  void check_accepted(std::span<const std::uint32_t> accepted) const {
    for (std::size_t i = 0; i < accepted.size(); ++i) {
      const bool ascends = i == 0 || accepted[i - 1] < accepted[i];
      if (!ascends || accepted[i] >= step_tokens) {
        refuse("commit accepted", std::to_string(accepted[i]),
               "give ascending indices below the tokens announced to make_room");
      }
    }
    const bool prefix = accepted.empty() || accepted.back() + 1 == accepted.size();
    const bool recorded = queries_seen > accepted.size() || (queries_seen != 0 && !prefix);
    const bool replaced = accepted.empty() && any_vacant();
    if ((recorded || replaced) && !speculative()) refuse_rejection();
  }

  /// Whether a token was given up for the step's.
  [[nodiscard]] bool any_vacant() const {
    for (std::size_t layer = 0; layer < config.layers; ++layer) {
      if (slots.vacant(layer)) return true;
    }
    return false;
  }

  [[noreturn]] LETHE_COLD void refuse_rejection() const {
    refuse("draft_tokens", std::to_string(config.draft_tokens),
           "a step of " + std::to_string(step_tokens) +
               " tokens was partly rejected: set draft_tokens to at least that");
  }

  void commit_layer(std::size_t layer, std::span<const std::uint32_t> accepted) {
    if (drafts.active() && speculative()) {
      const auto before = [&](std::size_t group) { return held_by(layer, group); };
      drafts.replay(layer, before, accepted, scorer);
    }
    if (deferred.active()) deferred.commit(layer, slots.held(layer), committed, accepted);
    if constexpr (ReadsQueries<Scorer>) {
      query_rows.replay(layer, static_cast<Position>(committed), accepted, scorer);
    }
    slots.append(layer, accepted.size(), static_cast<Position>(committed));
    layers[layer].since_round += accepted.size();
    learn_queries(layers[layer]);
  }

  /// Queries of a layer: deferred, where mass is wanted of them, and read by a scorer that does.
  template <class Element>
  void record_queries(std::size_t layer, const Queries<Element>& seen) {
    if constexpr (Scorer::reads_mass || ReadsQueries<Scorer>) {
      if (!admits(layer, seen)) return;
      if constexpr (ReadsQueries<Scorer>) {
        query_rows.check(seen);
        if (speculative()) query_rows.check_room(layer, seen.queries);
      }
      if constexpr (Scorer::reads_mass) {
        if (deferred.active() || !ReadsQueries<Scorer>) keep_queries(layer, seen);
      }
      if constexpr (ReadsQueries<Scorer>) read_queries(layer, seen);
    }
  }

  template <class Element>
  void keep_queries(std::size_t layer, const Queries<Element>& seen) {
    check_deferred_room(layer, seen);
    deferred.push(layer, seen, slots.held(layer), committed);
    layers[layer].step_queries += seen.queries;
  }

  template <class Element>
  void read_queries(std::size_t layer, const Queries<Element>& seen) {
    queries_seen = std::max(queries_seen, seen.first_query + seen.queries);
    query_rows.for_each(seen, [&](std::size_t query, std::span<const float> row) {
      if (speculative()) {
        query_rows.hold(layer, query, row);
      } else {
        scorer.record_query(layer, static_cast<Position>(committed) + static_cast<Position>(query),
                            row);
      }
    });
  }

  /// How many queries a token brings: more than one where attention layers share a cache layer.
  void learn_queries(LayerCadence& layer) const {
    const std::size_t tokens = std::max<std::size_t>(step_tokens, 1);
    layer.queries_each =
        std::max<std::uint64_t>(layer.queries_each, (layer.step_queries + tokens - 1) / tokens);
    layer.step_queries = 0;
  }

  void commit(std::span<const std::uint32_t> accepted) {
    check_accepted(accepted);
    for (std::size_t layer = 0; layer < config.layers; ++layer) {
      if (layers[layer].tracked != 0) commit_layer(layer, accepted);
    }
    scorer.advance(accepted.size());
    committed += static_cast<std::int64_t>(accepted.size());
    abandon_step();
  }

  /// A slot's token is no more: its scores go.
  void forget(std::size_t layer, std::size_t slot) {
    for (std::size_t group = 0; group < config.groups; ++group) {
      scorer.forget(layer, group, static_cast<Slot>(slot));
    }
  }

  // Saved state.

  /// What a blob must agree with to be restored.
  [[nodiscard]] std::array<std::uint64_t, 7> saved_shape() const {
    return {config.layers,
            config.capacity,
            config.groups,
            config.deferred.queries,
            config.deferred.kv_heads,
            static_cast<std::uint64_t>(config.scope) | std::uint64_t{config.head_capacity} << 8,
            config.deferred.heads * config.deferred.head_dimension};
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    archive(self.committed);
    archive(self.pinned);
    archive(self.next_layer);
    archive(self.layers);
    Scorer::archive(archive, self.scorer);
    SlotTable::archive(archive, self.slots);
    DeferredQueries::archive(archive, self.deferred);
  }

  [[nodiscard]] bool valid() const {
    bool good = committed >= 0 && committed < std::int64_t{all_heads} && pinned < config.capacity &&
                next_layer < config.layers && scorer.valid() &&
                slots.valid(static_cast<Position>(committed));
    for (std::size_t layer = 0; good && layer < config.layers; ++layer) {
      good = layers[layer].bound >= 1 && layers[layer].bound <= config.capacity &&
             slots.size(layer) <= layers[layer].bound &&
             (config.head_capacity != 0 || slots.level(layer)) &&
             layers[layer].threshold <= config.capacity && layers[layer].tracked <= 1 &&
             layers[layer].step_queries == 0 &&
             layers[layer].queries_each <= std::max<std::size_t>(config.deferred.queries, 1) &&
             deferred.valid(layer, slots.size(layer), committed);
    }
    return good;
  }

  PrunerConfig config;
  PolicySettings policy;
  Scorer scorer;
  SlotTable slots;
  DraftRows drafts;
  DeferredQueries deferred;
  [[no_unique_address]] std::conditional_t<ReadsQueries<Scorer>, StepQueries, NoStepQueries>
      query_rows;
  std::vector<LayerCadence> layers;
  std::int64_t committed = 0;
  std::size_t pinned = 0;
  std::size_t step_tokens = 0;
  std::size_t queries_seen = 0;
  /// Layer at which the next round begins, so that layers take turns under max_move_bytes.
  std::size_t next_layer = 0;

 private:
  [[nodiscard]] auto make_query_rows() const {
    if constexpr (ReadsQueries<Scorer>) {
      static_assert(QueryReadingScorer<Scorer>,
                    "a score that reads queries needs query_shape() and record_query()");
      return StepQueries(scorer.query_shape(), config.layers, config.draft_tokens);
    } else {
      return NoStepQueries{};
    }
  }

  [[nodiscard]] ScoreShape shape() const {
    return {config.layers, config.groups, head_slots(config)};
  }
};

}  // namespace lethe::detail
