/// The best few by one score, then the others by another. VaSE, CriticalKV.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "lethe/score.hpp"
#include "lethe/score/adaptor.hpp"
#include "lethe/selection.hpp"

namespace lethe {

/// Settings of Promoted.
template <class First, class Rest>
struct PromotedConfig {
  typename First::Config first{};
  typename Rest::Config rest{};
  /// Tokens that come before all others, the best by the first score (VaSE: a quarter of the
  /// budget; CriticalKV: half).
  std::size_t count = 0;
  /// Tokens that the policy protects anyway, as in its Retention: they take none of these places.
  std::size_t first_tokens = 0;
  std::size_t recent_tokens = 0;

  bool operator==(const PromotedConfig&) const = default;
};

/// In each group, the best `count` tokens by one scorer (ties to the older) before all others, the
/// others as another scores them. The promoted all get one score above the others', so that where
/// fewer than they can stay it is the oldest of them. Scores of either scorer that are not finite
/// stay visible. Memory: both scorers'.
template <TokenScorer First, TokenScorer Rest>
class Promoted : public detail::CacheReading<First, Rest>,
                 public detail::QueryReading<First, Rest> {
 public:
  using Config = PromotedConfig<First, Rest>;
  static constexpr bool reads_mass = First::reads_mass || Rest::reads_mass;
  static constexpr std::string_view name = "promoted";

  /// Throws std::invalid_argument as either scorer does, or when both read queries of different
  /// shapes.
  Promoted(const Config& config, const ScoreShape& shape)
      : count_(config.count),
        first_tokens_(config.first_tokens),
        recent_tokens_(config.recent_tokens),
        first_(config.first, shape),
        rest_(config.rest, shape),
        keys_(shape.slots, 0),
        promoted_(shape.slots + 1, 0),
        scratch_(shape.slots + 1, 0) {
    if constexpr (detail::ReadsQueries<First> && detail::ReadsQueries<Rest>) {
      detail::require(first_.query_shape() == rest_.query_shape(), "rest: query heads",
                      rest_.query_shape().heads, "both scores must read queries of one shape");
    }
  }

  void record(std::size_t layer, std::size_t group, std::int64_t query, std::size_t first_slot,
              std::span<const float> mass) {
    first_.record(layer, group, query, first_slot, mass);
    rest_.record(layer, group, query, first_slot, mass);
  }

  void advance(std::size_t queries) {
    first_.advance(queries);
    rest_.advance(queries);
  }

  template <class Cache>
  requires detail::ReadsCache<Promoted> && detail::SuitsScorer<Cache, First> &&
      detail::SuitsScorer<Cache, Rest>
  void read(const Cache& cache, std::size_t layer, std::size_t group,
            std::span<const Position> positions) {
    detail::show_cache(first_, cache, layer, group, positions);
    detail::show_cache(rest_, cache, layer, group, positions);
  }

  void record_query(std::size_t layer, Position position,
                    std::span<const float> query) requires detail::AnyReadsQueries<First, Rest> {
    detail::show_query(first_, layer, position, query);
    detail::show_query(rest_, layer, position, query);
  }

  [[nodiscard]] QueryShape query_shape() const requires detail::AnyReadsQueries<First, Rest> {
    if constexpr (detail::ReadsQueries<First>) {
      return first_.query_shape();
    } else {
      return rest_.query_shape();
    }
  }

  /// O(n) beside what both scorers need.
  [[nodiscard]] std::span<const float> score(std::size_t layer, std::size_t group,
                                             std::span<const Position> positions,
                                             std::span<float> scratch) {
    const std::span<const float> first = first_.score(layer, group, positions, scratch);
    const auto odd = std::find_if_not(first.begin(), first.end(), is_finite);
    const auto spoilt = static_cast<std::size_t>(odd - first.begin());
    const std::span<const Slot> promoted = choose(first, positions);
    const std::span<const float> rest = rest_.score(layer, group, positions, scratch);
    const std::span<float> scores = scratch.first(positions.size());
    if (rest.data() != scores.data()) std::copy(rest.begin(), rest.end(), scores.begin());
    raise(scores, promoted);
    if (spoilt < scores.size()) scores[spoilt] = std::bit_cast<float>(0x7FC00000u);
    return scores;
  }

  void keep(const EvictionPlan& plan, std::size_t group) {
    first_.keep(plan, group);
    rest_.keep(plan, group);
  }

  void forget(std::size_t layer, std::size_t group, Slot slot) {
    first_.forget(layer, group, slot);
    rest_.forget(layer, group, slot);
  }

  void reset() {
    first_.reset();
    rest_.reset();
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    First::archive(archive, self.first_);
    Rest::archive(archive, self.rest_);
  }

  [[nodiscard]] bool valid() const { return first_.valid() && rest_.valid(); }

 private:
  /// The slots of protected tokens and of the best others.
  [[nodiscard]] std::span<const Slot> choose(std::span<const float> scores,
                                             std::span<const Position> positions) {
    const bool ordered = std::is_sorted(positions.begin(), positions.end());
    const Protection protection =
        detail::protection_of(first_tokens_, recent_tokens_, positions, ordered, scratch_);
    const std::size_t covered = static_cast<std::size_t>(
        std::count_if(positions.begin(), positions.end(),
                      [&](Position position) { return protection.covers(position); }));
    const std::size_t count = covered + std::min(count_, scores.size() - covered);
    if (count_ == 0 || count == 0) return {};
    const std::span<std::uint32_t> keys = std::span(keys_).first(scores.size());
    make_keys(scores, positions, protection, keys);
    const Cut cut = find_cut(keys, count, scratch_);
    const std::size_t found = collect(keys, cut, positions, ordered, promoted_, scratch_);
    return std::span<const Slot>(promoted_).first(found);
  }

  static void raise(std::span<float> scores, std::span<const Slot> promoted) {
    if (promoted.empty()) return;
    const float most = *std::max_element(scores.begin(), scores.end());
    const float high = detail::above(most);
    for (const Slot slot : promoted) {
      if (is_finite(scores[slot])) scores[slot] = high;
    }
  }

  std::size_t count_;
  std::size_t first_tokens_;
  std::size_t recent_tokens_;
  First first_;
  Rest rest_;
  std::vector<std::uint32_t> keys_;
  std::vector<Slot> promoted_;
  std::vector<std::uint32_t> scratch_;
};
static_assert(TokenScorer<Promoted<NoScore, NoScore>>);

}  // namespace lethe
