#pragma once

#include <vector>

#include "layered_scheduler.hpp"
#include "results.hpp"
#include "timeline.hpp"

namespace serving {

/// LayeredScheduler that keeps where each layer's blocks lay (RunResults::layer_moments).
///
/// A moment that is kept takes O(layers x running requests).
class WatchedScheduler : public LayeredScheduler {
 public:
  using LayeredScheduler::LayeredScheduler;

  void finish(double now, const std::vector<StepItem>& items);
  std::vector<LayerMoment> take() { return moments_.take(); }

 private:
  Moments<LayerMoment, 512> moments_;
};

}  // namespace serving
