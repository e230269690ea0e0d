/// How concentrated a layer's attention is; each measure by one pass over its scores.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "lethe/numeric.hpp"

namespace lethe {

/// Sums over one layer's scores.
struct MassSummary {
  std::size_t count = 0;
  /// Sum of absolute values.
  double sum = 0;
  double square_sum = 0;
  float maximum = 0;
  /// False when any value is infinite or NaN; the sums mean nothing then.
  bool finite = true;
};

namespace detail {

inline constexpr std::size_t summary_lanes = 16;

struct SummaryLanes {
  double sum[summary_lanes] = {};
  double square[summary_lanes] = {};
  float maximum[summary_lanes];
  // The topmost bit is set once a value was infinite or NaN.
  std::uint32_t odd_bits[summary_lanes] = {};
};

// A fused multiply-add has the same bits here: the square of a float is exact in double.
LETHE_HOST_DEVICE LETHE_EXACT inline void add_to_lane(double& sum, double& square, float& maximum,
                                                      std::uint32_t& odd_bits, float value) {
  LETHE_EXACT_BODY
  const std::uint32_t bits = detail::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFu;
  const double size = static_cast<double>(detail::bit_cast<float>(bits));
  sum = sum + size;
  square = square + size * size;
  maximum = maximum < value ? value : maximum;
  odd_bits |= bits + 0x00800000u;
}

LETHE_EXACT inline void add_to_lane(SummaryLanes& lanes, std::size_t lane, float value) {
  add_to_lane(lanes.sum[lane], lanes.square[lane], lanes.maximum[lane], lanes.odd_bits[lane],
              value);
}

// Fixed lanes: the order of the additions, and so the bits, do not depend on the vector width. The
// lanes are a copy, for only those of a local variable can stay in registers.
[[nodiscard]] LETHE_EXACT inline SummaryLanes add_blocks(SummaryLanes lanes,
                                                         std::span<const float> values) {
  for (std::size_t i = 0; i + summary_lanes <= values.size(); i += summary_lanes) {
    for (std::size_t lane = 0; lane < summary_lanes; ++lane) {
      add_to_lane(lanes, lane, values[i + lane]);
    }
  }
  return lanes;
}

LETHE_HOST_DEVICE LETHE_EXACT inline MassSummary fold(const SummaryLanes& lanes,
                                                      std::size_t count) {
  LETHE_EXACT_BODY
  MassSummary summary{.count = count, .maximum = lanes.maximum[0]};
  for (std::size_t lane = 0; lane < summary_lanes; ++lane) {
    summary.sum = summary.sum + lanes.sum[lane];
    summary.square_sum = summary.square_sum + lanes.square[lane];
    const float most = lanes.maximum[lane];
    summary.maximum = summary.maximum < most ? most : summary.maximum;
    summary.finite = summary.finite && lanes.odd_bits[lane] >> 31 == 0;
  }
  return summary;
}

}  // namespace detail

/// Summarises scores in one pass, with the same bits on every compiler. O(n).
[[nodiscard]] LETHE_EXACT inline MassSummary summarise(std::span<const float> scores) {
  if (scores.empty()) return {};
  detail::SummaryLanes lanes;
  std::fill_n(lanes.maximum, detail::summary_lanes, scores[0]);
  lanes = detail::add_blocks(lanes, scores);
  const std::size_t rest = scores.size() % detail::summary_lanes;
  for (std::size_t lane = 0; lane < rest; ++lane) {
    detail::add_to_lane(lanes, lane, scores[scores.size() - rest + lane]);
  }
  return detail::fold(lanes, scores.size());
}

/// Hoyer sparsity (sqrt(n) - |a|_1 / |a|_2) / (sqrt(n) - 1), in [0, 1]; 1: all mass on one token.
/// 1 for a single token, 0 when every score is zero. Lethe, equation 1.
[[nodiscard]] LETHE_HOST_DEVICE LETHE_EXACT inline double hoyer_sparsity(
    const MassSummary& summary) {
  LETHE_EXACT_BODY
  if (!(summary.square_sum > 0)) return 0;
  if (summary.count <= 1) return 1;
  const double root = std::sqrt(static_cast<double>(summary.count));
  const double ratio = summary.sum / std::sqrt(summary.square_sum);
  const double sparsity = (root - ratio) / (root - 1);
  return sparsity < 0.0 ? 0.0 : (1.0 < sparsity ? 1.0 : sparsity);
}

/// Effective number of tokens (|a|_1 / |a|_2)^2: n for equal scores, 1 when one holds all; 0
/// without mass.
[[nodiscard]] inline double effective_tokens(const MassSummary& summary) {
  return summary.square_sum > 0 ? summary.sum * summary.sum / summary.square_sum : 0;
}

/// Shannon entropy of the normalised scores over log n, in [0, 1]; 0 for one token or without mass.
/// scores: finite, not negative. O(n).
[[nodiscard]] inline double normalised_entropy(std::span<const float> scores) {
  const double total = summarise(scores).sum;
  if (scores.size() <= 1 || !(total > 0)) return 0;
  double entropy = 0;
  for (const float score : scores) {
    const double share = static_cast<double>(score) / total;
    if (share > 0) entropy -= share * std::log(share);
  }
  return std::clamp(entropy / std::log(static_cast<double>(scores.size())), 0.0, 1.0);
}

/// The fewest tokens that together hold `fraction` of the mass; 0 without mass.
/// scores: finite, not negative. fraction in [0, 1]. scratch: as many entries as scores. O(n log
/// n).
[[nodiscard]] inline std::size_t mass_quantile(std::span<const float> scores, double fraction,
                                               std::span<float> scratch) {
  const double target = fraction * summarise(scores).sum;
  const std::span<float> sorted = scratch.first(scores.size());
  std::copy(scores.begin(), scores.end(), sorted.begin());
  std::sort(sorted.begin(), sorted.end(), [](float a, float b) { return a > b; });
  double held = 0;
  std::size_t tokens = 0;
  while (tokens < sorted.size() && held < target * (1 - 1e-12)) {
    held += static_cast<double>(sorted[tokens++]);
  }
  return tokens;
}

/// How many scores are at least `level`. O(n).
[[nodiscard]] inline std::size_t count_at_least(std::span<const float> scores, float level) {
  std::size_t count = 0;
  for (std::size_t begin = 0; begin < scores.size(); begin += 4096) {
    // Counted in 32 bits, as wide as a score, so that vectors need no widening.
    std::uint32_t block = 0;
    for (const float score :
         scores.subspan(begin, std::min<std::size_t>(4096, scores.size() - begin))) {
      block += static_cast<std::uint32_t>(score >= level);
    }
    count += block;
  }
  return count;
}

}  // namespace lethe
