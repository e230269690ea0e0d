/// The attention that tokens would get of the mean of the last few queries or of that of many,
/// whichever is more. GrowPage.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "lethe/head_rows.hpp"
#include "lethe/query_statistics.hpp"

namespace lethe {

/// Settings of TwoPaceMass.
struct TwoPaceMassConfig {
  /// Must be given.
  QueryHeads queries{};
  /// What is left of a query's weight in each mean after one more; the published 0.9 and 0.999.
  float short_decay = 0.9f;
  float long_decay = 0.999f;
  /// Share of a mean query's attention that must be covered; the published 99%.
  float coverage = 0.99f;
  /// Positions to come over which the mean queries' rotation is averaged. None is published; 1, the
  /// next alone, is what the next query meets.
  std::size_t horizon = 1;

  bool operator==(const TwoPaceMassConfig&) const = default;
};

/// For each of two means of the queries, rotation undone, one that fades fast and one that fades
/// slowly: its attention to the head's tokens under the rotation of the next positions, mean over
/// the KV head's query heads. A token scores the larger of both (GrowPage, arXiv 2609.03494). A
/// head has come to need more when the short mean's attention takes more tokens to cover than the
/// long one's. Memory: twice QueryStatistics'. O(query heads x n x channels + n log n).
class TwoPaceMass : public QueryRule {
 public:
  using Config = TwoPaceMassConfig;
  static constexpr std::string_view name = "two-pace mass";
  static constexpr bool reads_keys = true;
  static constexpr bool reads_values = false;

  /// Throws std::invalid_argument as QueryRule does, or unless 0 < short_decay <= long_decay <= 1
  /// and 0 < coverage < 1, or when horizon is 0.
  TwoPaceMass(const Config& config, const HeadShape& heads, const ScoreShape& shape)
      : QueryRule(config.queries, heads, shape.layers,
                  {.decay = static_cast<double>(checked(config).long_decay)}),
        recent_(config.queries, heads.key_dimension, shape.layers,
                {.decay = static_cast<double>(config.short_decay)}),
        scale_(detail::logit_scale(config.queries, heads)),
        coverage_(static_cast<double>(config.coverage)),
        kv_heads_(heads.kv_heads),
        rotation_(config.queries.frequencies, config.queries.pairs,
                  detail::next_offsets(config.horizon)),
        mean_(heads.key_dimension, 0.0f),
        logits_(shape.slots, 0.0),
        weights_(shape.slots, 0.0f),
        attention_(shape.slots, 0.0f),
        keys_(shape.slots, 0),
        wants_(shape.layers * heads.kv_heads, 0),
        growth_(wants_.size(), 0) {}

  void record_query(std::size_t layer, Position position, std::span<const float> query) {
    QueryRule::record_query(layer, position, query);
    recent_.record(layer, position, query);
  }

  void score(const HeadRows& rows, std::span<float> out) {
    rotation_.set_newest(rows.positions.back());
    const std::span<float> attention = std::span(attention_).first(rows.size());
    attend(recent_, rows, out);
    attend(statistics_, rows, attention);
    const std::size_t covering_short = tokens_to_cover(out);
    const std::size_t covering_long = tokens_to_cover(attention);
    wants_[index_of(rows.layer, rows.head)] = covering_short > covering_long ? 1 : 0;
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = std::max(out[i], attention[i]);
  }

  /// A round went by the last scores of the head.
  void settle(std::size_t layer, std::size_t head) {
    const std::size_t index = index_of(layer, head);
    growth_[index] = std::min(growth_[index] + wants_[index], most_growth);
    wants_[index] = 0;
  }

  /// Rounds that found the head to need more.
  [[nodiscard]] std::size_t growth(std::size_t layer, std::size_t head) const {
    return growth_[index_of(layer, head)];
  }

  void reset() {
    QueryRule::reset();
    recent_.reset();
    std::fill(wants_.begin(), wants_.end(), std::uint64_t{0});
    std::fill(growth_.begin(), growth_.end(), std::uint64_t{0});
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    QueryRule::archive(archive, self);
    QueryStatistics::archive(archive, self.recent_);
    archive(self.growth_);
  }

  [[nodiscard]] bool valid() const {
    return QueryRule::valid() && recent_.valid() &&
           std::all_of(growth_.begin(), growth_.end(),
                       [](std::uint64_t growth) { return growth <= most_growth; });
  }

 private:
  static constexpr std::uint64_t most_growth = 0xFFFFFFFFu;
  static constexpr std::uint32_t zero_key = ordered_key(0.0f);

  [[nodiscard]] static const Config& checked(const Config& config) {
    detail::require(config.long_decay > 0.0f && config.long_decay <= 1.0f, "long_decay",
                    config.long_decay, "choose a number above 0 and at most 1");
    detail::require(config.short_decay > 0.0f && config.short_decay <= config.long_decay,
                    "short_decay", config.short_decay,
                    "choose a number above 0 and at most long_decay");
    detail::require(config.coverage > 0.0f && config.coverage < 1.0f, "coverage", config.coverage,
                    "choose a share above 0 and below 1");
    return config;
  }

  [[nodiscard]] std::size_t index_of(std::size_t layer, std::size_t head) const {
    return layer * kv_heads_ + head;
  }

  /// The attention that the mean queries of a KV head pay, mean over them.
  LETHE_EXACT void attend(const QueryStatistics& queries, const HeadRows& rows,
                          std::span<float> out) {
    LETHE_EXACT_BODY
    std::fill(out.begin(), out.end(), 0.0f);
    for (std::size_t h = 0; h < heads_each(); ++h) {
      queries.mean(rows.layer, rows.head * heads_each() + h, mean_);
      rotation_.turn(mean_);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        logits_[i] = detail::dot(mean_, rows.keys[i]) * scale_;
      }
      detail::add_softmax(std::span(logits_).first(rows.size()), weights_, heads_each(), out);
    }
  }

  /// The fewest tokens whose attention makes up the coverage.
  [[nodiscard]] LETHE_EXACT std::size_t tokens_to_cover(std::span<const float> attention) {
    LETHE_EXACT_BODY
    // Sorted by keys, among which a NaN has a place too.
    const std::span<std::uint32_t> keys = std::span(keys_).first(attention.size());
    double total = 0;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      keys[i] = ordered_key(attention[i]);
      total = total + static_cast<double>(attention[i]);
    }
    std::sort(keys.rbegin(), keys.rend());
    const double wanted = LETHE_PRODUCT(coverage_, total);
    double covered = 0;
    std::size_t count = 0;
    while (count < keys.size() && covered < wanted) {
      covered = covered + static_cast<double>(detail::bit_cast<float>(keys[count++] - zero_key));
    }
    return count;
  }

  /// Of queries that fade fast; QueryRule's fade slowly.
  QueryStatistics recent_;
  double scale_;
  double coverage_;
  std::size_t kv_heads_;
  MeanRotation rotation_;
  // One query head's mean, its logits and their exponentials; one KV head's attention, sorted.
  std::vector<float> mean_;
  std::vector<double> logits_;
  std::vector<float> weights_;
  std::vector<float> attention_;
  std::vector<std::uint32_t> keys_;
  /// Of each (layer, head): whether its last scores found it to need more, and how many rounds did.
  std::vector<std::uint64_t> wants_;
  std::vector<std::uint64_t> growth_;
};
static_assert(GrowthRule<TwoPaceMass>);

}  // namespace lethe
