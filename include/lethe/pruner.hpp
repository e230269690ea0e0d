/// The three verbs: make_room before tokens are appended, observe what attention did, commit the
/// step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "lethe/attention.hpp"
#include "lethe/budget.hpp"
#include "lethe/cache_view.hpp"
#include "lethe/pruner_config.hpp"
#include "lethe/round/examine.hpp"
#include "lethe/round/move.hpp"
#include "lethe/round/settle.hpp"
#include "lethe/round/space.hpp"
#include "lethe/round/totals.hpp"
#include "lethe/score.hpp"
#include "lethe/sequence_state.hpp"
#include "lethe/state_blob.hpp"
#include "lethe/subnormals.hpp"
#include "lethe/trace.hpp"

namespace lethe {

/// Decides, for one sequence, which tokens of its KV cache to keep while it decodes.
///
/// One pruner a sequence; pruners share nothing, so threads need no locks; a copy is a fork.
/// Between rounds nothing is allocated, locked or asked of the system; a round allocates nothing
/// either. Memory, for each slot of each layer: 4 bytes of position and 4 of plan (times the heads,
/// with Scope::head), and 4 x groups for Rasr's scores. A layer has `capacity` slots; where heads
/// keep unequal counts each head has `head_capacity`, and a round takes 12 bytes more for each slot
/// of one layer.
///
/// Scorer turns mass into scores, Allocator says how many tokens a layer keeps.
template <TokenScorer Scorer, BudgetAllocator Allocator>
class Pruner {
  static_assert(!detail::ReadsWindow<Allocator> || WindowScorer<Scorer>,
                "this budget reads LayerScores::window: it needs a scorer with "
                "scorer.window_statistics(layer, group, positions), as WindowShift has");
  static_assert(!detail::ReadsGrowth<Allocator> || GrowthScorer<Scorer>,
                "this budget reads LayerScores::growth: it needs a scorer with "
                "scorer.growth(layer, group), as TwoPaceMass has under CacheScore");

 public:
  /// Whether the score learns from queries, so that observe(layer, Queries) is worth calling.
  static constexpr bool reads_queries = detail::ReadsQueries<Scorer>;

  /// Throws std::invalid_argument naming the setting that cannot be, its value and the remedy.
  Pruner(const PrunerConfig& config, const PolicySettings& policy,
         const typename Scorer::Config& score, const typename Allocator::Config& budget)
      : state_(detail::settle_heads(config, HeadBudgetAllocator<Allocator>), policy, score),
        allocator_(budget),
        space_(state_.config, state_.kept_sets()),
        step_indices_(config.capacity) {
    if constexpr (GlobalBudgetAllocator<Allocator>) {
      detail::require(allocator_.total() > config.layers * policy.retention.first_tokens, "total",
                      allocator_.total(), "choose more than the first tokens of all layers");
    }
    std::iota(step_indices_.begin(), step_indices_.end(), 0u);
  }

  /// The same of a named policy's parts.
  Pruner(const PrunerConfig& config,
         const PolicyParts<typename Scorer::Config, typename Allocator::Config>& parts)
      : Pruner(config, parts.policy, parts.score, parts.budget) {}

  /// Makes sure that `tokens` more fit in every layer, pruning where it is due. To be called before
  /// they are appended. Afterwards size(layer) + tokens <= bound(layer). When it throws, nothing
  /// has moved, and no step is open.
  ///
  /// cache: held at the same counts as the pruner's. trace: told of every examined layer, after the
  /// round; it should not throw, since tokens have moved by then.
  /// Returns the tokens dropped, summed over layers.
  /// Throws std::invalid_argument when counts disagree or tokens cannot fit, and std::length_error
  /// when a layer at its bound cannot be pruned (busy, or scores not finite), or protected tokens
  /// leave no room. O(n) for each examined layer, O(layers) otherwise.
  template <KVCacheView Cache, TraceReceiver Trace = NoTrace>
  std::size_t make_room(Cache& cache, std::size_t tokens, Trace&& trace = {}) {
    static_assert(!HeadBudgetAllocator<Allocator> || UnequalHeadsCache<Cache>,
                  "this budget gives the heads of a layer counts of their own: it needs a cache "
                  "with cache.heads(layer), cache.size(layer) and cache.size(layer, head)");
    const detail::KeepSubnormals exact;
    state_.begin(cache, tokens);
    state_.flush_full(cache, tokens);
    const detail::RoundContext<Scorer, Cache> round{state_, space_, cache, tokens};
    detail::Examination<Scorer, Allocator, Cache> examination(round, allocator_);
    detail::Settlement<Scorer, Cache> settlement(round);
    examination.find_due();
    if (space_.jobs.empty()) {
      settlement.require_room(trace);
      return 0;
    }
    constexpr bool traced = !std::is_same_v<std::remove_cvref_t<Trace>, NoTrace>;
    examination.template examine_all<traced>();
    detail::Totals<Scorer, Allocator, Cache>(round, allocator_).share_totals();
    detail::Move<Scorer, Allocator, Cache> move(round, allocator_);
    move.template plan_all<traced>();
    settlement.require_room(trace);
    const double seconds = move.template apply_all<traced>();
    return settlement.settle(seconds, trace);
  }

  /// Whether make_room(cache, tokens) would examine a layer now: an engine whose layers may be
  /// elsewhere brings them back before. Changes nothing. O(layers).
  template <KVCacheView Cache>
  [[nodiscard]] bool is_due(Cache& cache, std::size_t tokens) {
    const detail::RoundContext<Scorer, Cache> round{state_, space_, cache, tokens};
    detail::Examination<Scorer, Allocator, Cache>(round, allocator_).find_due();
    return !space_.jobs.empty();
  }

  /// Records attention probabilities of one layer in this step. May be called several times for a
  /// layer, with other heads or queries. Entries beyond a query's causal limit are not read.
  /// Throws std::invalid_argument for more queries than make_room announced. O(heads x columns).
  void observe(std::size_t layer, const Probabilities<float>& probabilities) {
    const detail::KeepSubnormals exact;
    state_.record(layer, probabilities);
  }
  template <class Element>
  void observe(std::size_t layer, const Probabilities<Element>& probabilities) {
    const detail::KeepSubnormals exact;
    state_.record(layer, probabilities);
  }
  /// Records logits; as for probabilities.
  template <class Element>
  void observe(std::size_t layer, const Logits<Element>& logits) {
    const detail::KeepSubnormals exact;
    state_.record(layer, logits);
  }
  /// Records mass that the engine has summed itself; as for probabilities.
  template <class Element>
  void observe(std::size_t layer, const Mass<Element>& mass) {
    const detail::KeepSubnormals exact;
    state_.record(layer, mass);
  }
  /// Keeps queries and their log-sum-exps, to be scored against the cache's keys in a later
  /// make_room, before anything moves; needs PrunerConfig::deferred. A score that reads queries
  /// (QueryReadingScorer) is shown them too, or, without PrunerConfig::deferred, alone: lse may
  /// then be null. Throws std::invalid_argument when sizes or counts are not as announced.
  template <class Element>
  void observe(std::size_t layer, const Queries<Element>& queries) {
    const detail::KeepSubnormals exact;
    state_.record_queries(layer, queries);
  }

  /// The step's tokens stand, all that make_room announced: scores decay once for each. Does
  /// nothing when no step is open.
  void commit() { commit(std::span<const std::uint32_t>(step_indices_).first(state_.step_tokens)); }

  /// The tokens at these indices of the step stand, ascending; the cache holds them, in this order,
  /// behind the tokens it held before. The rest leave no trace. Unless all stand,
  /// PrunerConfig::draft_tokens must cover the step. Throws std::invalid_argument. O(layers).
  void commit(std::span<const std::uint32_t> accepted) {
    const detail::KeepSubnormals exact;
    state_.commit(accepted);
  }

  /// Positions below `tokens` are never dropped from now on: one line pins a prompt, before it is
  /// read; what earlier rounds dropped is gone. 0 unpins.
  /// Throws std::invalid_argument when a round within capacity could not keep them; where other
  /// caps could not, the next make_room does.
  void pin(std::size_t tokens) {
    const std::size_t kept = kept_at_bound(state_.config.slack_ratio, state_.config.capacity);
    detail::require(tokens < kept, "pin", tokens,
                    "a round at the bound keeps fewer: raise capacity");
    state_.pinned = tokens;
  }

  /// The most tokens a layer ever holds. With capacity_bytes it is exact after the first make_room.
  [[nodiscard]] std::size_t bound(std::size_t layer) const { return state_.layers[layer].bound; }
  /// Tokens of a layer that stand; a slot that waits to be overwritten holds none. Of heads with
  /// unequal counts, their mean rounded up, which is what bounds count: positions(layer, head) has
  /// each head's own.
  [[nodiscard]] std::size_t size(std::size_t layer) const { return state_.slots.held(layer); }
  /// Position of every slot of a layer (of one head, with Scope::head); a slot that waits to be
  /// overwritten still shows its old one.
  [[nodiscard]] std::span<const Position> positions(std::size_t layer, std::size_t head = 0) const {
    return state_.slots.positions(layer, head);
  }
  /// Tokens the sequence has committed: the next token's position.
  [[nodiscard]] std::size_t tokens_seen() const {
    return static_cast<std::size_t>(state_.committed);
  }
  /// Length at which a layer is next examined below its bound; 0: not before it.
  [[nodiscard]] std::size_t threshold(std::size_t layer) const {
    return state_.layers[layer].threshold;
  }
  [[nodiscard]] const PrunerConfig& config() const { return state_.config; }
  /// A layer's scores, groups summed (with Scope::head, one head's own); with Scope::sequence a
  /// round sees the sum of these over the layers, each normalised. Valid until the next call.
  /// Queries that wait to be scored count once flushed.
  [[nodiscard]] std::span<const float> scores(std::size_t layer, std::size_t head = 0) {
    const detail::KeepSubnormals exact;
    return state_.config.scope == Scope::head ? space_.head_scores(state_, layer, head)
                                              : space_.layer_scores(state_, layer);
  }

  /// Scores all waiting queries now, between steps; make_room does it when it must.
  template <KVCacheView Cache>
  void flush(const Cache& cache) {
    LETHE_ASSERT(state_.step_tokens == 0);
    const detail::KeepSubnormals exact;
    for (std::size_t layer = 0; layer < state_.config.layers; ++layer)
      state_.flush_layer(cache, layer);
  }

  /// Gives every token of a layer the score of a new one: the way out when scores are not finite.
  /// O(groups x slots).
  void forget_scores(std::size_t layer) {
    for (std::size_t slot = 0; slot < state_.slots.longest(layer); ++slot) {
      state_.forget(layer, slot);
    }
  }

  /// Ready for another sequence, with the same settings and nothing pinned. Allocates nothing.
  void reset() { state_.reset(); }

  /// The whole state as bytes, for a pruner of the same settings; save the cache beside it. Throws
  /// std::invalid_argument inside a step.
  [[nodiscard]] std::vector<std::byte> save() const {
    detail::require(state_.step_tokens == 0, "save: tokens of the open step", state_.step_tokens,
                    "commit the step first");
    detail::StateWriter writer;
    detail::SequenceState<Scorer>::archive(writer, state_);
    return detail::seal_state(Scorer::name, state_.saved_shape(), writer.bytes());
  }

  /// Continues where save stood. Throws std::invalid_argument, and changes nothing, when the bytes
  /// are no state, of another version, scorer or shape, or damaged. Policies that differ in
  /// what they protect or in their budget alone are not told apart.
  void restore(std::span<const std::byte> bytes) {
    detail::SequenceState<Scorer> restored = state_;
    restored.reset();
    detail::StateReader reader(detail::open_state(Scorer::name, state_.saved_shape(), bytes));
    detail::SequenceState<Scorer>::archive(reader, restored);
    if (!reader.at_end() || !restored.valid()) {
      detail::refuse_state(
          "its contents are damaged, or its score has another decay, window or other setting");
    }
    state_ = std::move(restored);
  }

 private:
  detail::SequenceState<Scorer> state_;
  Allocator allocator_;
  detail::RoundSpace space_;
  std::vector<std::uint32_t> step_indices_;
};

}  // namespace lethe
