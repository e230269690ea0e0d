#include <algorithm>

#include "layered_scheduler.hpp"

namespace serving {

using lethe::layerkv::Tier;

std::size_t LayeredScheduler::step_tokens(const Live& live, std::size_t budget) const {
  const std::size_t missing = live.missing();
  if (!settings_.rounds.are_heeded()) return std::min(missing, budget);
  const std::size_t tokens = std::min(missing, settings_.rounds.tokens(live.computed, live.input));
  return tokens <= budget ? tokens : 0;
}

std::size_t LayeredScheduler::held(const LayeredLive& request, std::size_t layer) const {
  return prunes() ? pruning_.held(request.live.id)[layer] : request.live.computed;
}

std::size_t LayeredScheduler::rows(const LayeredLive& request, std::size_t layer,
                                   std::size_t tokens) const {
  const EngineSettings& engine = settings_.engine;
  if (!prunes()) return bounded(layer, engine.blocks_of(tokens) * engine.block_tokens);
  const std::size_t all = held(request, layer) + tokens - request.live.computed;
  return engine.blocks_of(bounded(layer, all)) * engine.block_tokens;
}

std::size_t LayeredScheduler::layer_blocks(const LayeredLive& request) const {
  if (!prunes()) return settings_.engine.blocks_of(bounded(0, request.room));
  std::size_t most = 0;
  for (std::size_t layer = 0; layer < layers(); ++layer)
    most = std::max(most, tables_.table(request.live.id, layer).size());
  return most;
}

bool LayeredScheduler::is_all_on_device(const LayeredLive& request) const {
  for (std::size_t layer = 0; layer < layers(); ++layer)
    if (tables_.tier(request.live.id, layer) != Tier::device ||
        tables_.busy(request.live.id, layer))
      return false;
  return true;
}

void LayeredScheduler::prune_due() {
  are_awaiting_ = false;
  for (const std::uint32_t slot : running_) {
    LayeredLive& request = lives_[slot];
    const std::size_t tokens = step_tokens(request.live, settings_.engine.batch_tokens);
    request.awaits_round = false;
    if (request.has_room || tokens == 0 || !pruning_.is_due(request.live.id, tokens)) continue;
    // At once: its layers may leave before it is computed.
    if (is_all_on_device(request)) {
      open_step(request, tokens);
      continue;
    }
    request.awaits_round = true;
    are_awaiting_ = true;
  }
}

void LayeredScheduler::return_awaited(double now) {
  for (const std::uint32_t slot : running_)
    while (lives_[slot].awaits_round && move_one(now, slot, false)) continue;
}

void LayeredScheduler::unblock(double now) {
  while (moves_.empty() && running_.size() > 1) {
    preempt_last();
    return_awaited(now);
  }
}

void LayeredScheduler::open_step(LayeredLive& request, std::size_t tokens) {
  if (!prunes() || request.has_room) return;
  pruning_.make_room(request.live.id, tokens);
  request.has_room = true;
}

}  // namespace serving
