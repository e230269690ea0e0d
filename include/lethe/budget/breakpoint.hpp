/// Lethe's segment breakpoint: keep the tokens before the scores fall off.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "lethe/budget.hpp"

namespace lethe {

/// Settings of SegmentBreakpoint.
struct SegmentBreakpointConfig {
  /// tau: scores below the largest over tau are not salient; larger keeps more (the paper's 400).
  float sparsity_ratio = 400.0f;
  /// D: the sorted scores are cut into so many equal segments (unpublished; docs/defaults.md).
  std::size_t segments = 64;

  bool operator==(const SegmentBreakpointConfig&) const = default;
};

/// The first boundary, ceil(i x tokens / segments), that is not below `salient`, the number of
/// scores that reach the level; tokens when there is none before the end. 1 <= salient <= tokens.
[[nodiscard]] LETHE_HOST_DEVICE constexpr std::size_t segment_boundary(std::size_t salient,
                                                                       std::size_t tokens,
                                                                       std::size_t segments) {
  const std::size_t segment = (salient - 1) * segments / tokens + 1;
  const std::size_t boundary = (segment * tokens + segments - 1) / segments;
  return boundary < tokens ? boundary : tokens;
}

/// The least float that is not below maximum / ratio: scores that reach it are salient.
/// maximum: above 0. ratio: above 1.
[[nodiscard]] LETHE_HOST_DEVICE LETHE_EXACT inline float salience_level(float maximum,
                                                                        float ratio) {
  LETHE_EXACT_BODY
  const double exact = static_cast<double>(maximum) / static_cast<double>(ratio);
  const float rounded = static_cast<float>(exact);
  if (!(static_cast<double>(rounded) < exact)) return rounded;
  // The next float: it has the next bits.
  return detail::bit_cast<float>(detail::bit_cast<std::uint32_t>(rounded) + 1u);
}

/// Lethe's layer budget (arXiv 2511.06029, Algorithm 1) without a sort: one maximum, one count, one
/// radix select. Keeps the tokens before the breakpoint and the protected ones; when no segment
/// lies below the level the attention is spread out.
class SegmentBreakpoint {
 public:
  using Config = SegmentBreakpointConfig;
  /// Throws std::invalid_argument unless sparsity_ratio > 1 and 1 <= segments < 2^32.
  explicit SegmentBreakpoint(const Config& config) : config_(config) {
    detail::require(config.sparsity_ratio > 1.0f, "sparsity_ratio", config.sparsity_ratio,
                    "choose a value above 1");
    detail::require(config.segments >= 1 && config.segments < (std::size_t{1} << 32), "segments",
                    config.segments, "choose at least 1, and no more than a layer has tokens");
  }

  /// O(n).
  [[nodiscard]] Budget budget(const LayerScores& layer) const {
    const std::size_t tokens = layer.scores.size();
    if (!(layer.summary.maximum > 0.0f)) return spread_out(tokens);
    const float level = salience_level(layer.summary.maximum, config_.sparsity_ratio);
    const std::size_t salient = count_at_least(layer.scores, level);
    const std::size_t boundary = segment_boundary(salient, tokens, config_.segments);
    if (boundary >= tokens) return spread_out(tokens);
    return keep_best(layer, boundary);
  }

 private:
  [[nodiscard]] static Budget spread_out(std::size_t tokens) {
    return {.tokens = tokens, .spread_out = true, .breakpoint = tokens};
  }

  /// The best `count` tokens, and the protected ones.
  [[nodiscard]] static Budget keep_best(const LayerScores& layer, std::size_t count) {
    const std::span<std::uint32_t> keys = layer.keys.first(layer.scores.size());
    make_keys(layer.scores, keys);
    const Cut cut = find_cut(keys, count, layer.scratch);
    const std::size_t others = count_unprotected(keys, cut, layer.positions, layer.ordered,
                                                 layer.protection, layer.scratch);
    return {.tokens = layer.protected_tokens + others, .breakpoint = count, .cut = cut};
  }

  Config config_;
};
static_assert(BudgetAllocator<SegmentBreakpoint>);

}  // namespace lethe
