#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace serving {

/// When what happened to a request, in seconds of the trace.
struct Served {
  double scheduled = -1;  ///< when first put into a step
  double first = -1;      ///< end of the step that generated its first token
  double end = -1;        ///< end of the step that generated its last one
  std::uint32_t preemptions = 0;
  bool is_refused = false;  ///< it can never fit into this machine
};

/// How things stood at one moment.
struct Moment {
  double time = 0;
  std::uint32_t running = 0;
  std::uint32_t waiting = 0;
  double device_share = 0;  ///< of the blocks, in use (cached prefixes that nobody uses are not)
  double host_share = 0;
};

/// Where each layer's blocks lay at one moment, of all requests that ran.
struct LayerMoment {
  double time = 0;
  std::vector<std::uint32_t> device;  ///< blocks by layer
  std::vector<std::uint32_t> host;
};

/// What a run came to.
struct RunResults {
  std::vector<Served> requests;  ///< as the trace's
  std::vector<Moment> moments;   ///< at most a few thousand, evenly spread in time
  /// At most some hundred, evenly spread in time; none where all layers share one table.
  std::vector<LayerMoment> layer_moments;
  std::size_t steps = 0;
  std::size_t preemptions = 0;
  std::size_t swaps = 0;           ///< preemptions after which the cache came back from the host
  std::size_t reused_tokens = 0;   ///< of prompts and recomputations, found in the prefix cache
  std::size_t dropped_tokens = 0;  ///< by pruners, over all layers; a flat cap counts none
  double busy = 0;                 ///< seconds that steps took
  double makespan = 0;             ///< until the last token
  double link_seconds = 0;         ///< that copies between device and host took
  double link_bytes = 0;
};

}  // namespace serving
