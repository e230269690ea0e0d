/// Tokens that attention comes back to, after gaps as long as they have had before. LazyEviction.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "lethe/compact.hpp"
#include "lethe/score.hpp"
#include "lethe/score/step_rows.hpp"

namespace lethe {

/// Settings of Recurrence.
struct RecurrenceConfig {
  /// A query that pays a token more than this looks at it; the published 1e-4 is of one head's
  /// attention. It is compared with the mass of a group as given, the sum over the group's heads:
  /// for 1e-4 of their mean give 1e-4 x heads.
  float threshold = 1e-4f;
  /// Queries whose mass may come in pieces at a time: 1 where each query's heads come together;
  /// else those of a step, or deferred.queries (StepRows).
  std::size_t open_queries = 1;

  bool operator==(const RecurrenceConfig&) const = default;
};

/// LazyEviction (arXiv 2506.15969). With TS the last query that looked at a token, MRI the longest
/// gap between two that did, and t the newest query: 2 sigmoid(-(t - TS) / MRI) + 2 sigmoid(-1 /
/// MRI). Every query is a step, also those of a prompt. A token looked at only once has MRI = 0 and
/// the formula's limit, 1 while TS = t and then 0; one never looked at scores 0. Mass that is not
/// finite makes the token's score NaN. Memory: 8 + 4 x open_queries bytes a slot and group.
class Recurrence {
 public:
  using Config = RecurrenceConfig;
  static constexpr bool reads_mass = true;
  static constexpr std::string_view name = "recurrence";

  /// Throws std::invalid_argument when threshold is negative or not finite, or open_queries is 0.
  Recurrence(const Config& config, const ScoreShape& shape)
      : threshold_(checked(config.threshold)),
        shape_(shape),
        rows_(config.open_queries, shape),
        looks_(shape.layers * shape.groups * shape.slots) {}

  /// O(mass.size()), and O(slots) at a query's first row.
  void record(std::size_t layer, std::size_t group, std::int64_t query, std::size_t first_slot,
              std::span<const float> mass) {
    rows_.record(layer, group, queries_ + query + 1, first_slot, mass, fold_into(layer, group));
  }

  void advance(std::size_t queries) { queries_ += static_cast<std::int64_t>(queries); }

  /// Scores in [0, 2), of the queries committed. O(n), and O(n) for each open query.
  [[nodiscard]] std::span<const float> score(std::size_t layer, std::size_t group,
                                             std::span<const Position> positions,
                                             std::span<float> scratch) {
    rows_.finish(layer, group, queries_, fold_into(layer, group));
    const std::span<const Looks> looks = looks_of(layer, group);
    const auto now = static_cast<std::uint32_t>(queries_);
    for (std::size_t i = 0; i < positions.size(); ++i) {
      const std::uint32_t nan = looks[i].longest == spoilt ? 0x7FC00000u : 0u;
      scratch[i] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(value(looks[i], now)) | nan);
    }
    return scratch.first(positions.size());
  }

  void keep(const EvictionPlan& plan, std::size_t group) {
    rows_.keep(plan, group);
    const std::span<Looks> looks = looks_of(plan.layer, group);
    compact(looks, plan);
    const std::span<Looks> gone = looks.subspan(plan.kept.size(), plan.tokens - plan.kept.size());
    std::fill(gone.begin(), gone.end(), Looks{});
  }

  void forget(std::size_t layer, std::size_t group, Slot slot) {
    rows_.forget(layer, group, slot);
    looks_of(layer, group)[slot] = {};
  }

  void reset() {
    rows_.reset();
    std::fill(looks_.begin(), looks_.end(), Looks{});
    queries_ = 0;
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    archive(self.queries_);
    StepRows::archive(archive, self.rows_);
    archive(self.looks_);
  }

  [[nodiscard]] bool valid() const {
    const bool countable = queries_ >= 0 && queries_ < std::int64_t{spoilt};
    return countable && rows_.valid(queries_) &&
           std::all_of(looks_.begin(), looks_.end(), [this](const Looks& looks) {
             return looks.last <= queries_ &&
                    (looks.longest <= looks.last || looks.longest == spoilt);
           });
  }

 private:
  /// Numbers of queries, counted from 1; 0: none.
  struct Looks {
    std::uint32_t last = 0;
    std::uint32_t longest = 0;
  };

  /// What a whole query's mass changes.
  struct Fold {
    std::span<Looks> looks;
    float threshold;

    void operator()(std::int64_t number, std::span<const float> mass) const {
      const auto query = static_cast<std::uint32_t>(number);
      for (std::size_t i = 0; i < mass.size(); ++i) {
        if (!is_finite(mass[i])) looks[i].longest = spoilt;
        if (!(mass[i] > threshold)) continue;
        const std::uint32_t gap = looks[i].last != 0 ? query - looks[i].last : 0;
        looks[i].longest = std::max(looks[i].longest, gap);
        looks[i].last = query;
      }
    }
  };

  /// A longest gap that stands for mass that was not finite.
  static constexpr std::uint32_t spoilt = 0xFFFFFFFFu;

  [[nodiscard]] static float checked(float threshold) {
    detail::require(is_finite(threshold) && threshold >= 0.0f, "threshold", threshold,
                    "choose a share of attention, 0 or above");
    return threshold;
  }

  [[nodiscard]] std::span<Looks> looks_of(std::size_t layer, std::size_t group) {
    return std::span(looks_).subspan((layer * shape_.groups + group) * shape_.slots, shape_.slots);
  }

  [[nodiscard]] Fold fold_into(std::size_t layer, std::size_t group) {
    return {looks_of(layer, group), threshold_};
  }

  [[nodiscard]] LETHE_EXACT static float value(const Looks& looks, std::uint32_t now) {
    LETHE_EXACT_BODY
    if (looks.longest == 0) return looks.last != 0 && looks.last == now ? 1.0f : 0.0f;
    // Taken here, for -ffast-math would take it or not as it pleases.
    const double share = 1.0 / static_cast<double>(looks.longest);
    const double since = static_cast<double>(now - looks.last);
    return twice_sigmoid(since * share) + twice_sigmoid(share);
  }

  /// 2 sigmoid(-x).
  [[nodiscard]] LETHE_EXACT static float twice_sigmoid(double x) {
    LETHE_EXACT_BODY
    const double power = static_cast<double>(exact_exp(-static_cast<float>(x)));
    return static_cast<float>(2.0 * power / (1.0 + power));
  }

  float threshold_;
  ScoreShape shape_;
  std::int64_t queries_ = 0;
  StepRows rows_;
  std::vector<Looks> looks_;
};
static_assert(TokenScorer<Recurrence>);

}  // namespace lethe
