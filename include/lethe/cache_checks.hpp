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

/// What the settings ask of a cache must be among its members.
template <class Cache>
void check_scope(const PrunerConfig& config) {
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
    if (config.capacity_bytes + config.total_bytes + config.max_move_bytes != 0) {
      refuse("capacity_bytes, total_bytes or max_move_bytes", "set",
             "limits in bytes need a cache with token_bytes(layer)");
    }
  }
}

/// A layer's bound in tokens, capacity_bytes counted in.
template <class Cache>
[[nodiscard]] std::size_t bound_in(const Cache& cache, std::size_t layer,
                                   const PrunerConfig& config) {
  if (config.capacity_bytes == 0) return config.capacity;
  const std::size_t tokens = config.capacity_bytes / token_bytes_of(cache, layer);
  require(tokens >= 2, "capacity_bytes", config.capacity_bytes,
          "give each layer at least 2 tokens");
  return std::min(config.capacity, tokens);
}

}  // namespace lethe::detail
