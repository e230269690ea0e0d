/// Importance less redundancy: a token that many keys are close to may go. R-KV.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "lethe/position_order.hpp"
#include "lethe/score.hpp"
#include "lethe/score/adaptor.hpp"
#include "lethe/unit_keys.hpp"

namespace lethe {

/// How importance and redundancy are brought to one scale.
enum class RedundancyScale : std::uint8_t {
  /// Importance is a share of its sum, redundancy one of a softmax (R-KV).
  sum,
  /// Both are shares of the largest (G-KV).
  maximum,
};

/// Settings of Redundant.
template <class Scorer>
struct RedundantConfig {
  /// What importance is measured by, not pooled yet; R-KV's is WindowMass with window 8 and pool 1.
  typename Scorer::Config score{};
  /// Without frequencies keys are compared as they stand in attention, as published.
  KeyShape keys{};
  /// lambda: what importance weighs, 1 - lambda being redundancy's; the published 0.1.
  float importance_weight = 0.1f;
  /// Cosine of two keys above which they say the same; the published 0.5.
  float threshold = 0.5f;
  /// The newest tokens, which retention keeps: importance is a share of what the others hold; the
  /// published 8.
  std::size_t recent_tokens = 8;
  /// Neighbours whose best importance counts, an odd number; 1: none; the published 7.
  std::size_t pool = 7;
  RedundancyScale scale = RedundancyScale::sum;

  bool operator==(const RedundantConfig&) const = default;
};

namespace detail {

/// How redundant the tokens of one head are, found in tiles: no matrix of tokens x tokens is held.
class KeyRedundancy {
 public:
  KeyRedundancy(std::size_t channels, std::size_t slots, float threshold)
      : channels_(channels),
        threshold_(threshold),
        columns_(channels * key_tile, 0.0f),
        sums_(slots + key_tile, 0.0),
        newest_(slots + key_tile, 0) {}

  /// Adds each token's redundancy to `out`: the softmax over the tokens of the mean cosine of all
  /// others to it, where each token's cosine to the newest one close to it counts as 0.
  /// rows: keys of length 1, `stride` floats apart; order: slots from the oldest token to the
  /// newest; out: in that order. O(n^2 x channels / 2).
  void add(const float* rows, std::size_t stride, std::span<const Slot> order,
           std::span<float> out) {
    std::fill(sums_.begin(), sums_.end(), 0.0);
    std::fill(newest_.begin(), newest_.end(), 0u);
    for (std::size_t begin = 0; begin < order.size(); begin += key_tile) {
      const std::size_t end = std::min(begin + key_tile, order.size());
      load_tile(rows, stride, order.subspan(begin, end - begin));
      for (std::size_t first = 0; first < end; first += strip) {
        compare(rows, stride, order.subspan(first, std::min(strip, end - first)), first, begin);
      }
    }
    spare_newest(rows, stride, order);
    add_softmax(out);
  }

 private:
  static constexpr std::size_t key_tile = tile_keys;
  static constexpr std::size_t strip = strip_keys;
  using Cosines = TileSums;

  /// A tile that is not full ends in keys of zeros, which are close to nothing.
  void load_tile(const float* rows, std::size_t stride, std::span<const Slot> slots) {
    std::fill(columns_.begin(), columns_.end(), 0.0f);
    for (std::size_t k = 0; k < slots.size(); ++k) {
      transpose<key_tile>(rows + slots[k] * stride, 1, channels_, columns_.data() + k);
    }
  }

  /// The tokens `first` and on against the tile's, each pair from its older token.
  void compare(const float* rows, std::size_t stride, std::span<const Slot> slots,
               std::size_t first, std::size_t begin) {
    std::array<const float*, strip> keys;
    for (std::size_t i = 0; i < strip; ++i) {
      keys[i] = rows + slots[std::min(i, slots.size() - 1)] * stride;
    }
    std::array<Cosines, strip> cosines;
    dot_tile(keys.data(), columns_.data(), channels_, cosines);
    for (std::size_t i = 0; i < slots.size(); ++i) {
      for (std::size_t k = 0; begin + k <= first + i; ++k) cosines[i][k] = 0.0f;
      add_pairs(cosines[i], first + i, begin);
      find_newest(cosines[i], first + i, begin);
    }
  }

  /// A cosine counts for both tokens of its pair.
  LETHE_EXACT void add_pairs(const Cosines& cosines, std::size_t token, std::size_t begin) {
    LETHE_EXACT_BODY
    std::array<double, key_tile> wide;
    double* sums = sums_.data() + begin;
    for (std::size_t k = 0; k < key_tile; ++k) wide[k] = static_cast<double>(cosines[k]);
    for (std::size_t k = 0; k < key_tile; ++k) sums[k] = sums[k] + wide[k];
    for (std::size_t half = key_tile / 2; half != 0; half /= 2) {
      for (std::size_t k = 0; k < half; ++k) wide[k] = wide[k] + wide[k + half];
    }
    sums_[token] = sums_[token] + wide[0];
  }

  /// Tokens come from the oldest to the newest, so that the last one found close stands.
  LETHE_EXACT void find_newest(const Cosines& cosines, std::size_t token, std::size_t begin) {
    const auto number = static_cast<std::uint32_t>(token + 1);
    const auto first = static_cast<std::uint32_t>(begin + 1);
    std::uint32_t* newest = newest_.data() + begin;
    std::uint32_t last = 0;
    for (std::uint32_t k = 0; k < key_tile; ++k) {
      const bool close = cosines[k] > threshold_;
      newest[k] = close ? number : newest[k];
      last = close ? first + k : last;
    }
    if (last != 0) newest_[token] = last;
  }

  /// Takes each token's cosine to the newest one close to it out of that one's sum.
  LETHE_EXACT void spare_newest(const float* rows, std::size_t stride,
                                std::span<const Slot> order) {
    LETHE_EXACT_BODY
    for (std::size_t token = 0; token < order.size(); ++token) {
      if (newest_[token] == 0) continue;
      const std::size_t newest = newest_[token] - 1;
      const float* key = rows + order[token] * stride;
      const float* other = rows + order[newest] * stride;
      float cosine = 0;
      for (std::size_t c = 0; c < channels_; ++c) {
        cosine = cosine + LETHE_PRODUCT(key[c], other[c]);
      }
      sums_[newest] = sums_[newest] - static_cast<double>(cosine);
    }
  }

  LETHE_EXACT void add_softmax(std::span<float> out) {
    LETHE_EXACT_BODY
    const double share = 1.0 / static_cast<double>(out.size());
    double total = 0;
    for (std::size_t i = 0; i < out.size(); ++i) {
      sums_[i] = static_cast<double>(exact_exp(static_cast<float>(sums_[i] * share)));
      total = total + sums_[i];
    }
    const double factor = 1.0 / total;
    // A float of its own, so that no compiler fuses the product with the addition.
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = out[i] + static_cast<float>(sums_[i] * factor);
    }
  }

  std::size_t channels_;
  float threshold_;
  std::vector<float> columns_;
  /// Sum of the cosines of all other tokens to a token, the oldest token's first.
  std::vector<double> sums_;
  /// The newest token close to a token, counted from 1; 0: none.
  std::vector<std::uint32_t> newest_;
};

}  // namespace detail

/// Z = lambda I - (1 - lambda) R, raised so that it is not negative (R-KV, arXiv 2505.24133).
/// I: another scorer's score over its sum over all tokens but the recent ones, pooled over
/// neighbours in position. R: the redundancy of the token's key, the mean over the KV heads of a
/// group. With one group all heads count together; with a group for each KV head, each by itself.
/// Redundant<DecayedMaximum<WindowMass>> scaled by the maximum is G-KV with its redundancy term
/// (arXiv 2512.00504). Memory: 4 bytes a slot and group beside the inner scorer's, and one group's
/// keys. A round compares all keys of a layer: O(n^2 x channels), which is what the method costs.
template <TokenScorer Scorer>
class Redundant : public RowAdaptor<Scorer> {
 public:
  using Config = RedundantConfig<Scorer>;
  static constexpr bool reads_cache = true;
  static constexpr std::string_view name = "redundant";

  /// Throws std::invalid_argument unless groups is 1 or keys.kv_heads, importance_weight is a share
  /// from 0 to 1, threshold one from 0 to below 1, and pool odd.
  Redundant(const Config& config, const ScoreShape& shape)
      : Adaptor(config.score, shape),
        heads_(checked(config, shape).keys.kv_heads / shape.groups),
        importance_weight_(config.importance_weight),
        recent_tokens_(config.recent_tokens),
        pool_(config.pool),
        scale_(config.scale),
        keys_(config.keys, heads_, shape.slots),
        key_redundancy_(config.keys.head_dimension, shape.slots, config.threshold),
        order_(shape.slots, 0),
        ranked_(shape.slots, 0.0f) {}

  /// Compares every key with every other. O(n^2 x channels) and what the inner scorer reads.
  template <KeyReadableCache Cache>
  requires detail::SuitsScorer<Cache, Scorer>
  void read(const Cache& cache, std::size_t layer, std::size_t group,
            std::span<const Position> positions) {
    detail::show_cache(this->scorer_, cache, layer, group, positions);
    const std::span<const Slot> order = order_by_position(positions, order_);
    const std::span<const float> rows = keys_.read(cache, layer, group * heads_, heads_, positions);
    const std::span<float> redundancy = std::span(ranked_).first(order.size());
    std::fill(redundancy.begin(), redundancy.end(), 0.0f);
    for (std::size_t head = 0; head < heads_; ++head) {
      key_redundancy_.add(rows.data() + keys_.width(head), keys_.width(heads_), order, redundancy);
    }
    set_novelty(order, redundancy, this->row_of(layer, group));
  }

  /// O(n x pool) beside the inner scorer's.
  [[nodiscard]] LETHE_EXACT std::span<const float> score(std::size_t layer, std::size_t group,
                                                         std::span<const Position> positions,
                                                         std::span<float> scratch) {
    LETHE_EXACT_BODY
    const std::span<const float> scores = this->scorer_.score(layer, group, positions, scratch);
    const std::span<const float> novelty = this->row_of(layer, group);
    const std::span<const Slot> order = order_by_position(positions, order_);
    for (std::size_t i = 0; i < order.size(); ++i) ranked_[i] = scores[order[i]];
    const std::size_t others = order.size() - std::min(order.size(), recent_tokens_);
    const double most = static_cast<double>(importance_weight_);
    const double factor = importance_factor(others);
    for (std::size_t i = 0; i < order.size(); ++i) {
      const float best = i < others ? pooled(i, others) : ranked_[i];
      // Recents are no part of the sum, and may hold any number of times what the others do.
      const double share = std::min(static_cast<double>(best) * factor, most);
      scratch[order[i]] =
          is_finite(ranked_[i]) ? static_cast<float>(share) + novelty[order[i]] : ranked_[i];
    }
    return scratch.first(order.size());
  }

  [[nodiscard]] bool valid() const {
    // A softmax of cosines spans a factor of e^2 at most.
    const bool small = std::all_of(this->rows_.begin(), this->rows_.end(), [](float value) {
      return !is_finite(value) || (value >= 0.0f && value <= 7.4f);
    });
    return small && Adaptor::valid();
  }

 private:
  using Adaptor = RowAdaptor<Scorer>;

  [[nodiscard]] static const Config& checked(const Config& config, const ScoreShape& shape) {
    detail::require(shape.groups == 1 || shape.groups == config.keys.kv_heads, "groups",
                    shape.groups, "choose 1 or keys.kv_heads");
    detail::require(config.importance_weight >= 0.0f && config.importance_weight <= 1.0f,
                    "importance_weight", config.importance_weight, "choose a share from 0 to 1");
    detail::require(config.threshold >= 0.0f && config.threshold < 1.0f, "threshold",
                    config.threshold, "choose a cosine from 0 to below 1");
    detail::require(config.pool % 2 == 1, "pool", config.pool, "choose an odd number of tokens");
    return config;
  }

  /// (1 - lambda) times how much less redundant a token is than the most redundant one.
  LETHE_EXACT void set_novelty(std::span<const Slot> order, std::span<const float> redundancy,
                               std::span<float> novelty) const {
    LETHE_EXACT_BODY
    const std::size_t others = order.size() - std::min(order.size(), recent_tokens_);
    float most = 0;
    float most_of_others = 0;
    for (std::size_t i = 0; i < order.size(); ++i) {
      most = most < redundancy[i] ? redundancy[i] : most;
      if (i < others) most_of_others = most;
    }
    const double unit = scale_ == RedundancyScale::sum ? static_cast<double>(heads_)
                                                       : static_cast<double>(most_of_others);
    const double weight = 1.0 - static_cast<double>(importance_weight_);
    const double factor = unit > 0 ? weight / unit : 0.0;
    for (std::size_t i = 0; i < order.size(); ++i) {
      novelty[order[i]] = static_cast<float>(static_cast<double>(most - redundancy[i]) * factor);
    }
  }

  /// What the inner scores of the `others` oldest tokens are multiplied by.
  [[nodiscard]] LETHE_EXACT double importance_factor(std::size_t others) const {
    LETHE_EXACT_BODY
    double sum = 0;
    double most = 0;
    for (std::size_t i = 0; i < others; ++i) {
      const double score = static_cast<double>(ranked_[i]);
      sum = sum + score;
      most = most < score ? score : most;
    }
    const double unit = scale_ == RedundancyScale::sum ? sum : most;
    return unit > 0 ? static_cast<double>(importance_weight_) / unit : 0.0;
  }

  [[nodiscard]] float pooled(std::size_t centre, std::size_t count) const {
    const std::size_t reach = pool_ / 2;
    const std::size_t begin = centre - std::min(centre, reach);
    const std::size_t end = count - centre > reach ? centre + reach + 1 : count;
    float best = ranked_[begin];
    for (std::size_t i = begin + 1; i < end; ++i) best = best < ranked_[i] ? ranked_[i] : best;
    return best;
  }

  /// KV heads of a group.
  std::size_t heads_;
  float importance_weight_;
  std::size_t recent_tokens_;
  std::size_t pool_;
  RedundancyScale scale_;
  UnitKeys keys_;
  detail::KeyRedundancy key_redundancy_;
  // Work space, from the oldest token to the newest.
  std::vector<Slot> order_;
  std::vector<float> ranked_;
};
static_assert(TokenScorer<Redundant<NoScore>>);

}  // namespace lethe
