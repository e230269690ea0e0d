/// Settings that every policy shares.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "lethe/config.hpp"
#include "lethe/deferred.hpp"
#include "lethe/retention.hpp"

namespace lethe {

/// What shares one kept set.
enum class Scope : std::uint8_t {
  /// Each KV head keeps its own tokens; needs a PerHeadCache. Equally many in a layer, unless the
  /// budget tells heads apart (HeadBudgetAllocator).
  head,
  /// All heads of a layer keep the same tokens.
  layer,
  /// All layers keep the same tokens: each layer's mass is normalised, then summed; a budget that
  /// differs by layer counts as the first one's.
  sequence,
};

/// Sizes, caps and cadence of a pruner. Only layers and capacity must be given.
struct PrunerConfig {
  /// Layers of the cache.
  std::size_t layers = 0;
  /// The bound: most tokens a layer ever holds; of heads with unequal counts, their mean.
  std::size_t capacity = 0;
  /// Most tokens one head ever holds, for budgets that tell heads apart: positions and scores take
  /// memory for so many in each head. 0: as many as the bound allows, capacity x groups.
  std::size_t head_capacity = 0;
  /// The same in bytes, by the cache's token_bytes(layer); the tighter one holds. 0: none.
  std::size_t capacity_bytes = 0;
  /// Most tokens over all layers. 0: none.
  std::size_t total_capacity = 0;
  /// Most bytes over all layers, by token_bytes(layer). 0: none.
  std::size_t total_bytes = 0;
  /// Score rows of a layer: 1 sums all heads; KV heads or query heads keep them apart.
  std::size_t groups = 1;
  Scope scope = Scope::layer;
  /// A round at the bound prunes to this share below it, so that it comes once in so many tokens:
  /// at 1/8 of a 2,048-token bound a round of some 20 us a layer comes every 256 tokens.
  float slack_ratio = 0.125f;
  /// Fewest tokens between two examinations of a layer below its bound, for the same reason.
  std::size_t round_interval = 32;
  /// A round that would drop more than this share of a layer's score keeps more, up to the bound.
  /// 1: never (budgets are then what they say).
  float max_lost_mass = 1.0f;
  /// Most bytes a make_room moves, as far as bounds and totals allow: rounds come half the slack
  /// earlier, layers are taken in turn, and those whose rows do not fit wait, each first in a later
  /// round. One layer may always move. Refused with Scope::sequence, whose layers move as one. 0:
  /// no limit.
  std::size_t max_move_bytes = 0;
  /// Most queries of a step that may be rejected at commit (speculative decoding); 0: none are,
  /// and no memory is held for them.
  std::size_t draft_tokens = 0;
  DeferredConfig deferred{};

  bool operator==(const PrunerConfig&) const = default;
};

/// Slots of a head.
[[nodiscard]] inline std::size_t head_slots(const PrunerConfig& config) {
  return config.head_capacity != 0 ? config.head_capacity : config.capacity;
}

/// What a policy adds: its protected tokens, and the length at which a layer is first examined.
struct PolicySettings {
  Retention retention{};
  /// Trigger length of a layer, doubled when its attention is spread out. 0: only at the bound.
  std::size_t first_threshold = 0;

  bool operator==(const PolicySettings&) const = default;
};

/// A policy taken apart: what it protects, and the settings of its scorer and of its budget.
template <class Score, class Budget>
struct PolicyParts {
  PolicySettings policy{};
  Score score{};
  Budget budget{};
};

/// Tokens that a round at `bound` leaves free, at least 1.
[[nodiscard]] inline std::size_t slack_tokens(float slack_ratio, std::size_t bound) {
  // Also asked before the ratio is checked: no NaN or infinity may reach the cast.
  const double ratio =
      slack_ratio > 0.0f && slack_ratio < 1.0f ? static_cast<double>(slack_ratio) : 0;
  const double share = ratio * static_cast<double>(bound);
  return std::max<std::size_t>(1, static_cast<std::size_t>(share));
}

/// Tokens that a round at `bound` keeps at most.
[[nodiscard]] inline std::size_t kept_at_bound(float slack_ratio, std::size_t bound) {
  return bound - std::min(bound, slack_tokens(slack_ratio, bound));
}

namespace detail {

inline void check_deferred(const DeferredConfig& deferred) {
  if (deferred.queries == 0) return;
  require(deferred.heads >= 1, "deferred.heads", deferred.heads, "give the query heads");
  require(deferred.kv_heads >= 1 && deferred.heads % deferred.kv_heads == 0, "deferred.kv_heads",
          deferred.kv_heads, "give a divisor of deferred.heads");
  require(deferred.head_dimension >= 1, "deferred.head_dimension", deferred.head_dimension,
          "give the channels of a head");
}

/// What heads of unequal counts cannot be combined with.
inline void check_unequal_heads(const PrunerConfig& config) {
  if (config.scope != Scope::head) {
    refuse("scope", config.scope == Scope::layer ? "layer" : "sequence",
           "this budget gives each head a count of its own: choose Scope::head");
  }
  require(config.head_capacity == 0 || config.head_capacity >= config.capacity, "head_capacity",
          config.head_capacity, "choose at least capacity, or 0");
  require(config.max_lost_mass >= 1.0f, "max_lost_mass", config.max_lost_mass,
          "leave it at 1: with heads of unequal counts the budget is what it says");
  require(config.deferred.queries == 0, "deferred.queries", config.deferred.queries,
          "leave it at 0: heads of unequal counts are told their mass step by step");
}

/// The settings with head_capacity filled in: 0 where heads keep equally many tokens.
[[nodiscard]] inline PrunerConfig settle_heads(PrunerConfig config, bool unequal) {
  if (!unequal) {
    require(config.head_capacity == 0, "head_capacity", config.head_capacity,
            "leave it at 0: this budget gives every head of a layer the same count");
    return config;
  }
  check_unequal_heads(config);
  // What wraps round is refused by name later, as groups.
  if (config.head_capacity == 0) config.head_capacity = config.capacity * config.groups;
  return config;
}

/// Sizes whose product would wrap round, or that no machine holds, are refused here by name.
inline void check_memory(const PrunerConfig& config) {
  const std::size_t most = std::size_t{1} << 48;
  const std::size_t rows = most / config.layers / head_slots(config) / config.groups;
  require(config.draft_tokens <= rows, "draft_tokens", config.draft_tokens,
          "keep layers x capacity x groups x draft_tokens within 2^48");
  const DeferredConfig& deferred = config.deferred;
  if (deferred.queries == 0) return;
  const std::size_t queries = most / config.layers / deferred.queries;
  require(deferred.head_dimension <= most && deferred.heads <= queries / deferred.head_dimension,
          "deferred.heads", deferred.heads,
          "keep layers x queries x heads x head_dimension within 2^48");
}

inline void check_retention(const Retention& retention, const PrunerConfig& config) {
  require(retention.recent_ratio >= 0.0f && retention.recent_ratio < 1.0f, "recent_ratio",
          retention.recent_ratio, "choose a share from 0 to below 1");
  require(retention.recent_share >= 0.0f && retention.recent_share <= 1.0f, "recent_ratio",
          retention.recent_share, "choose a share from 0 to 1");
  const std::size_t kept = kept_at_bound(config.slack_ratio, config.capacity);
  require(retention.first_tokens < kept, "first_tokens", retention.first_tokens,
          "choose fewer than a round at the bound keeps");
}

/// Throws std::invalid_argument naming the first setting that cannot be.
inline void check(const PrunerConfig& config, const PolicySettings& policy) {
  require(config.layers >= 1, "layers", config.layers, "give the layers of the cache");
  require(config.layers < all_heads, "layers", config.layers, "choose fewer than 2^32 - 1");
  require(config.capacity >= 2, "capacity", config.capacity,
          "give the most tokens a layer may hold, at least 2");
  require(config.capacity < std::numeric_limits<Slot>::max(), "capacity", config.capacity,
          "choose fewer than 2^32 - 1 tokens");
  require(config.groups >= 1, "groups", config.groups, "choose 1, the KV heads or the query heads");
  require(config.groups <= (std::size_t{1} << 48) / config.layers / config.capacity, "groups",
          config.groups, "keep layers x capacity x groups within 2^48");
  require(
      head_slots(config) < std::numeric_limits<Slot>::max() &&
          config.groups <= (std::size_t{1} << 48) / config.layers / head_slots(config),
      "head_capacity", head_slots(config),
      "choose fewer than 2^32 - 1 tokens, and keep layers x groups x head_capacity within 2^48");
  require(config.slack_ratio >= 0.0f && config.slack_ratio < 1.0f, "slack_ratio",
          config.slack_ratio, "choose a share from 0 to below 1");
  require(config.max_lost_mass >= 0.0f && config.max_lost_mass <= 1.0f, "max_lost_mass",
          config.max_lost_mass, "choose a share from 0 to 1");
  require(config.draft_tokens < config.capacity, "draft_tokens", config.draft_tokens,
          "choose fewer than capacity");
  require(config.total_capacity == 0 || config.total_capacity >= 2 * config.layers,
          "total_capacity", config.total_capacity, "give each layer at least 2 tokens");
  require(config.max_move_bytes == 0 || config.scope != Scope::sequence, "max_move_bytes",
          config.max_move_bytes,
          "leave it at 0: with Scope::sequence all layers move in one round, or none does");
  check_deferred(config.deferred);
  check_memory(config);
  const std::size_t kv_heads = config.deferred.kv_heads;
  require(config.deferred.queries == 0 ||
              (config.deferred.heads % config.groups == 0 &&
               (kv_heads % config.groups == 0 || config.groups % kv_heads == 0)),
          "groups", config.groups,
          "choose a divisor of deferred.heads that divides deferred.kv_heads or is a multiple");
  check_retention(policy.retention, config);
}

}  // namespace detail
}  // namespace lethe
