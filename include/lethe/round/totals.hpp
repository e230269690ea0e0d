/// Limits over all layers together.
#pragma once

#include <algorithm>
#include <cstddef>

#include "lethe/budget.hpp"
#include "lethe/cache_view.hpp"
#include "lethe/planner.hpp"
#include "lethe/round/space.hpp"

namespace lethe::detail {

/// Brings the jobs under the totals, in tokens or bytes, that all layers share.
template <class Scorer, class Allocator, class Cache>
class Totals {
 public:
  explicit Totals(const RoundContext<Scorer, Cache>& round, const Allocator& allocator)
      : state_(round.state),
        space_(round.space),
        cache_(round.cache),
        tokens_(round.tokens),
        allocator_(allocator) {}

  void share_totals() {
    if constexpr (GlobalBudgetAllocator<Allocator>) {
      claim_weighted();
      share_out(allocator_.total());
    }
    if (state_.config.total_capacity != 0) fit_total(state_.config.total_capacity, false);
    if (state_.config.total_bytes != 0) fit_total(state_.config.total_bytes, true);
  }

 private:
  /// Claims by the allocator's weights, up to each layer's limit.
  void claim_weighted() {
    for (std::size_t layer = 0; layer < state_.config.layers; ++layer) {
      const LayerJob* job = space_.job_of(layer);
      Claim& claim = space_.claims[layer];
      claim.cost = 1;
      if (state_.config.scope == Scope::sequence) claim.weight = 1;
      claim.floor = job != nullptr ? job->protected_tokens : state_.held(layer);
      claim.ceiling = job != nullptr ? std::max(job->limit, claim.floor) : state_.held(layer);
    }
  }

  /// Brings what the jobs would keep under a total, in proportion; room for the step's tokens and
  /// the slack comes off first.
  void fit_total(std::size_t total, bool bytes) {
    std::size_t wanted = 0;
    std::size_t step = 0;
    for (std::size_t layer = 0; layer < state_.config.layers; ++layer) {
      const LayerJob* job = space_.job_of(layer);
      Claim& claim = space_.claims[layer];
      claim.cost = bytes ? token_bytes_of(cache_, layer) : 1;
      claim.ceiling = job != nullptr ? kept_by(*job) : state_.held(layer);
      claim.floor = job != nullptr ? job->protected_tokens : state_.held(layer);
      claim.weight = static_cast<double>(claim.ceiling);
      wanted += claim.ceiling * claim.cost;
      step += state_.layers[layer].tracked != 0 ? tokens_ * claim.cost : 0;
    }
    if (wanted + step + spread_tokens(state_.config, total) > total) {
      share_out(total - std::min(total, step + slack_tokens(state_.config.slack_ratio, total)));
    }
    if (state_.guards()) limit_guard(total - std::min(total, step));
  }

  /// max_lost_mass may use what the total leaves, and no more.
  void limit_guard(std::size_t total) {
    for (LayerJob& job : space_.jobs) {
      if (!is_movable(job)) continue;
      Claim& claim = space_.claims[job.layer];
      claim.floor = kept_by(job);
      claim.ceiling = std::max(job.hard_limit, claim.floor);
    }
    share_total(space_.claims, total);
    level_sequence();
    for (LayerJob& job : space_.jobs) {
      job.hard_limit = space_.claims[job.layer].tokens;
    }
  }

  /// Layers that keep one set all get what the least of them got.
  void level_sequence() {
    if (state_.config.scope != Scope::sequence) return;
    std::size_t fewest = state_.config.capacity;
    for (const LayerJob& job : space_.jobs) {
      fewest = std::min(fewest, space_.claims[job.layer].tokens);
    }
    for (const LayerJob& job : space_.jobs) space_.claims[job.layer].tokens = fewest;
  }

  /// Recents give way where a total cannot hold every layer's protected tokens.
  void lower_floors(std::size_t total) {
    std::size_t cost = 0;
    for (const Claim& claim : space_.claims) cost += claim.floor * claim.cost;
    if (cost <= total) return;
    for (const LayerJob& job : space_.jobs) {
      if (is_movable(job)) space_.claims[job.layer].floor = job.prefix_tokens;
    }
  }

  void share_out(std::size_t total) {
    lower_floors(total);
    share_total(space_.claims, total);
    level_sequence();
    for (LayerJob& job : space_.jobs) {
      if (!is_movable(job)) continue;
      const std::size_t most = space_.claims[job.layer].tokens;
      if (most == kept_by(job)) continue;
      job.tokens = std::max(permitted_count(cache_, job.layer, most, most), job.prefix_tokens);
      job.outcome = job.tokens < job.before ? Outcome::pruned : Outcome::nothing_to_drop;
      if (changes_recents(job, state_.policy.retention, job.tokens)) protect_anew(job);
    }
  }

  /// What most is protected in any head.
  void protect_anew(LayerJob& job) {
    std::size_t most_protected = 0;
    std::size_t most_prefix = 0;
    for (std::size_t head = 0; head < state_.kept_sets(); ++head) {
      space_.planner.protect(job, state_.policy.retention, state_.slots.positions(job.layer, head),
                             state_.slots.ordered(job.layer), job.protection.prefix_end,
                             job.tokens);
      most_protected = std::max(most_protected, job.protected_tokens);
      most_prefix = std::max(most_prefix, job.prefix_tokens);
    }
    job.protected_tokens = most_protected;
    job.prefix_tokens = most_prefix;
  }

  SequenceState<Scorer>& state_;
  RoundSpace& space_;
  Cache& cache_;
  std::size_t tokens_;
  const Allocator& allocator_;
};

}  // namespace lethe::detail
