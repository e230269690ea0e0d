#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "results.hpp"

namespace serving {

/// Keeps moments of a run, never more than `most`, about equally far apart in time.
template <class At, std::size_t most>
class Moments {
 public:
  /// Whether a moment of this time would be kept. O(1).
  bool wants(double time) const { return moments_.empty() || time >= moments_.back().time + gap_; }
  /// O(1) amortised; most moments are dropped.
  void add(At moment) {
    if (!wants(moment.time)) return;
    moments_.push_back(std::move(moment));
    if (moments_.size() < most) return;
    for (std::size_t i = 1; i < most / 2; ++i) moments_[i] = std::move(moments_[2 * i]);
    moments_.resize(most / 2);
    gap_ = gap_ == 0 ? (moments_.back().time - moments_.front().time) / (most / 2) : 2 * gap_;
  }
  std::vector<At> take() { return std::move(moments_); }

 private:
  std::vector<At> moments_;
  double gap_ = 0;
};

using Timeline = Moments<Moment, 2048>;

}  // namespace serving
