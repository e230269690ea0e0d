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

namespace detail {

/// What a query's mass weighs: 1 / decay more with each query, so that no score need be decayed.
class GrowingWeight {
 public:
  explicit GrowingWeight(ScaledNumber decay)
      : decay_(decay),
        growth_(normalised(1.0 / std::ldexp(decay.mantissa, static_cast<int>(decay.exponent)), 0)),
        next_(growth_) {}

  /// The weight of a query of the step: 0 for the first one that is not committed yet.
  [[nodiscard]] ScaledNumber of(std::int64_t query) const {
    if (query == 0) return next_;
    if (query > 0) return product(newest_, power(growth_, static_cast<std::uint64_t>(query) + 1));
    return product(newest_, power(decay_, static_cast<std::uint64_t>(-query - 1)));
  }

  void advance(std::size_t queries) {
    newest_ = queries == 1 ? next_ : product(newest_, power(growth_, queries));
    next_ = product(newest_, growth_);
  }

  void reset() {
    newest_ = {};
    next_ = growth_;
  }

  /// Returns whether the saved weights are of the same decay.
  template <class Archive, class Self>
  [[nodiscard]] static bool archive(Archive& archive, Self& self) {
    const bool mantissa =
        archive_setting(archive, std::bit_cast<std::uint64_t>(self.decay_.mantissa));
    const bool exponent = archive_setting(archive, std::int64_t{self.decay_.exponent});
    archive(self.newest_.mantissa);
    archive(self.newest_.exponent);
    archive(self.next_.mantissa);
    archive(self.next_.exponent);
    return mantissa && exponent;
  }

  [[nodiscard]] bool valid() const { return in_range(newest_) && in_range(next_); }

 private:
  [[nodiscard]] static bool in_range(const ScaledNumber& number) {
    return number.mantissa >= 0.5 && number.mantissa < 1.0 && number.exponent >= 1 &&
           number.exponent <= std::int64_t{1} << 52;
  }

  ScaledNumber decay_;
  ScaledNumber growth_;
  // Weights of the newest committed query and of the next one.
  ScaledNumber newest_{};
  ScaledNumber next_;
};

/// A weight on the scale of a row, and what the row's scores are multiplied by before.
struct RowWeight {
  float weight = 0;
  /// 1: nothing to do.
  float factor = 1;
};

/// Below this a score no longer ranks; cut off here, not by the processor's own flush to zero.
inline constexpr float smallest_score = 0x1p-100f;

/// The weight for a row that is scaled by 2^-shift, or by more from now on: scores reach 2^60 times
/// a step's mass at most, so no sum of them overflows.
[[nodiscard]] inline RowWeight weight_of_row(ScaledNumber weight, std::int64_t& shift) {
  RowWeight row;
  weight.exponent -= shift;
  if (weight.exponent > 60) {
    shift += weight.exponent;
    row.factor =
        weight.exponent > 126 ? 0.0f : std::ldexp(1.0f, -static_cast<int>(weight.exponent));
    weight.exponent = 0;
  }
  if (weight.exponent < -120) return row;
  row.weight = static_cast<float>(std::ldexp(weight.mantissa, static_cast<int>(weight.exponent)));
  return row;
}

/// A score times a RowWeight's factor.
[[nodiscard]] LETHE_HOST_DEVICE LETHE_EXACT inline float rescaled(float score, float factor) {
  LETHE_EXACT_BODY
  const float value = score * factor;
  // Tested on its bits, so that a NaN is not lost under -ffast-math.
  return is_finite(value) && value < smallest_score ? 0.0f : value;
}

/// Settings' decay, checked.
[[nodiscard]] inline ScaledNumber checked_decay(float decay) {
  require(decay > 0.0f && decay <= 1.0f, "decay", decay,
          "choose a value above 0 and at most 1 (WindowMass with window 1 is the limit 0)");
  return normalised(static_cast<double>(decay), 0);
}

}  // namespace detail

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
        weight_(detail::checked_decay(config.decay)),
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
  void advance(std::size_t queries) { weight_.advance(queries); }

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
    weight_.reset();
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    const bool same = detail::GrowingWeight::archive(archive, self.weight_);
    if constexpr (!std::is_const_v<Self>) self.same_decay_ = same;
    archive(self.shift_);
    archive(self.scores_);
  }

  [[nodiscard]] bool valid() const {
    const bool small = std::all_of(shift_.begin(), shift_.end(), [](std::int64_t shift) {
      return shift >= 0 && shift < (std::int64_t{1} << 52);
    });
    return same_decay_ && small && weight_.valid();
  }

 private:
  [[nodiscard]] std::size_t offset(std::size_t layer, std::size_t group) const {
    return (layer * shape_.groups + group) * shape_.slots;
  }

  [[nodiscard]] std::span<float> row_of(std::size_t layer, std::size_t group) {
    return {scores_.data() + offset(layer, group), shape_.slots};
  }

  [[nodiscard]] float weight_of(std::size_t layer, std::int64_t query) {
    const detail::RowWeight row = detail::weight_of_row(weight_.of(query), shift_[layer]);
    if (row.factor != 1.0f) shrink(layer, row.factor);
    return row.weight;
  }

  void shrink(std::size_t layer, float factor) {
    const std::span<float> rows{scores_.data() + offset(layer, 0), shape_.groups * shape_.slots};
    for (float& score : rows) score = detail::rescaled(score, factor);
  }

  ScoreShape shape_;
  detail::GrowingWeight weight_;
  std::vector<std::int64_t> shift_;
  std::vector<float> scores_;
  bool same_decay_ = true;
};
static_assert(TokenScorer<Rasr>);

}  // namespace lethe
