/// Recency-aware scores: s <- decay x s + mass, once a query. Lethe's RASR; H2O with decay 1.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "lethe/score.hpp"

namespace lethe {

/// Settings of Rasr.
struct RasrConfig {
  /// Share of a score that is left after one more query, in (0, 1]; 1 never forgets (H2O).
  float decay = 0.98f;

  bool operator==(const RasrConfig&) const = default;
};

/// Decayed cumulative mass (Lethe, section on RASR). One float a token, one multiply-add a token
/// and step: instead of decaying every score, each new query weighs 1 / decay more than the last,
/// and a layer's scores are divided by a power of two before that weight grows too large.
class Rasr {
 public:
  using Config = RasrConfig;
  static constexpr bool reads_mass = true;
  static constexpr std::string_view name = "rasr";

  /// Throws std::invalid_argument unless 0 < decay <= 1. Allocates layers x groups x slots floats.
  Rasr(const Config& config, const ScoreShape& shape)
      : shape_(shape),
        decay_(checked(config.decay)),
        growth_(detail::normalised(1.0 / static_cast<double>(config.decay), 0)),
        newest_(detail::ScaledNumber{}),
        next_(growth_),
        shift_(shape.layers, 0),
        scores_(shape.layers * shape.groups * shape.slots, 0.0f) {}

  /// O(mass.size()).
  void record(std::size_t layer, std::size_t group, std::int64_t query, std::size_t first_slot,
              std::span<const float> mass) {
    const float weight = weight_of(layer, query);
    float* row = row_of(layer, group).data() + first_slot;
    detail::add_scaled(row, mass.data(), mass.size(), weight);
  }

  /// O(1) for all layers together.
  void advance(std::size_t queries) {
    newest_ = queries == 1 ? next_ : detail::product(newest_, detail::power(growth_, queries));
    next_ = detail::product(newest_, growth_);
  }

  /// The layer's own row: scores on a scale of its own, the same for all groups. O(1).
  [[nodiscard]] std::span<const float> score(std::size_t layer, std::size_t group,
                                             std::span<const Position> positions,
                                             std::span<float>) const {
    return {scores_.data() + offset(layer, group), positions.size()};
  }

  void keep(const EvictionPlan& plan, std::size_t group) {
    keep_row(row_of(plan.layer, group), plan);
  }

  void forget(std::size_t layer, std::size_t group, Slot slot) { row_of(layer, group)[slot] = 0; }

  void reset() {
    std::fill(scores_.begin(), scores_.end(), 0.0f);
    std::fill(shift_.begin(), shift_.end(), 0);
    newest_ = {};
    next_ = growth_;
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    const bool mantissa =
        detail::archive_setting(archive, std::bit_cast<std::uint64_t>(self.decay_.mantissa));
    const bool exponent = detail::archive_setting(archive, std::int64_t{self.decay_.exponent});
    if constexpr (!std::is_const_v<Self>) self.same_decay_ = mantissa && exponent;
    archive(self.newest_.mantissa);
    archive(self.newest_.exponent);
    archive(self.next_.mantissa);
    archive(self.next_.exponent);
    archive(self.shift_);
    archive(self.scores_);
  }

  [[nodiscard]] bool valid() const {
    const bool small = std::all_of(shift_.begin(), shift_.end(), [](std::int64_t shift) {
      return shift >= 0 && shift < (std::int64_t{1} << 52);
    });
    const std::int64_t most = std::int64_t{1} << 52;
    return same_decay_ && small && in_range(newest_, 1, most) && in_range(next_, 1, most);
  }

 private:
  // Scores reach 2^60 times a step's mass at most, so no sum of them overflows.
  static constexpr std::int64_t largest_exponent = 60;
  // Below this a score no longer ranks; cut off here, not by the processor's own flush to zero.
  static constexpr float smallest_score = 0x1p-100f;

  [[nodiscard]] static detail::ScaledNumber checked(float decay) {
    detail::require(
        decay > 0.0f && decay <= 1.0f, "decay", decay,
        "choose a value above 0 and at most 1 (WindowMass with window 1 is the limit 0)");
    return detail::normalised(static_cast<double>(decay), 0);
  }

  [[nodiscard]] static bool in_range(const detail::ScaledNumber& number, std::int64_t lowest,
                                     std::int64_t highest) {
    return number.mantissa >= 0.5 && number.mantissa < 1.0 && number.exponent >= lowest &&
           number.exponent <= highest;
  }

  [[nodiscard]] std::size_t offset(std::size_t layer, std::size_t group) const {
    return (layer * shape_.groups + group) * shape_.slots;
  }

  [[nodiscard]] std::span<float> row_of(std::size_t layer, std::size_t group) {
    return {scores_.data() + offset(layer, group), shape_.slots};
  }

  [[nodiscard]] detail::ScaledNumber scaled_weight(std::int64_t query) const {
    if (query == 0) return next_;
    if (query > 0) {
      return detail::product(newest_,
                             detail::power(growth_, static_cast<std::uint64_t>(query) + 1));
    }
    return detail::product(newest_, detail::power(decay_, static_cast<std::uint64_t>(-query - 1)));
  }

  [[nodiscard]] float weight_of(std::size_t layer, std::int64_t query) {
    detail::ScaledNumber weight = scaled_weight(query);
    weight.exponent -= shift_[layer];
    if (weight.exponent > largest_exponent) {
      shrink(layer, weight.exponent);
      weight.exponent = 0;
    }
    if (weight.exponent < -120) return 0.0f;
    return static_cast<float>(std::ldexp(weight.mantissa, static_cast<int>(weight.exponent)));
  }

  void shrink(std::size_t layer, std::int64_t exponent) {
    shift_[layer] += exponent;
    const std::span<float> rows{scores_.data() + offset(layer, 0), shape_.groups * shape_.slots};
    const float factor = exponent > 126 ? 0.0f : std::ldexp(1.0f, -static_cast<int>(exponent));
    detail::scale(rows, factor);
    // Tested on its bits, so that a NaN is not lost under -ffast-math.
    for (float& score : rows) {
      if (is_finite(score) && score < smallest_score) score = 0.0f;
    }
  }

  ScoreShape shape_;
  detail::ScaledNumber decay_;
  detail::ScaledNumber growth_;
  // Weights of the newest committed query and of the next one.
  detail::ScaledNumber newest_;
  detail::ScaledNumber next_;
  std::vector<std::int64_t> shift_;
  std::vector<float> scores_;
  bool same_decay_ = true;
};
static_assert(TokenScorer<Rasr>);

}  // namespace lethe
