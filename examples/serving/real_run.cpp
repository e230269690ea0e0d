#include "real_run.hpp"

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

RunResults simulate_run(const Trace& trace, const Profile& profile, const RealSettings& settings) {
  if (settings.is_layerwise())
    return serve_layered(trace, profile, layered_settings(profile, settings));
  Profile machine = profile;
  machine.device_blocks = settings.device_blocks;
  return serve(trace, machine, settings.engine);
}

}  // namespace serving
