/// Refuses a cache that cannot do what the settings ask for.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>

#include "lethe/cache_view.hpp"
#include "lethe/pruner_config.hpp"

namespace lethe::detail {

/// With Scope::head there is a group for each head.
template <class Cache>
void check_heads(const Cache& cache, std::size_t layer, const PrunerConfig& config) {
  if constexpr (PerHeadCache<Cache>) {
    if (config.scope == Scope::head && cache.heads(layer) != config.groups) {
      refuse("groups", std::to_string(config.groups),
             "Scope::head needs one group for each of the cache's " +
                 std::to_string(cache.heads(layer)) + " heads");
    }
  }
}

/// Counts of heads that differ are the budget's to the last token, so none can be rounded.
template <class Cache>
void check_unequal(const PrunerConfig& config) {
  if constexpr (CountClassCache<Cache>) {
    if (config.head_capacity != 0) {
      refuse("scope", "head",
             "a cache with count_classes cannot hold heads of unequal counts: leave it out, or "
             "choose another budget");
    }
  }
}

/// Deferred queries are scored against the keys of as many heads as the settings say.
template <class Cache>
void check_key_heads(const Cache& cache, std::size_t layer, const PrunerConfig& config) {
  if constexpr (PerHeadCache<Cache>) {
    if (cache.heads(layer) != config.deferred.kv_heads) {
      refuse("deferred.kv_heads", std::to_string(config.deferred.kv_heads),
             "the cache's layer has " + std::to_string(cache.heads(layer)) + " heads");
    }
  }
}

/// Deferred queries need keys to be scored against.
template <class Cache>
void check_keys(bool deferred) {
  if constexpr (!KeyReadableCache<Cache>) {
    if (deferred) {
      refuse("deferred.queries", "set", "give the cache read_keys(layer, head, slot, out)");
    }
  }
}

/// What the settings ask of a cache must be among its members.
template <class Cache>
void check_scope(const PrunerConfig& config) {
  check_refinements<Cache>();
  check_unequal<Cache>(config);
  if constexpr (!PerHeadCache<Cache>) {
    if (config.scope == Scope::head) {
      refuse("scope", "head", "the cache takes no plan for a head: give it heads(layer)");
    }
  }
  if constexpr (SameSetCache<Cache>) {
    if (Cache::same_set && config.scope != Scope::sequence) {
      refuse("scope", config.scope == Scope::head ? "head" : "layer",
             "the cache keeps the same slots in every layer: choose Scope::sequence");
    }
  }
  if constexpr (!ByteSizedCache<Cache>) {
    if (config.capacity_bytes != 0 || config.total_bytes != 0 || config.max_move_bytes != 0) {
      refuse("capacity_bytes, total_bytes or max_move_bytes", "set",
             "limits in bytes need a cache with token_bytes(layer)");
    }
  }
}

/// A layer's bound in tokens, capacity_bytes counted in. prefix: first and pinned tokens, which a
/// round must be able to keep.
template <class Cache>
[[nodiscard]] std::size_t bound_in(const Cache& cache, std::size_t layer,
                                   const PrunerConfig& config, std::size_t prefix) {
  if (config.capacity_bytes == 0) return config.capacity;
  const std::size_t tokens = config.capacity_bytes / token_bytes_of(cache, layer);
  require(tokens >= 2 && kept_at_bound(config.slack_ratio, tokens) > prefix, "capacity_bytes",
          config.capacity_bytes,
          "give each layer at least 2 tokens, and more than the first and pinned ones");
  return std::min(config.capacity, tokens);
}

}  // namespace lethe::detail
