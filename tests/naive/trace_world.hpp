/// What happens in a trace: a cache, its pruner and the model's tokens, led through random steps.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "lethe/lethe.hpp"
#include "naive/pruner.hpp"
#include "naive/random.hpp"
#include "naive/token_cache.hpp"
#include "naive/trace_setup.hpp"

namespace naive {

template <class Pruner, unsigned Features>
class TraceWorld {
 public:
  using Cache = TokenCache<Features>;
  static constexpr bool sized = (Features & with_bytes) != 0;

  TraceWorld(const TraceSetup& setup, Pruner pruner)
      : setup_(setup),
        pruner_(pruner),
        fresh_(std::move(pruner)),
        cache_(setup.config.layers, cache_heads(setup.config)),
        sets_(setup.config.layers, std::vector<KeptSet>(kept_sets())),
        since_(setup.config.layers, 0),
        random_(setup.seed * 31 + 7) {
    cache_.states = setup.states;
    if (!setup.bytes.empty()) cache_.bytes = setup.bytes;
    cache_.block = setup.block;
    cache_.classes = setup.classes;
  }

 protected:
  [[nodiscard]] static std::size_t cache_heads(const lethe::PrunerConfig& config) {
    return config.scope == lethe::Scope::head ? config.groups : 2;
  }
  [[nodiscard]] std::size_t kept_sets() const {
    return setup_.config.scope == lethe::Scope::head ? setup_.config.groups : 1;
  }
  [[nodiscard]] std::size_t layers() const { return setup_.config.layers; }
  [[nodiscard]] bool sequence() const { return setup_.config.scope == lethe::Scope::sequence; }

  [[nodiscard]] std::size_t draw_tokens() {
    std::size_t most = setup_.chunk;
    for (std::size_t l = 0; l < layers(); ++l) most = std::min(most, setup_.bound(l, sized) / 2);
    return random_.between(1, std::max<std::size_t>(1, most));
  }

  /// Saves and restores, pins a prompt, makes layers busy that need not move now.
  void disturb(std::size_t tokens) {
    if (random_.chance(5)) continue_elsewhere();
    if (setup_.pins && random_.chance(4)) {
      pinned_ = random_.below(setup_.config.capacity / 4);
      pruner_.pin(pinned_);
    }
    if ((Features & with_shared_prefix) != 0 && seen_ < 8 && random_.chance(10)) {
      std::fill(cache_.shared.begin(), cache_.shared.end(), seen_);
    }
    for (std::size_t l = 0; l < layers(); ++l) {
      if (!setup_.tracked(l) || (Features & with_state) == 0) continue;
      const bool may = pruner_.size(l) + tokens <= pruner_.bound(l);
      cache_.states[l] =
          may && random_.chance(10) ? lethe::LayerState::busy : lethe::LayerState::prunable;
    }
  }

  /// Another pruner takes over from saved bytes.
  void continue_elsewhere() {
    Pruner other = fresh_;
    other.restore(pruner_.save());
    pruner_ = std::move(other);
  }

  /// All layers can move, and nothing is pinned.
  void calm() {
    pinned_ = 0;
    pruner_.pin(0);
    cache_.states = setup_.states;
  }

  /// The indices of a step's tokens that stand: all, or some of a draft.
  [[nodiscard]] std::vector<std::uint32_t> draw_accepted(std::size_t tokens) {
    const bool draft = tokens <= setup_.config.draft_tokens && random_.chance(50);
    std::vector<std::uint32_t> accepted;
    for (std::uint32_t i = 0; i < tokens; ++i) {
      if (!draft || random_.chance(60)) accepted.push_back(i);
    }
    return accepted;
  }

  /// The step's queries are seen, its accepted tokens appended; then only their queries count.
  void take_step(std::size_t tokens, const std::vector<std::uint32_t>& accepted) {
    std::vector<std::vector<float>> rows(layers());
    for (std::size_t l = 0; l < layers(); ++l) {
      if (setup_.tracked(l) || random_.chance(50)) rows[l] = observe(l, tokens);
    }
    std::vector<std::uint32_t> ids(accepted.size());
    std::iota(ids.begin(), ids.end(), static_cast<std::uint32_t>(seen_));
    for (std::size_t l = 0; l < layers(); ++l) {
      if (!setup_.tracked(l)) continue;
      const std::vector<std::uint32_t> columns = columns_of(l, accepted);
      append(l, ids);
      for (const std::uint32_t query : accepted) pay(l, rows[l], columns, query, tokens);
    }
    seen_ += ids.size();
    pruner_.commit(accepted);
  }

  [[nodiscard]] std::size_t held(std::size_t layer) const {
    return cache_.size(layer) - (cache_.vacant(layer) != Cache::none ? 1u : 0u);
  }

 private:
  /// Rows [group][query][column] of mass; beyond the causal limit nothing may be read.
  std::vector<float> observe(std::size_t layer, std::size_t tokens) {
    const std::size_t groups = setup_.config.groups;
    const std::size_t columns = tokens + (setup_.tracked(layer) ? held(layer) : 0);
    std::vector<float> rows(groups * tokens * columns);
    for (float& value : rows) value = draw_mass(random_);
    for (std::size_t row = 0; row < groups * tokens; ++row) {
      float* const first = rows.data() + row * columns;
      std::fill(first + columns - tokens + row % tokens + 1, first + columns,
                std::numeric_limits<float>::quiet_NaN());
    }
    pruner_.observe(
        layer, lethe::Mass<float>{
                   .data = rows.data(), .groups = groups, .queries = tokens, .columns = columns});
    return rows;
  }

  /// The column of each slot, once the accepted tokens are there.
  [[nodiscard]] std::vector<std::uint32_t> columns_of(
      std::size_t layer, const std::vector<std::uint32_t>& accepted) const {
    std::vector<std::uint32_t> columns(cache_.size(layer));
    std::iota(columns.begin(), columns.end(), 0u);
    if (cache_.vacant(layer) != Cache::none) return columns;
    for (const std::uint32_t index : accepted) {
      columns.push_back(static_cast<std::uint32_t>(cache_.size(layer)) + index);
    }
    return columns;
  }

  void append(std::size_t layer, const std::vector<std::uint32_t>& ids) {
    const std::size_t vacant = cache_.vacant(layer);
    for (KeptSet& set : sets_[layer]) {
      std::size_t next = 0;
      if (vacant != Cache::none) set.tokens[vacant] = {ids[next++], {}, {}};
      for (; next < ids.size(); ++next) set.tokens.push_back({ids[next], {}, {}});
    }
    cache_.append(layer, ids);
    since_[layer] += ids.size();
  }

  void pay(std::size_t layer, const std::vector<float>& rows,
           const std::vector<std::uint32_t>& columns, std::uint32_t query, std::size_t tokens) {
    const std::size_t groups = setup_.config.groups;
    const std::size_t width = rows.size() / groups / tokens;
    std::vector<std::vector<double>> paid(groups);
    for (std::size_t g = 0; g < groups; ++g) {
      for (const std::uint32_t column : columns) {
        if (column <= width - tokens + query) {
          paid[g].push_back(double(rows[(g * tokens + query) * width + column]));
        }
      }
    }
    for (std::size_t set = 0; set < kept_sets(); ++set) {
      sets_[layer][set].pay(setup_.score, kept_sets() == 1 ? paid : decltype(paid){paid[set]});
    }
  }

 protected:
  TraceSetup setup_;
  Pruner pruner_;
  Pruner fresh_;
  Cache cache_;
  std::vector<std::vector<KeptSet>> sets_;
  std::vector<std::size_t> since_;
  Random random_;
  std::size_t seen_ = 0;
  std::size_t pinned_ = 0;
};

}  // namespace naive
