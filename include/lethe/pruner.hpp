/// The three verbs: make_room before tokens are appended, observe what attention did, commit the
/// step.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "lethe/attention.hpp"
#include "lethe/budget.hpp"
#include "lethe/cache_view.hpp"
#include "lethe/deferred.hpp"
#include "lethe/drafts.hpp"
#include "lethe/fixed_list.hpp"
#include "lethe/planner.hpp"
#include "lethe/pruner_config.hpp"
#include "lethe/score.hpp"
#include "lethe/slot_table.hpp"
#include "lethe/state_blob.hpp"
#include "lethe/trace.hpp"

namespace lethe {

/// Decides, for one sequence, which tokens of its KV cache to keep while it decodes.
///
/// One pruner a sequence; pruners share nothing, so threads need no locks; a copy is a fork.
/// Between rounds nothing is allocated, locked or asked of the system; a round allocates nothing
/// either. Memory: 4 bytes a slot for positions, 4 x groups for Rasr's scores, in every layer.
///
/// Scorer turns mass into scores, Allocator says how many tokens a layer keeps.
template <TokenScorer Scorer, BudgetAllocator Allocator>
class Pruner {
 public:
  /// Throws std::invalid_argument naming the setting that cannot be, its value and the remedy.
  Pruner(const PrunerConfig& config, const PolicySettings& policy,
         const typename Scorer::Config& score, const typename Allocator::Config& budget)
      : config_((detail::check(config, policy), config)),
        policy_(policy),
        shape_{config.layers, config.groups, config.capacity},
        scorer_(score, shape_),
        allocator_(budget),
        slots_(config.layers, kept_sets(), config.capacity),
        drafts_(shape_, config.draft_tokens),
        deferred_(config.deferred, config.layers),
        planner_(config.capacity),
        layers_(config.layers),
        kept_(config.layers * kept_sets() * (config.capacity + 1), 0),
        sequence_(config.scope == Scope::sequence ? config.capacity : 0, 0.0f),
        step_indices_(config.capacity),
        claims_(config.layers),
        jobs_(config.layers),
        plans_(config.layers * kept_sets()),
        plan_protection_(config.layers * kept_sets()) {
    std::iota(step_indices_.begin(), step_indices_.end(), 0u);
    reset();
  }

  /// Makes sure that `tokens` more fit in every layer, pruning where it is due. To be called before
  /// they are appended. Afterwards size(layer) + tokens <= bound(layer).
  ///
  /// cache: held at the same counts as the pruner's. trace: told of every examined layer.
  /// Returns the tokens dropped, summed over layers.
  /// Throws std::invalid_argument when counts disagree or tokens cannot fit, and std::length_error
  /// when a layer at its bound cannot be pruned (busy, or scores not finite). O(n) for each
  /// examined layer, O(layers) otherwise.
  template <KVCacheView Cache, TraceReceiver Trace = NoTrace>
  std::size_t make_room(Cache& cache, std::size_t tokens, Trace&& trace = {}) {
    begin_step(cache, tokens);
    flush_full(cache, tokens);
    find_due(cache, tokens);
    if (jobs_.empty()) return finish(cache, tokens, 0);
    constexpr bool traced = !std::is_same_v<std::remove_cvref_t<Trace>, NoTrace>;
    examine_all<traced>(cache);
    share_totals(cache, tokens);
    plan_all<traced>(cache);
    const double seconds = apply_all<traced>(cache);
    return finish(cache, tokens, settle(seconds, trace));
  }

  /// Records attention probabilities of one layer in this step. May be called several times for a
  /// layer, with other heads or queries. Entries beyond a query's causal limit are not read.
  /// Throws std::invalid_argument for more queries than make_room announced. O(heads x columns).
  void observe(std::size_t layer, const Probabilities<float>& probabilities) {
    record(layer, probabilities);
  }
  template <class Element>
  void observe(std::size_t layer, const Probabilities<Element>& probabilities) {
    record(layer, probabilities);
  }
  /// Records logits; as for probabilities.
  template <class Element>
  void observe(std::size_t layer, const Logits<Element>& logits) {
    record(layer, logits);
  }
  /// Records mass that the engine has summed itself; as for probabilities.
  template <class Element>
  void observe(std::size_t layer, const Mass<Element>& mass) {
    record(layer, mass);
  }
  /// Keeps queries and their log-sum-exps, to be scored against the cache's keys in a later
  /// make_room, before anything moves. Needs PrunerConfig::deferred.
  template <class Element>
  void observe(std::size_t layer, const Queries<Element>& queries) {
    if constexpr (Scorer::reads_mass) {
      if (!admits(layer, queries)) return;
      require_deferred(layer, queries);
      deferred_.push(layer, queries, slots_.held(layer), committed_);
    }
  }

  /// The step's tokens stand, all that make_room announced: scores decay once for each.
  void commit() { commit(std::span<const std::uint32_t>(step_indices_).first(step_tokens_)); }

  /// The tokens at these indices of the step stand, ascending; the cache holds them, in this order,
  /// behind the tokens it held before. The rest leave no trace. Unless all stand,
  /// PrunerConfig::draft_tokens must cover the step. Throws std::invalid_argument. O(layers).
  void commit(std::span<const std::uint32_t> accepted) {
    check_accepted(accepted);
    for (std::size_t layer = 0; layer < config_.layers; ++layer) {
      if (layers_[layer].tracked != 0) commit_layer(layer, accepted);
    }
    drafts_.clear();
    scorer_.advance(accepted.size());
    committed_ += static_cast<std::int64_t>(accepted.size());
    step_tokens_ = 0;
    queries_seen_ = 0;
  }

  /// Positions below `tokens` are never dropped: one line pins a prompt. 0 unpins.
  /// Throws std::invalid_argument when a round could not keep them.
  void pin(std::size_t tokens) {
    const std::size_t kept = config_.capacity - slack_tokens(config_.slack_ratio, config_.capacity);
    detail::require(tokens < kept, "pin", tokens,
                    "a round at the bound keeps fewer: raise capacity");
    pinned_ = tokens;
  }

  /// The most tokens a layer ever holds. With capacity_bytes it is exact after the first make_room.
  [[nodiscard]] std::size_t bound(std::size_t layer) const { return layers_[layer].bound; }
  /// Tokens of a layer that stand.
  [[nodiscard]] std::size_t size(std::size_t layer) const { return slots_.size(layer); }
  /// Position of every slot of a layer (of one head, with Scope::head).
  [[nodiscard]] std::span<const Position> positions(std::size_t layer, std::size_t head = 0) const {
    return slots_.positions(layer, head);
  }
  /// Tokens the sequence has committed: the next token's position.
  [[nodiscard]] std::size_t tokens_seen() const { return static_cast<std::size_t>(committed_); }
  /// Length at which a layer is next examined below its bound; 0: not before it.
  [[nodiscard]] std::size_t threshold(std::size_t layer) const { return layers_[layer].threshold; }
  [[nodiscard]] const PrunerConfig& config() const { return config_; }
  /// A layer's scores as a round would see them, groups summed (with Scope::head, one head's own);
  /// valid until the next call. Queries that wait to be scored count once flushed.
  [[nodiscard]] std::span<const float> scores(std::size_t layer, std::size_t head = 0) {
    if (config_.scope == Scope::head) return head_scores(layer, head);
    return planner_.layer_scores(scorer_, slots_, layer, config_.groups);
  }

  /// Scores all waiting queries now, between steps; make_room does it when it must.
  template <KVCacheView Cache>
  void flush(const Cache& cache) {
    LETHE_ASSERT(step_tokens_ == 0);
    for (std::size_t layer = 0; layer < config_.layers; ++layer) flush_layer(cache, layer);
  }

  /// Ready for another sequence, with the same settings. Allocates nothing.
  void reset() {
    slots_.reset();
    scorer_.reset();
    deferred_.reset();
    drafts_.clear();
    std::fill(layers_.begin(), layers_.end(),
              Layer{.bound = config_.capacity,
                    .threshold = std::min(policy_.first_threshold, config_.capacity)});
    committed_ = 0;
    pinned_ = step_tokens_ = queries_seen_ = next_layer_ = 0;
  }

  /// The whole state as bytes, for a pruner of the same settings. Between steps only.
  [[nodiscard]] std::vector<std::byte> save() const {
    detail::StateWriter writer;
    archive(writer, *this);
    return detail::seal_state(Scorer::name, state_shape(), writer.bytes());
  }

  /// Continues where save stood. Throws std::invalid_argument, and changes nothing, when the bytes
  /// are no state, of another version, policy or shape, or damaged.
  void restore(std::span<const std::byte> bytes) {
    Pruner restored = *this;
    restored.reset();
    detail::StateReader reader(detail::open_state(Scorer::name, state_shape(), bytes));
    archive(reader, restored);
    if (!reader.at_end() || !restored.valid()) detail::refuse_state("its contents are damaged");
    *this = std::move(restored);
  }

 private:
  struct Layer {
    std::uint64_t bound = 0;
    std::uint64_t threshold = 0;
    /// Tokens appended since the layer was last examined.
    std::uint64_t since_round = 0;
    /// 0: the layer has no cache of its own to prune.
    std::uint64_t tracked = 1;
  };

  [[nodiscard]] std::size_t kept_sets() const {
    return config_.scope == Scope::head ? config_.groups : 1;
  }

  [[nodiscard]] std::array<std::uint64_t, 7> state_shape() const {
    return {config_.layers,
            config_.capacity,
            config_.groups,
            config_.draft_tokens,
            config_.deferred.queries,
            static_cast<std::uint64_t>(config_.scope),
            config_.deferred.heads * config_.deferred.head_dimension};
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    archive(self.committed_);
    archive(self.pinned_);
    archive(self.next_layer_);
    archive(self.layers_);
    std::remove_cvref_t<decltype(self.scorer_)>::archive(archive, self.scorer_);
    SlotTable::archive(archive, self.slots_);
    DeferredQueries::archive(archive, self.deferred_);
  }

  [[nodiscard]] bool valid() const {
    bool good = committed_ >= 0 && committed_ < std::int64_t{all_heads} &&
                pinned_ < config_.capacity && next_layer_ < config_.layers && scorer_.valid() &&
                slots_.valid(static_cast<Position>(committed_));
    for (std::size_t layer = 0; good && layer < config_.layers; ++layer) {
      good = layers_[layer].bound >= 1 && layers_[layer].bound <= config_.capacity &&
             slots_.size(layer) <= layers_[layer].bound &&
             layers_[layer].threshold <= config_.capacity && layers_[layer].tracked <= 1 &&
             deferred_.valid(layer, slots_.size(layer), committed_);
    }
    return good;
  }

  // Before the tokens are appended.

  template <class Cache>
  void begin_step(const Cache& cache, std::size_t tokens) {
    const std::size_t layers = cache.layers();
    if (layers != config_.layers) {
      detail::refuse("layers", std::to_string(layers), "the cache must have the pruner's layers");
    }
    check_scope<Cache>();
    if (queries_seen_ != 0 && !speculative()) refuse_open_step();
    detail::require(tokens <= config_.capacity, "make_room tokens", tokens,
                    "append at most the capacity in one step: split the prompt into chunks");
    for (std::size_t layer = 0; layer < layers; ++layer) begin_layer(cache, layer, tokens);
    step_tokens_ = tokens;
    queries_seen_ = 0;
    drafts_.clear();
  }

  [[noreturn]] LETHE_COLD static void refuse_open_step() {
    detail::refuse("make_room", "inside a step",
                   "commit what was observed first, or set draft_tokens to be able to drop it");
  }

  template <class Cache>
  void begin_layer(const Cache& cache, std::size_t layer, std::size_t tokens) {
    const LayerState state = state_of(cache, layer);
    layers_[layer].tracked = state == LayerState::fixed || state == LayerState::absent ? 0 : 1;
    if (layers_[layer].tracked == 0) return;
    slots_.reclaim(layer);
    deferred_.commit(layer, 0, committed_, {});
    check_heads(cache, layer);
    layers_[layer].bound = bound_in(cache, layer);
    const std::size_t held = cache.size(layer);
    if (held != slots_.size(layer)) {
      detail::refuse("cache.size", std::to_string(held),
                     "layer " + std::to_string(layer) + " should hold the " +
                         std::to_string(slots_.size(layer)) + " tokens that were committed");
    }
    if (tokens > layers_[layer].bound) {
      detail::refuse("make_room tokens", std::to_string(tokens),
                     "append at most the bound, " + std::to_string(layers_[layer].bound) +
                         ", in one step: split the prompt into chunks");
    }
  }

  template <class Cache>
  void check_heads(const Cache& cache, std::size_t layer) const {
    if constexpr (PerHeadCache<Cache>) {
      if (config_.scope == Scope::head && cache.heads(layer) != config_.groups) {
        detail::refuse("groups", std::to_string(config_.groups),
                       "Scope::head needs one group for each of the cache's " +
                           std::to_string(cache.heads(layer)) + " heads");
      }
    }
  }

  template <class Cache>
  void check_scope() const {
    if constexpr (!PerHeadCache<Cache>) {
      if (config_.scope == Scope::head) {
        detail::refuse("scope", "head", "the cache takes no plan for a head: give it heads(layer)");
      }
    }
    if constexpr (SameSetCache<Cache>) {
      if (Cache::same_set && config_.scope != Scope::sequence) {
        detail::refuse("scope", config_.scope == Scope::head ? "head" : "layer",
                       "the cache keeps the same slots in every layer: choose Scope::sequence");
      }
    }
    if constexpr (!ByteSizedCache<Cache>) {
      if (config_.capacity_bytes + config_.total_bytes + config_.max_move_bytes != 0) {
        detail::refuse("capacity_bytes, total_bytes or max_move_bytes", "set",
                       "limits in bytes need a cache with token_bytes(layer)");
      }
    }
  }

  template <class Cache>
  [[nodiscard]] std::size_t token_bytes(const Cache& cache, std::size_t layer) const {
    if constexpr (ByteSizedCache<Cache>) {
      return std::max<std::size_t>(1, cache.token_bytes(layer));
    } else {
      return 1;
    }
  }

  template <class Cache>
  [[nodiscard]] std::size_t bound_in(const Cache& cache, std::size_t layer) const {
    if (config_.capacity_bytes == 0) return config_.capacity;
    const std::size_t tokens = config_.capacity_bytes / token_bytes(cache, layer);
    detail::require(tokens >= 2, "capacity_bytes", config_.capacity_bytes,
                    "give each layer at least 2 tokens");
    return std::min(config_.capacity, tokens);
  }

  template <class Cache>
  void flush_full(const Cache& cache, std::size_t tokens) {
    if (!deferred_.active()) return;
    for (std::size_t layer = 0; layer < config_.layers; ++layer) {
      if (deferred_.waiting(layer) + tokens > deferred_.capacity()) flush_layer(cache, layer);
    }
  }

  template <class Cache>
  void flush_layer(const Cache& cache, std::size_t layer) {
    if (deferred_.waiting(layer) == 0) return;
    if constexpr (KeyReadableCache<Cache>) {
      deferred_.flush(
          layer, config_.groups, committed_,
          [&](std::size_t head, std::size_t first, std::span<float> out) {
            cache.read_keys(layer, head, first, out);
          },
          [&](std::int64_t query, std::size_t group, std::size_t first,
              std::span<const float> mass) { scorer_.record(layer, group, query, first, mass); });
    } else {
      detail::refuse("deferred", "queries wait",
                     "give the cache read_keys(layer, head, slot, out)");
    }
  }

  // Which layers a round examines.

  template <class Cache>
  void find_due(const Cache& cache, std::size_t tokens) {
    jobs_.clear();
    const bool total_due = over_caps(cache, tokens) || over_budget(tokens);
    total_due_ = total_due;
    const bool all =
        total_due || config_.scope == Scope::sequence || GlobalBudgetAllocator<Allocator>;
    bool any = total_due;
    for (std::size_t i = 0; i < config_.layers; ++i) {
      const std::size_t layer = (next_layer_ + i) % config_.layers;
      const bool due = layers_[layer].tracked != 0 && (total_due || is_due(layer, tokens));
      any = any || due;
      if (due || (all && layers_[layer].tracked != 0)) add_job<Cache>(layer, tokens);
    }
    if (!any) jobs_.clear();
  }

  template <class Cache>
  void add_job(std::size_t layer, std::size_t tokens) {
    const std::size_t size = slots_.size(layer);
    const std::size_t bound = layers_[layer].bound;
    const bool forced = size + tokens > bound - spread(bound);
    const std::size_t hard = std::min(size, bound - tokens);
    const bool one_slot = OverwritableCache<Cache> && tokens == 1;
    const std::size_t slack = bound - (one_slot ? 1 : slack_tokens(config_.slack_ratio, bound));
    jobs_.push_back({.layer = layer,
                     .before = size,
                     .limit = forced ? std::min(hard, slack) : hard,
                     .hard_limit = hard,
                     .forced = forced});
  }

  /// With a limit on moves, layers become due half the slack before the bound, to be taken in turn.
  [[nodiscard]] std::size_t spread(std::size_t bound) const {
    return config_.max_move_bytes != 0 ? slack_tokens(config_.slack_ratio, bound) / 2 : 0;
  }

  [[nodiscard]] bool is_due(std::size_t layer, std::size_t tokens) const {
    const Layer& state = layers_[layer];
    const std::size_t size = slots_.size(layer);
    if (size + tokens > state.bound - spread(state.bound)) return true;
    return policy_.first_threshold != 0 && size >= state.threshold &&
           state.since_round >= config_.round_interval;
  }

  template <class Cache>
  [[nodiscard]] bool over_caps(const Cache& cache, std::size_t tokens) const {
    if (config_.total_capacity == 0 && config_.total_bytes == 0) return false;
    std::size_t count = 0;
    std::size_t bytes = 0;
    for (std::size_t layer = 0; layer < config_.layers; ++layer) {
      if (layers_[layer].tracked == 0) continue;
      count += slots_.held(layer) + tokens;
      bytes += (slots_.held(layer) + tokens) * token_bytes(cache, layer);
    }
    return (config_.total_capacity != 0 && count > config_.total_capacity) ||
           (config_.total_bytes != 0 && bytes > config_.total_bytes);
  }

  /// A budget shared by all layers has been outgrown by the slack.
  [[nodiscard]] bool over_budget(std::size_t tokens) const {
    if constexpr (GlobalBudgetAllocator<Allocator>) {
      const std::size_t total = allocator_.total();
      std::size_t count = 0;
      for (std::size_t layer = 0; layer < config_.layers; ++layer) {
        if (layers_[layer].tracked != 0) count += slots_.size(layer) + tokens;
      }
      return config_.total_capacity == 0 && count > total + slack_tokens(config_.slack_ratio, total);
    }
    return false;
  }

  // What each examined layer is to keep.

  template <bool Traced, class Cache>
  void examine_all(const Cache& cache) {
    if (config_.scope == Scope::sequence) return examine_sequence(cache);
    for (detail::LayerJob& job : jobs_) {
      const auto begin = now<Traced>();
      if (ready(cache, job)) examine_layer(cache, job);
      job.plan_seconds += seconds_since<Traced>(begin);
    }
  }

  template <class Cache>
  void examine_layer(const Cache& cache, detail::LayerJob& job) {
    if (config_.scope != Scope::head) {
      return examine(cache, job, planner_.layer_scores(scorer_, slots_, job.layer, config_.groups));
    }
    // Heads keep equally many tokens: as many as the neediest.
    detail::LayerJob neediest = job;
    std::size_t most_protected = 0;
    for (std::size_t head = 0; head < config_.groups; ++head) {
      detail::LayerJob own = job;
      examine(cache, own, head_scores(job.layer, head), head);
      most_protected = std::max(most_protected, own.protected_tokens);
      if (!movable(own) || head == 0 || kept_by(own) > kept_by(neediest)) neediest = own;
      if (!movable(own)) break;
    }
    job = neediest;
    job.protected_tokens = most_protected;
  }

  [[nodiscard]] std::span<const float> head_scores(std::size_t layer, std::size_t head) {
    return scorer_.score(layer, head, slots_.positions(layer, head), planner_.head_scores());
  }

  template <class Cache>
  [[nodiscard]] bool ready(const Cache& cache, detail::LayerJob& job) {
    if (state_of(cache, job.layer) == LayerState::busy) {
      job.outcome = Outcome::busy;
      return false;
    }
    flush_layer(cache, job.layer);
    if constexpr (CacheReadingScorer<Scorer, Cache>) scorer_.read(cache, job.layer);
    return true;
  }

  /// One plan for all layers: examined as one layer, held back when any of them cannot move.
  template <class Cache>
  void examine_sequence(const Cache& cache) {
    detail::LayerJob& first = jobs_.front();
    for (detail::LayerJob& job : jobs_) {
      if (!ready(cache, job)) first.outcome = Outcome::busy;
      if (job.before != first.before) {
        detail::refuse("scope", "sequence", "every layer must hold equally many tokens");
      }
      first.limit = std::min(first.limit, job.limit);
      first.hard_limit = std::min(first.hard_limit, job.hard_limit);
      first.forced = first.forced || job.forced;
    }
    if (first.outcome == Outcome::busy) return copy_first_job();
    const std::span<float> sum = std::span(sequence_).first(first.before);
    examine(cache, first,
            planner_.sequence_scores(scorer_, slots_, {jobs_.data(), jobs_.size()}, config_.groups,
                                     sum));
    copy_first_job();
  }

  void copy_first_job() {
    for (detail::LayerJob& job : jobs_) {
      const std::size_t layer = job.layer;
      job = jobs_.front();
      job.layer = layer;
    }
  }

  template <class Cache>
  void examine(const Cache& cache, detail::LayerJob& job, std::span<const float> scores,
               std::size_t head = 0) {
    job.summary = summarise(scores);
    if (!job.summary.finite) {
      job.outcome = Outcome::non_finite;
      return;
    }
    const std::span<const Position> positions = slots_.positions(job.layer, head);
    const bool ordered = slots_.ordered(job.layer);
    const Position prefix = prefix_end(cache, job.layer);
    planner_.protect(job, policy_.retention, positions, ordered, prefix, job.limit);
    job.limit = std::max(job.limit, std::min(job.prefix_tokens, job.hard_limit));
    const LayerScores view = planner_.view(job, config_.layers, scores, positions, ordered);
    job.budget = allocator_.budget(view);
    if constexpr (GlobalBudgetAllocator<Allocator>) {
      claims_[job.layer].weight = allocator_.weight(view);
    }
    set_tokens(cache, job, positions, ordered);
  }

  template <class Cache>
  void set_tokens(const Cache& cache, detail::LayerJob& job, std::span<const Position> positions,
                  bool ordered) {
    if (job.budget.spread_out && !job.forced) {
      job.outcome = Outcome::spread_out;
      return;
    }
    const std::size_t wanted = std::min(job.budget.tokens, job.limit);
    if (wanted < job.protected_tokens) {
      planner_.protect(job, policy_.retention, positions, ordered, job.protection.prefix_end,
                       wanted);
    }
    job.tokens = std::max(wanted, job.protected_tokens);
    job.tokens =
        std::max(permitted_count(cache, job.layer, job.tokens, job.limit), job.protected_tokens);
    if (job.tokens >= job.before) job.outcome = Outcome::nothing_to_drop;
  }

  template <class Cache>
  [[nodiscard]] Position prefix_end(const Cache& cache, std::size_t layer) const {
    std::size_t end = std::max(policy_.retention.first_tokens, pinned_);
    if (config_.scope != Scope::sequence) {
      return static_cast<Position>(std::max(end, shared_end(cache, layer)));
    }
    for (const detail::LayerJob& job : jobs_) end = std::max(end, shared_end(cache, job.layer));
    return static_cast<Position>(end);
  }

  /// The position behind the slots that a layer shares with other sequences, in any of its heads.
  template <class Cache>
  [[nodiscard]] std::size_t shared_end(const Cache& cache, std::size_t layer) const {
    const std::size_t shared = std::min(shared_prefix_of(cache, layer), slots_.size(layer));
    std::size_t end = 0;
    for (std::size_t head = 0; shared != 0 && head < kept_sets(); ++head) {
      const std::span<const Position> row = slots_.positions(layer, head).first(shared);
      end = std::max<std::size_t>(end, *std::max_element(row.begin(), row.end()) + 1u);
    }
    return end;
  }

  // Limits over all layers together.

  template <class Cache>
  void share_totals(const Cache& cache, std::size_t tokens) {
    if constexpr (GlobalBudgetAllocator<Allocator>) {
      claim_weighted();
      share_out(cache, allocator_.total());
    }
    if (config_.total_capacity != 0) fit_total(cache, config_.total_capacity, tokens, false);
    if (config_.total_bytes != 0) fit_total(cache, config_.total_bytes, tokens, true);
  }

  /// Claims by the allocator's weights, up to each layer's limit.
  void claim_weighted() {
    for (std::size_t layer = 0; layer < config_.layers; ++layer) {
      const detail::LayerJob* job = movable_job(layer);
      Claim& claim = claims_[layer];
      claim.cost = 1;
      if (config_.scope == Scope::sequence) claim.weight = 1;
      claim.floor = job != nullptr ? job->protected_tokens : held(layer);
      claim.ceiling = job != nullptr ? std::max(job->limit, claim.floor) : held(layer);
    }
  }

  /// Brings what the jobs would keep under a total, in proportion; room for the step's tokens and
  /// the slack comes off first.
  template <class Cache>
  void fit_total(const Cache& cache, std::size_t total, std::size_t tokens, bool bytes) {
    std::size_t wanted = 0;
    std::size_t step = 0;
    for (std::size_t layer = 0; layer < config_.layers; ++layer) {
      const detail::LayerJob* job = movable_job(layer);
      Claim& claim = claims_[layer];
      claim.cost = bytes ? token_bytes(cache, layer) : 1;
      claim.ceiling = job != nullptr ? kept_by(*job) : held(layer);
      claim.floor = job != nullptr ? job->protected_tokens : held(layer);
      claim.weight = static_cast<double>(claim.ceiling);
      wanted += claim.ceiling * claim.cost;
      step += layers_[layer].tracked != 0 ? tokens * claim.cost : 0;
    }
    if (wanted + step > total) {
      share_out(cache, total - std::min(total, step + slack_tokens(config_.slack_ratio, total)));
    }
    if (guards()) limit_guard(total - std::min(total, step));
  }

  /// max_lost_mass may use what the total leaves, and no more.
  void limit_guard(std::size_t total) {
    for (detail::LayerJob& job : jobs_) {
      if (!movable(job)) continue;
      Claim& claim = claims_[job.layer];
      claim.floor = kept_by(job);
      claim.ceiling = std::max(job.hard_limit, claim.floor);
    }
    share_total(claims_, total);
    std::size_t fewest = config_.capacity;
    for (const detail::LayerJob& job : jobs_) {
      fewest = std::min(fewest, claims_[job.layer].tokens);
    }
    for (detail::LayerJob& job : jobs_) {
      job.hard_limit = config_.scope == Scope::sequence ? fewest : claims_[job.layer].tokens;
    }
  }

  template <class Cache>
  void share_out(const Cache& cache, std::size_t total) {
    share_total(claims_, total);
    std::size_t fewest = config_.capacity;
    for (const detail::LayerJob& job : jobs_) {
      fewest = std::min(fewest, claims_[job.layer].tokens);
    }
    for (detail::LayerJob& job : jobs_) {
      if (!movable(job)) continue;
      const std::size_t most =
          config_.scope == Scope::sequence ? fewest : claims_[job.layer].tokens;
      if (most == kept_by(job)) continue;
      job.tokens = std::max(permitted_count(cache, job.layer, most, most), job.protected_tokens);
      job.outcome = job.tokens < job.before ? Outcome::pruned : Outcome::nothing_to_drop;
    }
  }

  [[nodiscard]] std::size_t held(std::size_t layer) const {
    return layers_[layer].tracked != 0 ? slots_.size(layer) : 0;
  }

  [[nodiscard]] static bool movable(const detail::LayerJob& job) {
    return job.outcome != Outcome::busy && job.outcome != Outcome::non_finite;
  }

  [[nodiscard]] static std::size_t kept_by(const detail::LayerJob& job) {
    return job.outcome == Outcome::pruned ? job.tokens : job.before;
  }

  [[nodiscard]] const detail::LayerJob* movable_job(std::size_t layer) const {
    for (const detail::LayerJob& job : jobs_) {
      if (job.layer == layer) return movable(job) ? &job : nullptr;
    }
    return nullptr;
  }

  // The plans, their check, and the move.

  template <bool Traced, class Cache>
  void plan_all(const Cache& cache) {
    plans_.clear();
    plan_protection_.clear();
    std::size_t moved = 0;
    for (detail::LayerJob& job : jobs_) {
      if (job.outcome != Outcome::pruned) continue;
      const auto begin = now<Traced>();
      const std::size_t most = job.hard_limit > job.tokens && guards() ? job.hard_limit : job.tokens;
      const std::size_t bytes = (most - job.prefix_tokens) * token_bytes(cache, job.layer);
      if (may_wait(job) && moved + bytes > config_.max_move_bytes) {
        job.outcome = Outcome::postponed;
        continue;
      }
      moved += bytes;
      plan_layer(job);
      next_layer_ = (job.layer + 1) % config_.layers;
      job.plan_seconds += seconds_since<Traced>(begin);
    }
  }

  [[nodiscard]] bool may_wait(const detail::LayerJob& job) const {
    return config_.max_move_bytes != 0 && config_.scope != Scope::sequence && !total_due_ &&
           job.before + step_tokens_ <= layers_[job.layer].bound;
  }

  [[nodiscard]] bool guards() const { return Scorer::reads_mass && config_.max_lost_mass < 1.0f; }

  void plan_layer(detail::LayerJob& job) {
    if (config_.scope == Scope::head) return plan_heads(job);
    if (config_.scope == Scope::sequence && !plans_.empty()) {
      job.lost_mass = jobs_.front().lost_mass;
      job.outcome = jobs_.front().outcome;
      return add_plan(job, all_heads, plans_.front().kept);
    }
    const bool whole = config_.scope == Scope::sequence;
    const std::span<const float> scores =
        whole ? std::span<const float>(sequence_).first(job.before)
              : planner_.layer_scores(scorer_, slots_, job.layer, config_.groups);
    add_plan(job, all_heads, select(job, scores, 0));
  }

  void plan_heads(detail::LayerJob& job) {
    if (guards()) guard_heads(job);
    double lost = 0;
    for (std::size_t head = 0; head < config_.groups; ++head) {
      detail::LayerJob own = head_job(job, head);
      own.hard_limit = job.tokens;
      const std::span<const Slot> kept = select(own, head_scores(job.layer, head), head);
      add_plan(own, static_cast<std::uint32_t>(head), kept);
      lost += own.lost_mass / static_cast<double>(config_.groups);
    }
    job.lost_mass = lost;
  }

  /// Heads keep equally many tokens: as many as the one that would lose most needs.
  void guard_heads(detail::LayerJob& job) {
    std::size_t tokens = job.tokens;
    for (std::size_t head = 0; head < config_.groups; ++head) {
      detail::LayerJob own = head_job(job, head);
      static_cast<void>(select(own, head_scores(job.layer, head), head));
      tokens = std::max(tokens, own.tokens);
    }
    if (tokens > job.tokens) job.outcome = Outcome::guarded;
    job.tokens = tokens;
  }

  [[nodiscard]] detail::LayerJob head_job(const detail::LayerJob& job, std::size_t head) {
    detail::LayerJob own = job;
    own.summary = summarise(head_scores(job.layer, head));
    planner_.protect(own, policy_.retention, slots_.positions(job.layer, head),
                     slots_.ordered(job.layer), job.protection.prefix_end, job.tokens);
    return own;
  }

  [[nodiscard]] std::span<const Slot> select(detail::LayerJob& job, std::span<const float> scores,
                                             std::size_t head) {
    const std::size_t row = (job.layer * kept_sets() + head) * (config_.capacity + 1);
    const std::span<Slot> kept = std::span(kept_).subspan(row, config_.capacity + 1);
    const double most = Scorer::reads_mass ? static_cast<double>(config_.max_lost_mass) : 1.0;
    return planner_.select_guarded(job, scores, slots_.positions(job.layer, head),
                                   slots_.ordered(job.layer), most, kept);
  }

  void add_plan(const detail::LayerJob& job, std::uint32_t head, std::span<const Slot> kept) {
    const std::size_t row = head == all_heads ? 0 : head;
    plans_.push_back({.layer = static_cast<std::uint32_t>(job.layer),
                      .head = head,
                      .tokens = static_cast<std::uint32_t>(job.before),
                      .first_move = first_move_of(kept),
                      .kept = kept,
                      .positions = slots_.positions(job.layer, row)});
    plan_protection_.push_back(job.protection);
  }

  template <bool Traced, class Cache>
  [[nodiscard]] double apply_all(Cache& cache) {
    if (plans_.empty()) return 0;
    const auto begin = now<Traced>();
    for (std::size_t i = 0; i < plans_.size(); ++i) {
      const PlanFault fault = check_plan(plans_[i], plan_protection_[i]);
      if (fault != PlanFault::none) refuse_plan(plans_[i], fault);
    }
    if (!overwritten(cache)) {
      cache.apply(std::span<const EvictionPlan>(plans_.data(), plans_.size()));
      for (const EvictionPlan& plan : plans_) follow(plan);
    }
    return seconds_since<Traced>(begin);
  }

  [[noreturn]] LETHE_COLD static void refuse_plan(const EvictionPlan& plan, PlanFault fault) {
    detail::raise<std::logic_error>("lethe: the plan of layer " + std::to_string(plan.layer) +
                                    " is not sound: " + name(fault) + "; nothing was moved");
  }

  void follow(const EvictionPlan& plan) {
    const std::size_t first = plan.head == all_heads ? 0 : plan.head;
    const std::size_t last = plan.head == all_heads ? config_.groups : first + 1;
    for (std::size_t group = first; group < last; ++group) scorer_.keep(plan, group);
    slots_.keep(plan);
  }

  /// One token into full layers that allow it: the worst token's slot is handed on, nothing moves.
  template <class Cache>
  [[nodiscard]] bool overwritten(Cache& cache) {
    if constexpr (OverwritableCache<Cache>) {
      const auto full = [&](const EvictionPlan& plan) {
        return plan.tokens == layers_[plan.layer].bound && plan.head == all_heads &&
               plan.kept.size() + 1 == plan.tokens;
      };
      if (step_tokens_ != 1 || !std::all_of(plans_.begin(), plans_.end(), full)) return false;
      for (const EvictionPlan& plan : plans_) overwrite(cache, plan);
      return true;
    }
    return false;
  }

  template <class Cache>
  void overwrite(Cache& cache, const EvictionPlan& plan) {
    Slot victim = 0;
    for_each_dropped_range(plan, [&](Slot begin, Slot) { victim = begin; });
    cache.overwrite(plan.layer, victim);
    slots_.vacate(plan.layer, victim);
    // A draft may be rejected, and the token then stays as it was.
    if (!speculative()) forget(plan.layer, victim);
  }

  void forget(std::size_t layer, std::size_t slot) {
    for (std::size_t group = 0; group < config_.groups; ++group) {
      scorer_.forget(layer, group, static_cast<Slot>(slot));
    }
  }

  // After the move.

  template <class Trace>
  std::size_t settle(double apply_seconds, Trace&& trace) {
    std::size_t dropped = 0;
    for (const detail::LayerJob& job : jobs_) {
      Layer& state = layers_[job.layer];
      const bool waits = job.outcome == Outcome::busy || job.outcome == Outcome::postponed;
      if (!waits) state.since_round = 0;
      if (job.outcome == Outcome::spread_out && job.before >= state.threshold) {
        state.threshold = std::min<std::uint64_t>(2 * state.threshold, state.bound);
      }
      dropped += job.before - slots_.held(job.layer);
      trace(statistics(job, apply_seconds));
    }
    return dropped;
  }

  [[nodiscard]] RoundStatistics statistics(const detail::LayerJob& job,
                                           double apply_seconds) const {
    return {
        .layer = job.layer,
        .outcome = job.outcome,
        .tokens_seen = static_cast<std::size_t>(committed_),
        .tokens_before = job.before,
        .tokens_after = slots_.held(job.layer),
        .tokens_protected = job.protected_tokens,
        .sparsity = Scorer::reads_mass && job.summary.finite ? hoyer_sparsity(job.summary) : 0.0,
        .breakpoint = job.budget.breakpoint,
        .threshold = layers_[job.layer].threshold,
        .lost_mass = Scorer::reads_mass ? job.lost_mass : 0.0,
        .plan_seconds = job.plan_seconds,
        .apply_seconds = apply_seconds};
  }

  /// The promise of make_room, checked.
  template <class Cache>
  std::size_t finish(const Cache& cache, std::size_t tokens, std::size_t dropped) const {
    for (std::size_t layer = 0; layer < config_.layers; ++layer) {
      const bool fits = slots_.held(layer) + tokens <= layers_[layer].bound;
      if (layers_[layer].tracked != 0 && !fits) refuse_room(layer);
    }
    if (over_caps(cache, tokens)) refuse_total();
    return dropped;
  }

  [[noreturn]] LETHE_COLD static void refuse_total() {
    detail::raise<std::length_error>(
        "lethe: the total over all layers cannot be held: protected tokens, busy layers or layers "
        "with non-finite scores fill it; raise total_capacity or total_bytes");
  }

  [[noreturn]] LETHE_COLD void refuse_room(std::size_t layer) const {
    std::string why = "its protected tokens leave no room";
    for (const detail::LayerJob& job : jobs_) {
      if (job.layer == layer && !movable(job)) why = std::string("it is ") + name(job.outcome);
    }
    detail::raise<std::length_error>("lethe: layer " + std::to_string(layer) + " holds " +
                                     std::to_string(slots_.held(layer)) + " tokens, its bound is " +
                                     std::to_string(layers_[layer].bound) +
                                     ", and it cannot be pruned: " + why);
  }

  // The step.

  template <class Observation>
  void record(std::size_t layer, const Observation& seen) {
    if constexpr (Scorer::reads_mass) {
      if (!admits(layer, seen)) return;
      LETHE_ASSERT(seen.columns <= config_.capacity);
      queries_seen_ = std::max(queries_seen_, seen.first_query + seen.queries);
      for_each_mass_tile(seen, config_.groups, slots_.held(layer),
                         [&](std::size_t query, std::size_t group, std::size_t first,
                             std::span<const float> mass) {
                           if (speculative()) {
                             drafts_.record(layer, group, query, first, mass);
                           } else {
                             scorer_.record(layer, group, static_cast<std::int64_t>(query), first,
                                            mass);
                           }
                         });
    }
  }

  /// Whether a layer's observation is wanted; refuses one of more queries than were announced.
  template <class Observation>
  [[nodiscard]] bool admits(std::size_t layer, const Observation& seen) {
    LETHE_ASSERT(layer < config_.layers);
    const std::size_t end = seen.first_query + seen.queries;
    if (end > step_tokens_) refuse_queries(end);
    return layers_[layer].tracked != 0;
  }

  [[noreturn]] LETHE_COLD void refuse_queries(std::size_t end) const {
    detail::refuse("observe queries", std::to_string(end),
                   "make_room announced " + std::to_string(step_tokens_) + " tokens for this step");
  }

  template <class Element>
  void require_deferred(std::size_t layer, const Queries<Element>& queries) const {
    const std::size_t waiting = deferred_.active() ? deferred_.waiting(layer) : 0;
    if (!deferred_.active() || waiting + queries.queries > deferred_.capacity()) {
      detail::refuse("deferred.queries", std::to_string(config_.deferred.queries),
                     "it must be at least the queries of one step");
    }
  }

  /// Whether this step's mass is held back until commit.
  [[nodiscard]] bool speculative() const {
    return drafts_.active() && step_tokens_ <= drafts_.queries();
  }

  void check_accepted(std::span<const std::uint32_t> accepted) const {
    for (std::size_t i = 0; i < accepted.size(); ++i) {
      const bool ascends = i == 0 || accepted[i - 1] < accepted[i];
      if (!ascends || accepted[i] >= step_tokens_) {
        detail::refuse("commit accepted", std::to_string(accepted[i]),
                       "give ascending indices below the tokens announced to make_room");
      }
    }
    const bool prefix = accepted.empty() || accepted.back() + 1 == accepted.size();
    const bool recorded = queries_seen_ > accepted.size() || (queries_seen_ != 0 && !prefix);
    if (recorded && !speculative()) refuse_rejection();
  }

  [[noreturn]] LETHE_COLD void refuse_rejection() const {
    detail::refuse("draft_tokens", std::to_string(config_.draft_tokens),
                   "a step of " + std::to_string(step_tokens_) +
                       " tokens was partly rejected: set draft_tokens to at least that");
  }

  void commit_layer(std::size_t layer, std::span<const std::uint32_t> accepted) {
    const std::size_t base = slots_.held(layer);
    if (speculative()) {
      if (slots_.vacant(layer) && !accepted.empty()) forget(layer, slots_.vacancy(layer));
      drafts_.replay(layer, base, accepted, scorer_);
    }
    if (deferred_.active()) deferred_.commit(layer, base, committed_, accepted);
    slots_.append(layer, accepted.size(), static_cast<Position>(committed_));
    layers_[layer].since_round += accepted.size();
  }

  template <bool Traced>
  [[nodiscard]] static auto now() {
    if constexpr (Traced) {
      return std::chrono::steady_clock::now();
    } else {
      return 0;
    }
  }

  template <bool Traced, class Time>
  [[nodiscard]] static double seconds_since(Time begin) {
    if constexpr (Traced) {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    } else {
      return static_cast<double>(begin);
    }
  }

  PrunerConfig config_;
  PolicySettings policy_;
  ScoreShape shape_;
  Scorer scorer_;
  Allocator allocator_;
  SlotTable slots_;
  DraftRows drafts_;
  DeferredQueries deferred_;
  detail::Planner planner_;
  std::vector<Layer> layers_;
  std::vector<Slot> kept_;
  std::vector<float> sequence_;
  std::vector<std::uint32_t> step_indices_;
  std::vector<Claim> claims_;
  detail::FixedList<detail::LayerJob> jobs_;
  detail::FixedList<EvictionPlan> plans_;
  detail::FixedList<Protection> plan_protection_;
  std::int64_t committed_ = 0;
  std::size_t pinned_ = 0;
  std::size_t step_tokens_ = 0;
  std::size_t queries_seen_ = 0;
  std::size_t next_layer_ = 0;
  bool total_due_ = false;
};

}  // namespace lethe
