/// Another scorer's scores, each times what a rule makes of the token's key and value.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "lethe/score.hpp"
#include "lethe/score/adaptor.hpp"
#include "lethe/score/cache_score.hpp"

namespace lethe {

/// Settings of Weighted.
template <class Scorer, class Rule>
struct WeightedConfig {
  /// What the weights multiply.
  typename Scorer::Config score{};
  typename Rule::Config weight{};
  /// How the cache's rows lie; must be given.
  HeadShape heads{};

  bool operator==(const WeightedConfig&) const = default;
};

/// Score times weight, group by group: with WindowMass over 1 query and ValueNorm LongFlow's
/// A |v|_1 (arXiv 2603.11504); over 32 queries and with LargestValueNorm LAVa's (arXiv 2509.09754).
/// With one group both factors are sums over all heads before they are multiplied; choose a group
/// for each KV head to have the product of each. Memory: CacheScore's beside the inner scorer's.
template <TokenScorer Scorer, RowRule Rule>
class Weighted : public ScorerAdaptor<Scorer> {
 public:
  using Config = WeightedConfig<Scorer, Rule>;
  static constexpr bool reads_cache = true;
  static constexpr std::string_view name = "weighted";

  /// Throws std::invalid_argument as the scorer and CacheScore do.
  Weighted(const Config& config, const ScoreShape& shape)
      : Adaptor(config.score, shape),
        weights_({.rule = config.weight, .heads = config.heads}, shape) {}

  /// The weights anew, and what the inner scorer reads. O(heads x n x channels).
  template <RowReadableCache<Rule> Cache>
  requires detail::SuitsScorer<Cache, Scorer>
  void read(const Cache& cache, std::size_t layer, std::size_t group,
            std::span<const Position> positions) {
    detail::show_cache(this->scorer_, cache, layer, group, positions);
    weights_.read(cache, layer, group, positions);
  }

  /// O(n) beside the inner scorer's.
  [[nodiscard]] LETHE_EXACT std::span<const float> score(std::size_t layer, std::size_t group,
                                                         std::span<const Position> positions,
                                                         std::span<float> scratch) {
    LETHE_EXACT_BODY
    const std::span<const float> scores = this->scorer_.score(layer, group, positions, scratch);
    const std::span<const float> weights = weights_.score(layer, group, positions, {});
    for (std::size_t i = 0; i < positions.size(); ++i) scratch[i] = scores[i] * weights[i];
    return scratch.first(positions.size());
  }

  void keep(const EvictionPlan& plan, std::size_t group) {
    Adaptor::keep(plan, group);
    weights_.keep(plan, group);
  }

  void forget(std::size_t layer, std::size_t group, Slot slot) {
    Adaptor::forget(layer, group, slot);
    weights_.forget(layer, group, slot);
  }

  void reset() {
    Adaptor::reset();
    weights_.reset();
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    Adaptor::archive(archive, self);
    CacheScore<Rule>::archive(archive, self.weights_);
  }

 private:
  using Adaptor = ScorerAdaptor<Scorer>;

  CacheScore<Rule> weights_;
};

}  // namespace lethe
