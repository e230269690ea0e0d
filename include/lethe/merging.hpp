/// Values of tokens that go, merged into tokens that stay: between a plan and the packing of its
/// rows, whatever policy made the plan.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/cache_view.hpp"
#include "lethe/head_rows.hpp"
#include "lethe/numeric.hpp"
#include "lethe/plan.hpp"
#include "lethe/unit_keys.hpp"

namespace lethe {

namespace detail {

/// Calls visit(slot, next) for every slot that the plan drops: kept[next] is the first to stay
/// behind it, if any.
template <class Visit>
void for_each_victim(const EvictionPlan& plan, Visit&& visit) {
  std::size_t next = 0;
  for (std::size_t slot = 0; slot < plan.tokens; ++slot) {
    if (next < plan.kept.size() && plan.kept[next] == slot) {
      ++next;
    } else {
      visit(slot, next);
    }
  }
}

/// What survivors of one head are to be given: a weighted sum of values each, and its weight.
class MergedValues {
 public:
  MergedValues(std::size_t channels, std::size_t slots)
      : channels_(channels), sums_(slots * channels, 0.0f), weights_(slots, 0.0f) {}

  void clear(std::size_t survivors) {
    std::fill_n(sums_.begin(), survivors * channels_, 0.0f);
    std::fill_n(weights_.begin(), survivors, 0.0f);
  }
  void add(std::size_t survivor, std::span<const float> value, float weight) {
    add_scaled(sums_.data() + survivor * channels_, value.data(), channels_, weight);
    weights_[survivor] += weight;
  }
  [[nodiscard]] float weight(std::size_t survivor) const { return weights_[survivor]; }

  /// value = (own value + sum) / divisor.
  LETHE_EXACT void give(std::size_t survivor, float own, float divisor,
                        std::span<float> value) const {
    LETHE_EXACT_BODY
    const float* const sum = sums_.data() + survivor * channels_;
    for (std::size_t c = 0; c < value.size(); ++c) {
      value[c] = (LETHE_PRODUCT(own, value[c]) + sum[c]) / divisor;
    }
  }

 private:
  std::size_t channels_;
  std::vector<float> sums_;
  std::vector<float> weights_;
};

/// The heads that a plan is for.
struct PlannedHeads {
  std::size_t first = 0;
  std::size_t last = 0;
};

[[nodiscard]] inline PlannedHeads planned_heads(const EvictionPlan& plan, std::size_t heads) {
  if (plan.head == all_heads) return {.first = 0, .last = heads};
  return {.first = plan.head, .last = std::size_t{plan.head} + 1};
}

}  // namespace detail

/// Whether a token's value is merged by chance.
enum class MergeDraw : std::uint8_t {
  /// Wholly, with the probability p, as published; the draw is seeded.
  sampled,
  /// Always, p times.
  expected,
};

/// Settings of MassMerge.
struct MassMergeConfig {
  /// m: tokens that share the value of one that goes; the authors' code has 32.
  std::size_t neighbours = 32;
  MergeDraw draw = MergeDraw::sampled;
  std::uint64_t seed = 1;

  bool operator==(const MassMergeConfig&) const = default;
};

/// CaM (ICML 2024, proceedings.mlr.press/v235/zhang24n.html): the value of a token that goes is
/// shared equally by the m survivors behind it, with the probability of its mass over the mean of
/// theirs, at most 1: v_k += M v / m, M ~ Bernoulli(p). Where fewer than m follow, they share it;
/// where none does, it is lost. One draw for all heads of a plan, since it has one row of mass.
class MassMerge {
 public:
  /// slots: the most tokens of a layer. Throws std::invalid_argument without heads, channels or
  /// neighbours.
  MassMerge(const HeadShape& shape, const MassMergeConfig& config, std::size_t slots)
      : heads_(shape.kv_heads),
        config_(checked(shape, config)),
        value_(shape.value_channels(), 0.0f),
        shares_(slots, 0.0f),
        merged_(shape.value_channels(), slots) {}

  /// To be called before the rows of the plan are packed. mass: cumulative, one entry for each of
  /// the plan's tokens; plan.positions must be set. Nothing is allocated.
  /// O(heads x (dropped x m + tokens) x channels).
  template <ValueWritableCache Cache>
  void merge(Cache& cache, const EvictionPlan& plan, std::span<const float> mass) {
    LETHE_ASSERT(mass.size() >= plan.tokens && plan.positions.size() >= plan.tokens);
    detail::for_each_victim(plan, [&](std::size_t slot, std::size_t next) {
      shares_[slot] = share_of(plan, mass, slot, next);
    });
    const detail::PlannedHeads heads = detail::planned_heads(plan, heads_);
    for (std::size_t head = heads.first; head < heads.last; ++head) merge_head(cache, plan, head);
  }

 private:
  [[nodiscard]] static const MassMergeConfig& checked(const HeadShape& shape,
                                                      const MassMergeConfig& config) {
    detail::require(shape.kv_heads >= 1, "kv_heads", shape.kv_heads,
                    "give the KV heads of the cache");
    detail::require(shape.value_channels() >= 1, "value_dimension", shape.value_channels(),
                    "give the channels of a value");
    detail::require(config.neighbours >= 1, "neighbours", config.neighbours, "choose 1 or more");
    return config;
  }

  [[nodiscard]] std::size_t followers(const EvictionPlan& plan, std::size_t next) const {
    return std::min(config_.neighbours, plan.kept.size() - next);
  }

  /// What of its value each follower of a token gets.
  [[nodiscard]] LETHE_EXACT float share_of(const EvictionPlan& plan, std::span<const float> mass,
                                           std::size_t slot, std::size_t next) const {
    LETHE_EXACT_BODY
    const std::size_t count = followers(plan, next);
    double theirs = 0;
    for (std::size_t i = 0; i < count; ++i) {
      theirs = theirs + static_cast<double>(mass[plan.kept[next + i]]);
    }
    const double own = LETHE_PRODUCT(static_cast<double>(mass[slot]), static_cast<double>(count));
    if (!(own > 0)) return 0.0f;
    const double ratio = own < theirs ? own / theirs : 1.0;
    const double merged = config_.draw == MergeDraw::expected ? ratio : drawn(plan, slot, ratio);
    return static_cast<float>(merged / static_cast<double>(count));
  }

  [[nodiscard]] double drawn(const EvictionPlan& plan, std::size_t slot, double ratio) const {
    const std::uint64_t token = std::uint64_t{plan.layer} << 32 | plan.positions[slot];
    const std::uint64_t word = detail::mix(config_.seed ^ detail::mix(token));
    return static_cast<double>(word >> 11) * 0x1p-53 < ratio ? 1.0 : 0.0;
  }

  template <class Cache>
  void merge_head(Cache& cache, const EvictionPlan& plan, std::size_t head) {
    merged_.clear(plan.kept.size());
    detail::for_each_victim(plan, [&](std::size_t slot, std::size_t next) {
      if (shares_[slot] == 0.0f) return;
      cache.read_values(plan.layer, head, slot, std::span<float>(value_));
      const std::size_t count = followers(plan, next);
      for (std::size_t i = 0; i < count; ++i) merged_.add(next + i, value_, shares_[slot]);
    });
    for (std::size_t i = 0; i < plan.kept.size(); ++i) {
      if (merged_.weight(i) == 0.0f) continue;
      cache.read_values(plan.layer, head, plan.kept[i], std::span<float>(value_));
      merged_.give(i, 1.0f, 1.0f, value_);
      cache.write_values(plan.layer, head, plan.kept[i], std::span<const float>(value_));
    }
  }

  std::size_t heads_;
  MassMergeConfig config_;
  std::vector<float> value_;
  std::vector<float> shares_;
  detail::MergedValues merged_;
};

/// Settings of KeyMerge.
struct KeyMergeConfig {
  /// Without frequencies keys are compared as they stand in attention, as published.
  KeyShape keys{};
  /// Channels of a value; 0: as many as of a key.
  std::size_t value_dimension = 0;
  /// Cosine below which a value is dropped with its token. D2O moves this with the mean of what it
  /// has seen; here it is fixed, and not tuned.
  float threshold = 0.7f;

  bool operator==(const KeyMergeConfig&) const = default;
};

/// A token that goes leaves its value to the survivor whose key is nearest, in each KV head:
/// v = (e v + sum of e^u_i v_i) / (e + sum of e^u_i), u_i the cosines of those it inherits from
/// (D2O's weights, arXiv 2406.13035, of values alone).
class KeyMerge {
 public:
  /// slots: the most tokens of a layer. Throws std::invalid_argument where UnitKeys does, and
  /// unless -1 <= threshold <= 1.
  KeyMerge(const KeyMergeConfig& config, std::size_t slots)
      : heads_(config.keys.kv_heads),
        threshold_(config.threshold),
        keys_(config.keys, 1, slots),
        value_(channels_of(config), 0.0f),
        merged_(channels_of(config), slots) {
    detail::require(threshold_ >= -1.0f && threshold_ <= 1.0f, "threshold", threshold_,
                    "choose a cosine");
  }

  /// To be called before the rows of the plan are packed; plan.positions must be set. Nothing is
  /// allocated. O(heads x dropped x kept x channels).
  template <class Cache>
  requires KeyReadableCache<Cache> && ValueWritableCache<Cache>
  void merge(Cache& cache, const EvictionPlan& plan) {
    LETHE_ASSERT(plan.positions.size() >= plan.tokens);
    const detail::PlannedHeads heads = detail::planned_heads(plan, heads_);
    for (std::size_t head = heads.first; head < heads.last; ++head) merge_head(cache, plan, head);
  }

 private:
  struct Nearest {
    std::size_t survivor = 0;
    float cosine = -2.0f;
  };

  [[nodiscard]] static std::size_t channels_of(const KeyMergeConfig& config) {
    return config.value_dimension != 0 ? config.value_dimension : config.keys.head_dimension;
  }

  /// The oldest of the survivors whose keys are nearest.
  [[nodiscard]] LETHE_EXACT Nearest nearest_to(std::span<const float> rows,
                                               const EvictionPlan& plan, std::size_t slot) const {
    LETHE_EXACT_BODY
    const std::size_t width = keys_.width(1);
    Nearest nearest;
    for (std::size_t i = 0; i < plan.kept.size(); ++i) {
      const auto cosine = static_cast<float>(detail::dot(
          rows.subspan(slot * width, width), rows.subspan(plan.kept[i] * width, width)));
      if (nearest.cosine < cosine) nearest = {.survivor = i, .cosine = cosine};
    }
    return nearest;
  }

  template <class Cache>
  void merge_head(Cache& cache, const EvictionPlan& plan, std::size_t head) {
    const std::span<const float> rows =
        keys_.read(cache, plan.layer, head, 1, plan.positions.first(plan.tokens));
    merged_.clear(plan.kept.size());
    detail::for_each_victim(plan, [&](std::size_t slot, std::size_t) {
      const Nearest nearest = nearest_to(rows, plan, slot);
      if (!(nearest.cosine >= threshold_)) return;
      cache.read_values(plan.layer, head, slot, std::span<float>(value_));
      merged_.add(nearest.survivor, value_, exact_exp(nearest.cosine));
    });
    const float own = exact_exp(1.0f);
    for (std::size_t i = 0; i < plan.kept.size(); ++i) {
      if (merged_.weight(i) == 0.0f) continue;
      cache.read_values(plan.layer, head, plan.kept[i], std::span<float>(value_));
      merged_.give(i, own, own + merged_.weight(i), value_);
      cache.write_values(plan.layer, head, plan.kept[i], std::span<const float>(value_));
    }
  }

  std::size_t heads_;
  float threshold_;
  UnitKeys keys_;
  std::vector<float> value_;
  detail::MergedValues merged_;
};

}  // namespace lethe
