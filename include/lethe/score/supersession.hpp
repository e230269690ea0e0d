/// Supersession: a token whose key a newer token repeats is stale, whatever attention it still
/// gets.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "lethe/newer_keys.hpp"
#include "lethe/numeric.hpp"
#include "lethe/score.hpp"
#include "lethe/score/adaptor.hpp"
#include "lethe/short_keys.hpp"
#include "lethe/unit_keys.hpp"

namespace lethe {

/// Settings of Superseded.
template <class Scorer>
struct SupersededConfig {
  /// What the tokens that are not superseded are scored by.
  typename Scorer::Config score{};
  KeyShape keys{};
  /// Cosine of two keys from which on the newer one supersedes the older (docs/supersession.md).
  float threshold = 0.7f;
  /// The same in layer 0, whose keys are those of the tokens alone; 0: threshold.
  float first_layer_threshold = 0.0f;
  /// What a cosine of 1 takes from the logarithm of a score, below the threshold too; 0 judges by
  /// the threshold alone.
  float penalty = 0.0f;
  /// Of the pairs of channels that a position turns, the share that is compared: those that turn
  /// slowest.
  float slow_share = 1.0f;

  bool operator==(const SupersededConfig&) const = default;
};

/// Scores by another scorer, less the more a newer token resembles this one:
/// score exp(-penalty (1 + cosine)); and tokens that a newer one supersedes go first. Two are as
/// near as the mean, over the group's KV heads, of the cosines of their keys without rotation. With
/// one group all heads count together; with a group for each KV head, each by itself. Memory: 4
/// bytes a slot and group beside the inner scorer's. A round compares the tokens that came since
/// the last one with all older ones: O(new x tokens x channels).
template <TokenScorer Scorer>
class Superseded : public RowAdaptor<Scorer> {
 public:
  using Config = SupersededConfig<Scorer>;
  static constexpr bool reads_cache = true;
  static constexpr std::string_view name = "superseded";

  /// Throws std::invalid_argument unless groups is 1 or keys.kv_heads, 0 < threshold <= 1,
  /// 0 <= first_layer_threshold <= 1 and 0 <= penalty <= 20.
  Superseded(const Config& config, const ScoreShape& shape)
      : Adaptor(config.score, shape),
        heads_(config.keys.kv_heads / shape.groups),
        threshold_(nearness(checked(config, shape).threshold)),
        first_threshold_(config.first_layer_threshold == 0.0f
                             ? threshold_
                             : nearness(config.first_layer_threshold)),
        slope_(-2.0f * config.penalty),
        keys_(config.keys, config.slow_share, heads_, shape.slots),
        new_slots_(shape.slots, 0),
        compared_(shape.layers * shape.groups, 0) {}

  /// Compares the tokens that are new since the last call with all older ones.
  template <KeyReadableCache Cache>
  requires detail::SuitsScorer<Cache, Scorer>
  void read(const Cache& cache, std::size_t layer, std::size_t group,
            std::span<const Position> positions) {
    detail::show_cache(this->scorer_, cache, layer, group, positions);
    std::int64_t& compared = compared_[layer * this->shape_.groups + group];
    keys_.read(cache, layer, group * heads_, positions);
    NewerKeys(keys_, positions).raise(find_new(positions, compared), this->row_of(layer, group));
    for (const Position position : positions) {
      compared = std::max(compared, static_cast<std::int64_t>(position) + 1);
    }
  }

  /// O(n) beside the inner scorer's.
  [[nodiscard]] LETHE_EXACT std::span<const float> score(std::size_t layer, std::size_t group,
                                                         std::span<const Position> positions,
                                                         std::span<float> scratch) {
    LETHE_EXACT_BODY
    const std::span<const float> scores = this->scorer_.score(layer, group, positions, scratch);
    const std::span<const float> nearest = this->row_of(layer, group);
    const float threshold = layer == 0 ? first_threshold_ : threshold_;
    for (std::size_t i = 0; i < positions.size(); ++i) {
      const float repeated = nearest[i] >= threshold ? superseded_share : 1.0f;
      const float resembled = exact_exp(slope_ * nearest[i]);
      scratch[i] = scores[i] * (repeated * resembled);
    }
    return scratch.first(positions.size());
  }

  void reset() {
    Adaptor::reset();
    std::fill(compared_.begin(), compared_.end(), 0);
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    ScorerAdaptor<Scorer>::archive(archive, self);
    archive(self.compared_);
    archive(self.rows_);
  }

  [[nodiscard]] bool valid() const {
    const bool near = std::all_of(this->rows_.begin(), this->rows_.end(),
                                  [](float value) { return value >= 0.0f && value <= 1.01f; });
    const bool past = std::all_of(compared_.begin(), compared_.end(), [](std::int64_t position) {
      return position >= 0 && position <= std::int64_t{all_heads};
    });
    return near && past && Adaptor::valid();
  }

 private:
  using Adaptor = RowAdaptor<Scorer>;

  // Small enough to come behind every token that is not superseded, and keep the order of those
  // that are.
  static constexpr float superseded_share = 0x1p-60f;

  /// Cosines are kept as shares of 1, so that 0 means that no newer token has been seen.
  [[nodiscard]] static float nearness(float cosine) { return 0.5f + 0.5f * cosine; }

  [[nodiscard]] static const Config& checked(const Config& config, const ScoreShape& shape) {
    detail::require(config.threshold > 0.0f && config.threshold <= 1.0f, "threshold",
                    config.threshold, "choose a cosine above 0 and at most 1");
    detail::require(config.first_layer_threshold >= 0.0f && config.first_layer_threshold <= 1.0f,
                    "first_layer_threshold", config.first_layer_threshold,
                    "choose a cosine above 0 and at most 1, or 0 for threshold");
    detail::require(config.penalty >= 0.0f && config.penalty <= 20.0f, "penalty", config.penalty,
                    "choose 0 to 20: more would leave no score");
    detail::require(shape.groups == 1 || shape.groups == config.keys.kv_heads, "groups",
                    shape.groups, "choose 1 or keys.kv_heads");
    return config;
  }

  /// The slots of the tokens that are new since the last call.
  [[nodiscard]] std::span<const Slot> find_new(std::span<const Position> positions,
                                               std::int64_t compared) {
    std::size_t count = 0;
    for (std::size_t slot = 0; slot < positions.size(); ++slot) {
      if (static_cast<std::int64_t>(positions[slot]) < compared) continue;
      new_slots_[count++] = static_cast<Slot>(slot);
    }
    return std::span<const Slot>(new_slots_).first(count);
  }

  /// KV heads of a group.
  std::size_t heads_;
  float threshold_;
  float first_threshold_;
  /// By which a share of 1 changes the logarithm of a score.
  float slope_;
  ShortKeys keys_;
  std::vector<Slot> new_slots_;
  /// Tokens below this position have been compared with all older ones.
  std::vector<std::int64_t> compared_;
};
static_assert(TokenScorer<Superseded<NoScore>>);

}  // namespace lethe
