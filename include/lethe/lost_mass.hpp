/// How much of a layer's score a plan gives up.
#pragma once

#include <cstddef>

#include "lethe/sparsity.hpp"

namespace lethe::detail {

inline constexpr std::size_t kept_lanes = 4;

/// Sums of the scores at kept slots: that of kept[i] is added to lane i % kept_lanes, one after
/// another, so that the bits depend on nothing else.
struct KeptLanes {
  double sum[kept_lanes] = {};
};

LETHE_HOST_DEVICE LETHE_EXACT inline void add_kept(double& lane, float score) {
  LETHE_EXACT_BODY
  const double value = static_cast<double>(score);
  lane = lane + (value < 0 ? -value : value);
}

/// The share of a layer's score that is not among the kept, in [0, 1]; 0 without mass.
[[nodiscard]] LETHE_HOST_DEVICE LETHE_EXACT inline double lost_share(const MassSummary& summary,
                                                                     const KeptLanes& lanes) {
  LETHE_EXACT_BODY
  if (!(summary.sum > 0)) return 0;
  const double kept = (lanes.sum[0] + lanes.sum[1]) + (lanes.sum[2] + lanes.sum[3]);
  const double lost = 1.0 - kept / summary.sum;
  return lost < 0.0 ? 0.0 : (1.0 < lost ? 1.0 : lost);
}

}  // namespace lethe::detail
