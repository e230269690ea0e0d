/// When a token was last among those that a query looked at most. RaaS.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "lethe/compact.hpp"
#include "lethe/score.hpp"
#include "lethe/score/step_rows.hpp"
#include "lethe/selection.hpp"

namespace lethe {

/// Settings of TimeStamp.
struct TimeStampConfig {
  /// Share of the tokens that each query stamps, rounded up; the published half.
  float share = 0.5f;
  /// As Recurrence's.
  std::size_t open_queries = 1;

  bool operator==(const TimeStampConfig&) const = default;
};

/// RaaS (arXiv 2502.11147): each query stamps the tokens that got most of its mass; the score is
/// the newest stamp, queries counted from 1. Tokens as good as the last one stamped are stamped
/// too, those without mass never; a new token bears the stamp of its own query. Every query is a
/// step, also those of a prompt. Mass that is not finite makes the token's score NaN. Memory: 4 + 4
/// x open_queries bytes a slot and group.
class TimeStamp {
 public:
  using Config = TimeStampConfig;
  static constexpr bool reads_mass = true;
  static constexpr std::string_view name = "time stamp";

  /// Throws std::invalid_argument unless 0 < share <= 1 and open_queries is at least 1.
  TimeStamp(const Config& config, const ScoreShape& shape)
      : share_(checked(config.share)),
        shape_(shape),
        rows_(config.open_queries, shape),
        stamps_(shape.layers * shape.groups * shape.slots, 0),
        keys_(shape.slots, 0),
        scratch_(shape.slots + 1, 0) {}

  /// O(mass.size()), and O(slots) at a query's first row.
  void record(std::size_t layer, std::size_t group, std::int64_t query, std::size_t first_slot,
              std::span<const float> mass) {
    rows_.record(layer, group, queries_ + query + 1, first_slot, mass, stamp_into(layer, group));
  }

  void advance(std::size_t queries) { queries_ += static_cast<std::int64_t>(queries); }

  /// Stamps of the queries committed; beyond 2^24 they are rounded. O(n), and O(n) for each open
  /// query.
  [[nodiscard]] std::span<const float> score(std::size_t layer, std::size_t group,
                                             std::span<const Position> positions,
                                             std::span<float> scratch) {
    rows_.finish(layer, group, queries_, stamp_into(layer, group));
    const std::span<const std::uint32_t> stamps = stamps_of(layer, group);
    for (std::size_t i = 0; i < positions.size(); ++i) {
      const float stamp = static_cast<float>(std::max(stamps[i], positions[i] + 1));
      const std::uint32_t nan = stamps[i] == spoilt ? 0x7FC00000u : 0u;
      scratch[i] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(stamp) | nan);
    }
    return scratch.first(positions.size());
  }

  void keep(const EvictionPlan& plan, std::size_t group) {
    rows_.keep(plan, group);
    const std::span<std::uint32_t> stamps = stamps_of(plan.layer, group);
    compact(stamps, plan);
    const auto gone = stamps.subspan(plan.kept.size(), plan.tokens - plan.kept.size());
    std::fill(gone.begin(), gone.end(), 0u);
  }

  void forget(std::size_t layer, std::size_t group, Slot slot) {
    rows_.forget(layer, group, slot);
    stamps_of(layer, group)[slot] = 0;
  }

  void reset() {
    rows_.reset();
    std::fill(stamps_.begin(), stamps_.end(), 0u);
    queries_ = 0;
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    archive(self.queries_);
    StepRows::archive(archive, self.rows_);
    archive(self.stamps_);
  }

  [[nodiscard]] bool valid() const {
    const bool countable = queries_ >= 0 && queries_ < std::int64_t{spoilt};
    return countable && rows_.valid(queries_) &&
           std::all_of(stamps_.begin(), stamps_.end(), [this](std::uint32_t stamp) {
             return stamp <= queries_ || stamp == spoilt;
           });
  }

 private:
  struct Stamping {
    TimeStamp& owner;
    std::span<std::uint32_t> stamps;

    void operator()(std::int64_t number, std::span<const float> mass) const {
      owner.stamp(stamps, static_cast<std::uint32_t>(number), mass);
    }
  };

  /// A stamp that stands for mass that was not finite.
  static constexpr std::uint32_t spoilt = 0xFFFFFFFFu;

  [[nodiscard]] static double checked(float share) {
    detail::require(share > 0.0f && share <= 1.0f, "share", share,
                    "choose a share above 0 and at most 1");
    return static_cast<double>(share);
  }

  [[nodiscard]] std::span<std::uint32_t> stamps_of(std::size_t layer, std::size_t group) {
    return std::span(stamps_).subspan((layer * shape_.groups + group) * shape_.slots, shape_.slots);
  }

  [[nodiscard]] Stamping stamp_into(std::size_t layer, std::size_t group) {
    return {*this, stamps_of(layer, group)};
  }

  /// Positions are not known here, so equal tokens are treated alike.
  void stamp(std::span<std::uint32_t> stamps, std::uint32_t query, std::span<const float> mass) {
    if (mass.empty()) return;
    const std::span<std::uint32_t> keys = std::span(keys_).first(mass.size());
    make_keys(mass, keys);
    const Cut cut = find_cut(keys, stamped_of(mass.size()), scratch_);
    const std::uint32_t least = std::max(cut.key, ordered_key(0.0f) + 1);
    for (std::size_t i = 0; i < mass.size(); ++i) {
      if (!is_finite(mass[i])) stamps[i] = spoilt;
      if (keys[i] >= least) stamps[i] = std::max(stamps[i], query);
    }
  }

  [[nodiscard]] LETHE_EXACT std::size_t stamped_of(std::size_t tokens) const {
    LETHE_EXACT_BODY
    // A float holds 0.1 as a little more: a tenth of 1,000 must be 100, not 101.
    const double share = share_ * (1 - 1e-7);
    return static_cast<std::size_t>(std::ceil(share * static_cast<double>(tokens)));
  }

  double share_;
  ScoreShape shape_;
  std::int64_t queries_ = 0;
  StepRows rows_;
  std::vector<std::uint32_t> stamps_;
  std::vector<std::uint32_t> keys_;
  std::vector<std::uint32_t> scratch_;
};
static_assert(TokenScorer<TimeStamp>);

}  // namespace lethe
