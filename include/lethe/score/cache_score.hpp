/// Scores made at each round from the keys and values of the cache, without attention.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "lethe/cache_view.hpp"
#include "lethe/head_rows.hpp"
#include "lethe/position_order.hpp"
#include "lethe/score.hpp"
#include "lethe/score/adaptor.hpp"

namespace lethe {

/// A cache that has the keys, where a rule reads them.
template <class Cache, class Rule>
concept HasKeysFor = KeyReadableCache<Cache> || !Rule::reads_keys;

/// A cache that has the values, where a rule reads them.
template <class Cache, class Rule>
concept HasValuesFor = ValueReadableCache<Cache> || !Rule::reads_values;

/// A cache that has what a rule reads.
template <class Cache, class Rule>
concept RowReadableCache = HasKeysFor<Cache, Rule> && HasValuesFor<Cache, Rule>;

/// Settings of CacheScore.
template <class Rule>
struct CacheScoreConfig {
  typename Rule::Config rule{};
  /// How the cache's rows lie; must be given.
  HeadShape heads{};

  bool operator==(const CacheScoreConfig&) const = default;
};

/// What a rule makes of each KV head's rows, and perhaps of the queries so far (QueryRowRule),
/// summed over the heads of the group: with one group all heads count together; with a group for
/// each KV head, each by itself. The cache is read anew at every round. A token that has an
/// infinite or NaN channel scores NaN. Memory: 4 bytes a slot, layer and group, and one head's
/// rows.
template <class Rule>
requires RowRule<Rule> || QueryRowRule<Rule>
class CacheScore : public detail::QueryReading<Rule> {
 public:
  using Config = CacheScoreConfig<Rule>;
  static constexpr bool reads_mass = false;
  static constexpr bool reads_cache = true;
  static constexpr std::string_view name = Rule::name;

  /// Throws std::invalid_argument when heads.kv_heads or heads.key_dimension is 0, or groups is
  /// neither 1 nor heads.kv_heads; a rule may refuse its own settings.
  CacheScore(const Config& config, const ScoreShape& shape)
      : shape_(shape),
        heads_(checked(config, shape).heads),
        rule_(make_rule(config.rule, heads_, shape)),
        keys_(Rule::reads_keys ? shape.slots * heads_.key_dimension : 0, 0.0f),
        values_(Rule::reads_values ? shape.slots * heads_.value_channels() : 0, 0.0f),
        order_(shape.slots, 0),
        positions_(shape.slots, 0),
        head_scores_(shape.slots, 0.0f),
        scores_(shape.layers * shape.groups * shape.slots, 0.0f) {}

  void record(std::size_t, std::size_t, std::int64_t, std::size_t, std::span<const float>) {}
  void advance(std::size_t) {}

  /// Shows the rule a query.
  void record_query(std::size_t layer, Position position,
                    std::span<const float> query) requires QueryRowRule<Rule> {
    rule_.record_query(layer, position, query);
  }

  [[nodiscard]] QueryShape query_shape() const requires QueryRowRule<Rule> {
    return rule_.query_shape();
  }

  /// Scores every token anew. Reads each head by one call where positions ascend with slots, else
  /// by one for each run of slots that do. O(heads x n x channels).
  template <RowReadableCache<Rule> Cache>
  void read(const Cache& cache, std::size_t layer, std::size_t group,
            std::span<const Position> positions) {
    if (positions.empty()) return;
    const std::span<const Slot> order = order_by_position(positions, order_);
    for (std::size_t i = 0; i < order.size(); ++i) positions_[i] = positions[order[i]];
    const std::span<float> row = row_of(layer, group).first(order.size());
    std::fill(row.begin(), row.end(), 0.0f);
    for_each_head(group, [&](std::size_t head) {
      const HeadRows rows = fetch(cache, layer, head, order);
      const std::span<float> own = std::span(head_scores_).first(order.size());
      rule_.score(rows, own);
      detail::spoil(rows.keys, own);
      detail::spoil(rows.values, own);
      add_in_slots(row, own, order);
    });
  }

  /// The scores of the last read. O(1).
  [[nodiscard]] std::span<const float> score(std::size_t layer, std::size_t group,
                                             std::span<const Position> positions,
                                             std::span<float>) const {
    return {scores_.data() + offset(layer, group), positions.size()};
  }

  void keep(const EvictionPlan& plan, std::size_t group) {
    keep_row(row_of(plan.layer, group), plan);
    if constexpr (GrowthRule<Rule>) {
      for_each_head(group, [&](std::size_t head) { rule_.settle(plan.layer, head); });
    }
  }

  /// Rounds that found one of the group's heads to need more tokens; the most of them.
  [[nodiscard]] std::size_t growth(std::size_t layer,
                                   std::size_t group) const requires GrowthRule<Rule> {
    std::size_t most = 0;
    for_each_head(group,
                  [&](std::size_t head) { most = std::max(most, rule_.growth(layer, head)); });
    return most;
  }

  void forget(std::size_t layer, std::size_t group, Slot slot) {
    row_of(layer, group)[slot] = 0.0f;
  }

  void reset() {
    std::fill(scores_.begin(), scores_.end(), 0.0f);
    if constexpr (QueryRowRule<Rule>) rule_.reset();
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    archive(self.scores_);
    if constexpr (QueryRowRule<Rule>) Rule::archive(archive, self.rule_);
  }

  [[nodiscard]] bool valid() const {
    if constexpr (QueryRowRule<Rule>) return rule_.valid();
    return true;
  }

 private:
  [[nodiscard]] static Rule make_rule(const typename Rule::Config& config, const HeadShape& heads,
                                      const ScoreShape& shape) {
    if constexpr (QueryRowRule<Rule>) {
      return Rule(config, heads, shape);
    } else {
      return Rule(config, heads, shape.slots);
    }
  }

  [[nodiscard]] static const Config& checked(const Config& config, const ScoreShape& shape) {
    detail::require(config.heads.kv_heads >= 1, "heads.kv_heads", config.heads.kv_heads,
                    "give the KV heads of the cache");
    detail::require(config.heads.key_dimension >= 1, "heads.key_dimension",
                    config.heads.key_dimension, "give the channels of a key");
    detail::require(shape.groups == 1 || shape.groups == config.heads.kv_heads, "groups",
                    shape.groups, "choose 1 or heads.kv_heads");
    return config;
  }

  /// The KV heads of a group.
  template <class Visit>
  void for_each_head(std::size_t group, Visit&& visit) const {
    const std::size_t each = heads_.kv_heads / shape_.groups;
    for (std::size_t head = group * each; head < (group + 1) * each; ++head) visit(head);
  }

  [[nodiscard]] std::size_t offset(std::size_t layer, std::size_t group) const {
    return (layer * shape_.groups + group) * shape_.slots;
  }

  [[nodiscard]] std::span<float> row_of(std::size_t layer, std::size_t group) {
    return {scores_.data() + offset(layer, group), shape_.slots};
  }

  template <class Cache>
  [[nodiscard]] HeadRows fetch(const Cache& cache, std::size_t layer, std::size_t head,
                               std::span<const Slot> order) {
    HeadRows rows{.layer = layer,
                  .head = head,
                  .positions = std::span<const Position>(positions_).first(order.size())};
    if constexpr (Rule::reads_keys) {
      const auto read = [&](Slot first, std::span<float> out) {
        cache.read_keys(layer, head, first, out);
      };
      rows.keys = in_order(order, keys_, heads_.key_dimension, read);
    }
    if constexpr (Rule::reads_values) {
      const auto read = [&](Slot first, std::span<float> out) {
        cache.read_values(layer, head, first, out);
      };
      rows.values = in_order(order, values_, heads_.value_channels(), read);
    }
    return rows;
  }

  /// Rows in the order of position, read by runs of consecutive slots.
  template <class Read>
  [[nodiscard]] static TokenRows in_order(std::span<const Slot> order, std::span<float> space,
                                          std::size_t channels, Read&& read_rows) {
    std::size_t end = 0;
    for (std::size_t begin = 0; begin < order.size(); begin = end) {
      end = begin + 1;
      while (end < order.size() && order[end] == order[end - 1] + 1) ++end;
      read_rows(order[begin], space.subspan(begin * channels, (end - begin) * channels));
    }
    return {.data = space.first(order.size() * channels), .channels = channels};
  }

  LETHE_EXACT static void add_in_slots(std::span<float> row, std::span<const float> scores,
                                       std::span<const Slot> order) {
    LETHE_EXACT_BODY
    for (std::size_t i = 0; i < order.size(); ++i) row[order[i]] = row[order[i]] + scores[i];
  }

  ScoreShape shape_;
  HeadShape heads_;
  Rule rule_;
  // One head in the order of position.
  std::vector<float> keys_;
  std::vector<float> values_;
  std::vector<Slot> order_;
  std::vector<Position> positions_;
  std::vector<float> head_scores_;
  std::vector<float> scores_;
};

}  // namespace lethe
