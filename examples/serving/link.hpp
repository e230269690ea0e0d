#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace serving {

/// The link between device and host, one way; copies follow one another.
struct LinkWay {
  double free_at = 0;
  double seconds = 0;  ///< that copies took, all of them

  /// A copy that may begin now: when it ends.
  double copy(double now, double length) {
    free_at = std::max(free_at, now) + length;
    seconds += length;
    return free_at;
  }
};

/// Copies that a step needs, in seconds of the link by layer: what must be fetched before a layer
/// is computed, and what a layer leaves that goes to the host.
struct StepCopies {
  std::vector<double> in;
  std::vector<double> out;
  bool is_empty = true;

  void begin(std::size_t layers) {
    if (!is_empty || in.size() != layers) {
      in.assign(layers, 0);
      out.assign(layers, 0);
    }
    is_empty = true;
  }
};

/// When a step ends that begins at `begin`, computes each layer for `compute` seconds and copies
/// layer by layer, with two buffers each way: a layer waits for its fetch, a fetch for the buffer
/// that the layer before last used, and what is computed for the buffer whose copy has ended. A
/// fetch may begin before the step does, two layers' time at most. O(layers).
double end_of_step(double begin, double compute, const StepCopies& copies, LinkWay& in,
                   LinkWay& out);

}  // namespace serving
