#include "engine.hpp"

#include <algorithm>

#include "engine_loop.hpp"
#include "watched_scheduler.hpp"

namespace serving {
namespace {

std::size_t longest(const Trace& trace) {
  std::size_t tokens = 1;
  for (const Request& request : trace.requests)
    tokens = std::max<std::size_t>(tokens, request.input + request.output);
  return tokens;
}

}  // namespace

RunResults serve(const Trace& trace, const Profile& profile, const EngineSettings& settings,
                 const PreemptionSettings& preemption, const ServeProgress& progress) {
  RunResults results;
  results.requests.resize(trace.requests.size());
  const std::size_t most = longest(trace);
  // More than all live requests could fill is only looked through.
  const std::size_t host_blocks =
      std::min(preemption.host_blocks, settings.sequences * (settings.blocks_of(most) + 1));
  Memory memory(trace, settings, profile.device_blocks, most, host_blocks);
  Scheduler scheduler(settings, memory, results, preemption);
  EngineLoop(trace, profile.times, settings, scheduler, results).run(progress);
  memory.tables().check();
  return results;
}

RunResults serve_layered(const Trace& trace, const Profile& profile,
                         const LayeredSettings& settings, const ServeProgress& progress) {
  RunResults results;
  results.requests.resize(trace.requests.size());
  LayeredSettings whole = settings;
  whole.longest = longest(trace);
  // More than all live requests could fill is only looked through.
  const std::size_t blocks = whole.longest / whole.shape.block_tokens + 1;
  whole.host_blocks =
      std::min(whole.host_blocks, whole.engine.sequences * whole.shape.layers * blocks);
  WatchedScheduler scheduler(whole, results);
  EngineLoop(trace, profile.times, settings.engine, scheduler, results).run(progress);
  scheduler.tables().check();
  results.layer_moments = scheduler.take();
  return results;
}

}  // namespace serving
