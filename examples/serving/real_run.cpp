#include "real_run.hpp"

#include <algorithm>

#include "cost_fit.hpp"

namespace serving {

LayeredSettings layered_settings(const Profile& profile, const RealSettings& settings) {
  LayeredSettings made;
  made.engine = settings.engine;
  made.each_token = settings.each_token;
  made.minds_slack = settings.minds_slack;
  made.device_blocks = settings.device_blocks * profile.model.layers;
  made.host_blocks = settings.host_blocks * profile.model.layers;
  made.shape = cache_shape(profile, settings.engine.block_tokens, 0);
  made.costs = settings.costs;
  return made;
}

std::size_t longest_request(const Trace& trace) {
  std::size_t longest = 1;
  for (const Request& request : trace.requests)
    longest = std::max<std::size_t>(longest, request.input + request.output);
  return longest;
}

lethe::layerkv::ThreadCopierConfig copier_settings(const Trace& trace,
                                                   const RealSettings& settings) {
  const std::size_t blocks = settings.engine.blocks_of(longest_request(trace)) + 1;
  // One thread: the others compute.
  return {.threads = 1, .batches = 128, .batch_copies = settings.engine.sequences * blocks};
}

RunResults simulate_run(const Trace& trace, const Profile& profile, const RealSettings& settings) {
  if (settings.is_layerwise())
    return serve_layered(trace, profile, layered_settings(profile, settings));
  Profile machine = profile;
  machine.device_blocks = settings.device_blocks;
  return serve(trace, machine, settings.engine);
}

}  // namespace serving
