/// Lethe's segment breakpoint: keep the tokens before the scores fall off.
#pragma once

#include <cmath>
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
    const std::size_t salient = count_at_least(layer.scores, level(layer.summary.maximum));
    const std::size_t boundary = segment_boundary(salient, tokens, config_.segments);
    if (boundary >= tokens) return spread_out(tokens);
    return keep_best(layer, boundary);
  }

 private:
  /// The least float that is not below maximum / tau.
  [[nodiscard]] float level(float maximum) const {
    const double exact = static_cast<double>(maximum) / static_cast<double>(config_.sparsity_ratio);
    const float rounded = static_cast<float>(exact);
    return static_cast<double>(rounded) < exact ? std::nextafter(rounded, maximum) : rounded;
  }

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
