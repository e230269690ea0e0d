#include "watched_scheduler.hpp"

#include <algorithm>

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

}  // namespace

void WatchedScheduler::finish(double now, const std::vector<StepItem>& items) {
  LayeredScheduler::finish(now, items);
  if (moments_.wants(now)) moments_.add(look_at(now, tables()));
}

}  // namespace serving
