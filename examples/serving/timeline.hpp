#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "results.hpp"

namespace serving {

/// Keeps moments of a run, never more than `most`, about equally far apart in time.
class Timeline {
 public:
  static constexpr std::size_t most = 2048;

  /// O(1) amortised; most moments are dropped.
  void add(const Moment& moment) {
    if (!moments_.empty() && moment.time < moments_.back().time + gap_) return;
    moments_.push_back(moment);
    if (moments_.size() < most) return;
    for (std::size_t i = 0; i < most / 2; ++i) moments_[i] = moments_[2 * i];
    moments_.resize(most / 2);
    gap_ = gap_ == 0 ? (moments_.back().time - moments_.front().time) / (most / 2) : 2 * gap_;
  }
  std::vector<Moment> take() { return std::move(moments_); }

 private:
  std::vector<Moment> moments_;
  double gap_ = 0;
};

}  // namespace serving
