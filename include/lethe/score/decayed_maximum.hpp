/// The best standing a token has had, fading from round to round. G-KV.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "lethe/score.hpp"
#include "lethe/score/adaptor.hpp"

namespace lethe {

/// Settings of DecayedMaximum.
template <class Scorer>
struct DecayedMaximumConfig {
  /// What a round's standing is measured by.
  typename Scorer::Config score{};
  /// alpha: share of a standing left after one more round that dropped tokens; the published 0.8.
  float decay = 0.8f;

  bool operator==(const DecayedMaximumConfig&) const = default;
};

/// F = max(decay x F, s / max s), once for each round that drops tokens, where s is another
/// scorer's (G-KV, arXiv 2512.00504: the maximum did better there than the mean). Scores that are
/// not finite stay so. Memory: 8 bytes a slot and group beside the inner scorer's.
template <TokenScorer Scorer>
class DecayedMaximum : public ScorerAdaptor<Scorer> {
 public:
  using Config = DecayedMaximumConfig<Scorer>;
  static constexpr std::string_view name = "decayed maximum";

  /// Throws std::invalid_argument unless 0 <= decay <= 1.
  DecayedMaximum(const Config& config, const ScoreShape& shape)
      : Adaptor(config.score, shape),
        shape_(shape),
        decay_(checked(config.decay)),
        remembered_(shape.layers * shape.groups * shape.slots, 0.0f),
        latest_(remembered_.size(), 0.0f),
        is_fresh_(shape.layers * shape.groups, 0) {}

  /// O(n) beside the inner scorer's.
  [[nodiscard]] LETHE_EXACT std::span<const float> score(std::size_t layer, std::size_t group,
                                                         std::span<const Position> positions,
                                                         std::span<float> scratch) {
    LETHE_EXACT_BODY
    const std::span<const float> scores = this->scorer_.score(layer, group, positions, scratch);
    const std::span<float> latest = row_of(latest_, layer, group).first(scores.size());
    const std::span<const float> remembered = row_of(remembered_, layer, group);
    float best = 0;
    for (const float score : scores) best = best < score ? score : best;
    const double share = best > 0 ? 1.0 / static_cast<double>(best) : 0.0;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      const float now = static_cast<float>(static_cast<double>(scores[i]) * share);
      const float before = remembered[i] * decay_;
      const float standing = now < before ? before : now;
      latest[i] = is_finite(scores[i]) ? standing : scores[i];
    }
    is_fresh_[layer * shape_.groups + group] = 1;
    return latest;
  }

  void keep(const EvictionPlan& plan, std::size_t group) {
    Adaptor::keep(plan, group);
    remember(plan.layer, group);
    keep_row(row_of(remembered_, plan.layer, group), plan);
  }

  void forget(std::size_t layer, std::size_t group, Slot slot) {
    Adaptor::forget(layer, group, slot);
    remember(layer, group);
    row_of(remembered_, layer, group)[slot] = 0.0f;
  }

  void reset() {
    Adaptor::reset();
    std::fill(remembered_.begin(), remembered_.end(), 0.0f);
    std::fill(is_fresh_.begin(), is_fresh_.end(), std::uint8_t{0});
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    Adaptor::archive(archive, self);
    archive(self.remembered_);
  }

  [[nodiscard]] bool valid() const {
    return Adaptor::valid() && std::all_of(remembered_.begin(), remembered_.end(), [](float value) {
             return !is_finite(value) || (value >= 0.0f && value <= 1.01f);
           });
  }

 private:
  using Adaptor = ScorerAdaptor<Scorer>;

  [[nodiscard]] static float checked(float decay) {
    detail::require(decay >= 0.0f && decay <= 1.0f, "decay", decay, "choose a share from 0 to 1");
    return decay;
  }

  /// What the last look found stands from now on: tokens are about to go.
  void remember(std::size_t layer, std::size_t group) {
    std::uint8_t& is_fresh = is_fresh_[layer * shape_.groups + group];
    if (is_fresh == 0) return;
    is_fresh = 0;
    const std::span<const float> row = row_of(latest_, layer, group);
    std::copy(row.begin(), row.end(), row_of(remembered_, layer, group).begin());
  }

  [[nodiscard]] std::span<float> row_of(std::vector<float>& rows, std::size_t layer,
                                        std::size_t group) const {
    return std::span(rows).subspan((layer * shape_.groups + group) * shape_.slots, shape_.slots);
  }

  ScoreShape shape_;
  float decay_;
  /// Standings after the last round that dropped tokens, and of the last look.
  std::vector<float> remembered_;
  std::vector<float> latest_;
  /// Whether `latest_` is of a look since tokens last went.
  std::vector<std::uint8_t> is_fresh_;
};
static_assert(TokenScorer<DecayedMaximum<NoScore>>);

}  // namespace lethe
