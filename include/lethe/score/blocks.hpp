/// One score for each block of consecutive positions, so that whole blocks go. ChunkKV,
/// PagedEviction, block-granular H2O.
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

/// What a block's score is made of, over the tokens of it that are there.
enum class BlockScore : std::uint8_t { sum, mean, maximum };

/// Settings of Blocks.
template <class Scorer>
struct BlocksConfig {
  typename Scorer::Config score{};
  /// Consecutive positions of a block, the first block from position 0 (ChunkKV: 20).
  std::size_t block = 16;
  BlockScore combine = BlockScore::mean;
  /// Of equal blocks the newer stays, against the library's rule: a block then scores its rank.
  bool newer_wins_ties = false;
  /// Tokens that the policy protects, as in its Retention: a block with one of them stays whole.
  std::size_t first_tokens = 0;
  std::size_t recent_tokens = 0;

  bool operator==(const BlocksConfig&) const = default;
};

/// Gives every token its block's score. With a budget of whole blocks (WholeBlocks) whole blocks
/// go. Scores that are not finite stay so. Memory: 20 bytes a slot beside the inner scorer's.
template <TokenScorer Scorer>
class Blocks : public ScorerAdaptor<Scorer> {
 public:
  using Config = BlocksConfig<Scorer>;
  static constexpr std::string_view name = "blocks";

  /// Throws std::invalid_argument when block is 0.
  Blocks(const Config& config, const ScoreShape& shape)
      : ScorerAdaptor<Scorer>(config.score, shape),
        config_(checked(config)),
        order_(shape.slots, 0),
        blocks_(shape.slots) {}

  /// O(n), and O(b log b) for b blocks where newer_wins_ties, beside the inner scorer's.
  [[nodiscard]] std::span<const float> score(std::size_t layer, std::size_t group,
                                             std::span<const Position> positions,
                                             std::span<float> scratch) {
    const Protection protection =
        detail::protection_of(config_.first_tokens, config_.recent_tokens, positions,
                              std::is_sorted(positions.begin(), positions.end()), order_);
    const std::span<const float> scores = this->scorer_.score(layer, group, positions, scratch);
    const std::span<const Slot> order = order_by_position(positions, order_);
    const std::span<Block> blocks = find_blocks(scores, positions, order, protection);
    if (config_.newer_wins_ties) {
      rank(blocks);
    } else {
      raise_protected(blocks);
    }
    for (const Block& block : blocks) {
      for (std::size_t i = block.begin; i < block.end; ++i) scratch[order[i]] = block.score;
    }
    return scratch.first(positions.size());
  }

 private:
  /// Tokens from `begin` to `end` in the order of position.
  struct Block {
    float score = 0;
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
    bool is_protected = false;
  };

  [[nodiscard]] static const Config& checked(const Config& config) {
    detail::require(config.block >= 1, "block", config.block, "choose at least 1 position");
    return config;
  }

  [[nodiscard]] std::span<Block> find_blocks(std::span<const float> scores,
                                             std::span<const Position> positions,
                                             std::span<const Slot> order,
                                             const Protection& protection) {
    std::size_t count = 0;
    std::size_t end = 0;
    for (std::size_t begin = 0; begin < order.size(); begin = end) {
      const std::size_t number = positions[order[begin]] / config_.block;
      bool is_protected = false;
      for (end = begin; end < order.size() && positions[order[end]] / config_.block == number;
           ++end) {
        is_protected = is_protected || protection.covers(positions[order[end]]);
      }
      blocks_[count++] = {.score = combined(scores, order.subspan(begin, end - begin)),
                          .begin = static_cast<std::uint32_t>(begin),
                          .end = static_cast<std::uint32_t>(end),
                          .is_protected = is_protected};
    }
    return std::span(blocks_).first(count);
  }

  [[nodiscard]] LETHE_EXACT float combined(std::span<const float> scores,
                                           std::span<const Slot> slots) const {
    LETHE_EXACT_BODY
    double sum = 0;
    float most = scores[slots[0]];
    for (const Slot slot : slots) {
      if (!is_finite(scores[slot])) return scores[slot];
      sum = sum + static_cast<double>(scores[slot]);
      most = most < scores[slot] ? scores[slot] : most;
    }
    if (config_.combine == BlockScore::maximum) return most;
    if (config_.combine == BlockScore::mean) sum = sum / static_cast<double>(slots.size());
    return static_cast<float>(sum);
  }

  [[nodiscard]] static bool all_finite(std::span<const Block> blocks) {
    return std::all_of(blocks.begin(), blocks.end(),
                       [](const Block& block) { return is_finite(block.score); });
  }

  /// Protected blocks last, the others by score, of equal ones the older first.
  static void rank(std::span<Block> blocks) {
    if (!all_finite(blocks)) return;
    std::sort(blocks.begin(), blocks.end(), [](const Block& a, const Block& b) {
      if (a.is_protected != b.is_protected) return b.is_protected;
      const std::uint32_t left = ordered_key(a.score);
      const std::uint32_t right = ordered_key(b.score);
      return left != right ? left < right : a.begin < b.begin;
    });
    for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i].score = static_cast<float>(i);
  }

  static void raise_protected(std::span<Block> blocks) {
    if (blocks.empty() || !all_finite(blocks)) return;
    float most = blocks[0].score;
    for (const Block& block : blocks) most = std::max(most, block.score);
    for (Block& block : blocks) {
      if (block.is_protected) block.score = detail::above(most);
    }
  }

  Config config_;
  std::vector<Slot> order_;
  std::vector<Block> blocks_;
};
static_assert(TokenScorer<Blocks<NoScore>>);

}  // namespace lethe
