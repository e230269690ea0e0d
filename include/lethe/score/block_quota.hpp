/// Every block of consecutive positions keeps its best tokens before any keeps more. GrowPage.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "lethe/position_order.hpp"
#include "lethe/score.hpp"
#include "lethe/score/adaptor.hpp"

namespace lethe {

/// Settings of BlockQuota.
template <class Scorer>
struct BlockQuotaConfig {
  typename Scorer::Config score{};
  /// Consecutive positions of a block, the first block from position 0; as Blocks'.
  std::size_t block = 16;

  bool operator==(const BlockQuotaConfig&) const = default;
};

/// Another scorer's scores as ranks that hand a budget out block by block: the best token of every
/// block comes before the second best of any, and so on; among tokens of one rank the better score
/// decides. Whatever the budget, no block then has a token more than another that still has one to
/// give. Ties go to the older. A score is a token's place from the last, the worst 0; scores that
/// are not finite are handed on as they are, all of them. Memory: 12 bytes a slot beside the inner
/// scorer's.
template <TokenScorer Scorer>
class BlockQuota : public ScorerAdaptor<Scorer> {
 public:
  using Config = BlockQuotaConfig<Scorer>;
  static constexpr std::string_view name = "block quota";

  /// Throws std::invalid_argument when block is 0, or as Scorer does.
  BlockQuota(const Config& config, const ScoreShape& shape)
      : ScorerAdaptor<Scorer>(config.score, shape),
        block_(checked(config.block)),
        order_(shape.slots, 0),
        ranks_(shape.slots, 0),
        places_(shape.slots, 0) {}

  [[nodiscard]] std::size_t growth(std::size_t layer,
                                   std::size_t group) const requires GrowthScorer<Scorer> {
    return this->scorer_.growth(layer, group);
  }

  /// O(n log n) beside the inner scorer's.
  [[nodiscard]] std::span<const float> score(std::size_t layer, std::size_t group,
                                             std::span<const Position> positions,
                                             std::span<float> scratch) {
    const std::span<const float> scores = this->scorer_.score(layer, group, positions, scratch);
    if (!std::all_of(scores.begin(), scores.end(), is_finite)) return scores;
    const std::span<Slot> places = std::span(places_).first(positions.size());
    const std::span<const Slot> order = order_by_position(positions, order_);
    std::copy(order.begin(), order.end(), places.begin());
    rank_in_blocks(scores, positions, places);
    const auto is_better = [&](Slot a, Slot b) {
      return ranks_[a] != ranks_[b] ? ranks_[a] < ranks_[b] : precedes(scores, positions, a, b);
    };
    std::sort(places.begin(), places.end(), is_better);
    for (std::size_t i = 0; i < places.size(); ++i) {
      scratch[places[i]] = static_cast<float>(places.size() - 1 - i);
    }
    return scratch.first(positions.size());
  }

 private:
  [[nodiscard]] static std::size_t checked(std::size_t block) {
    detail::require(block >= 1, "block", block, "choose at least 1 position");
    return block;
  }

  /// Whether a token's score puts it before another's, of equal ones the older.
  [[nodiscard]] static bool precedes(std::span<const float> scores,
                                     std::span<const Position> positions, Slot a, Slot b) {
    const std::uint32_t left = ordered_key(scores[a]);
    const std::uint32_t right = ordered_key(scores[b]);
    return left != right ? left > right : positions[a] < positions[b];
  }

  /// Sets each token's rank in its block. slots: in the order of position; they end in another.
  void rank_in_blocks(std::span<const float> scores, std::span<const Position> positions,
                      std::span<Slot> slots) {
    std::size_t end = 0;
    for (std::size_t begin = 0; begin < slots.size(); begin = end) {
      const std::size_t number = positions[slots[begin]] / block_;
      for (end = begin; end < slots.size() && positions[slots[end]] / block_ == number;) ++end;
      const std::span<Slot> block = slots.subspan(begin, end - begin);
      std::sort(block.begin(), block.end(),
                [&](Slot a, Slot b) { return precedes(scores, positions, a, b); });
      for (std::size_t i = 0; i < block.size(); ++i) {
        ranks_[block[i]] = static_cast<std::uint32_t>(i);
      }
    }
  }

  std::size_t block_;
  std::vector<Slot> order_;
  /// By slot.
  std::vector<std::uint32_t> ranks_;
  /// Slots, the best first.
  std::vector<Slot> places_;
};
static_assert(TokenScorer<BlockQuota<NoScore>>);

}  // namespace lethe
