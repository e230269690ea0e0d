#include "watched_run.hpp"

#include <algorithm>

#include "engine_loop.hpp"
#include "layered_scheduler.hpp"

namespace serving {
namespace {

using lethe::layerkv::BlockTables;
using lethe::layerkv::Tier;

void count_blocks(const BlockTables& tables, lethe::layerkv::RequestId id, LayerMoment& moment) {
  for (std::size_t layer = 0; layer < moment.device.size(); ++layer) {
    const auto table = tables.table(id, layer);
    const auto blocks = static_cast<std::uint32_t>(table.size());
    const auto tier = tables.tier(id, layer);
    const auto on_host =
        tier ? (*tier == Tier::host ? blocks : 0)
             : static_cast<std::uint32_t>(std::count_if(table.begin(), table.end(), [](auto block) {
                 return block.tier() == Tier::host;
               }));
    moment.host[layer] += on_host;
    moment.device[layer] += blocks - on_host;
  }
}

LayerMoment look_at(double time, const BlockTables& tables) {
  const std::size_t layers = tables.config().layers;
  LayerMoment moment{.time = time,
                     .device = std::vector<std::uint32_t>(layers, 0),
                     .host = std::vector<std::uint32_t>(layers, 0)};
  for (lethe::layerkv::RequestId id = 0; id < tables.config().requests; ++id)
    if (tables.is_open(id)) count_blocks(tables, id, moment);
  return moment;
}

/// LayeredScheduler, looked at after its steps.
class WatchedScheduler : public LayeredScheduler {
 public:
  using LayeredScheduler::LayeredScheduler;

  void finish(double now, const std::vector<StepItem>& items) {
    LayeredScheduler::finish(now, items);
    if (moments_.wants(now)) moments_.add(look_at(now, tables()));
  }
  std::vector<LayerMoment> take() { return moments_.take(); }

 private:
  Moments<LayerMoment, 512> moments_;
};

}  // namespace

RunResults serve_watched(const Trace& trace, const Profile& profile,
                         const LayeredSettings& settings, const ServeProgress& progress) {
  RunResults results;
  results.requests.resize(trace.requests.size());
  LayeredSettings whole = settings;
  for (const Request& request : trace.requests)
    whole.longest = std::max<std::size_t>(whole.longest, request.input + request.output);
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
