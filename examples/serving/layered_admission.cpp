#include <algorithm>

#include "layered_scheduler.hpp"

namespace serving {
namespace {

namespace layerkv = lethe::layerkv;
using layerkv::Tier;

}  // namespace

void LayeredScheduler::admit(double now, std::vector<StepItem>& items, std::size_t& budget) {
  if (waiting_.empty() || budget == 0 || running_.size() >= settings_.engine.sequences) return;
  const layerkv::AdmissionDecision decision = decide(now, budget);
  for (std::size_t i = 0; i < decision.admitted && budget > 0; ++i)
    if (!place(now, admitted_[i], items, budget)) return;
}

double LayeredScheduler::look_at_running(double now) {
  decoding_.clear();
  double prefill = 0;
  for (const std::uint32_t slot : running_) {
    const LayeredLive& request = lives_[slot];
    const Live& live = request.live;
    // One token missing after the first is a decode that waits for its fetch, no prefill.
    if (live.known > live.computed + (request.first < 0 ? 0U : 1U))
      prefill += settings_.costs.prefill.seconds({live.known - live.computed, live.computed});
    if (request.first < 0) continue;
    const std::size_t generated = live.known - live.input;
    decoding_.push_back({.generated = generated,
                         .decoding_seconds = now - request.first,
                         .seconds_per_token = step_seconds_,
                         .remaining = lengths_.predict(generated).at_least - generated});
  }
  return prefill;
}

layerkv::AdmissionDecision LayeredScheduler::decide(double now, std::size_t budget) {
  struct Queue {
    const LayeredScheduler& all;
    std::size_t size() const { return all.waiting_.size(); }
    layerkv::WaitingRequest operator[](std::size_t i) const {
      const LayeredLive& request = all.lives_[all.waiting_[i]];
      return {.tokens = request.live.known,
              .most_tokens = all.largest_bound_,
              .arrival = request.arrival};
    }
  };
  const double prefill = look_at_running(now);
  const layerkv::Situation situation{
      .decoding = decoding_,
      .costs = settings_.costs,
      .free = {tables_.free_blocks(Tier::device), tables_.free_blocks(Tier::host)},
      .all = {settings_.device_blocks, tables_.config().host_blocks},
      .requests = settings_.engine.sequences - running_.size(),
      .tokens = budget,
      .prefill_seconds = prefill,
      .now = now};
  if (settings_.offloads) return layerwise_.decide(situation, Queue{*this}, admitted_);
  return whole_.decide(situation, Queue{*this}, admitted_);
}

bool LayeredScheduler::place(double now, const layerkv::AdmittedRequest& admitted,
                             std::vector<StepItem>& items, std::size_t& budget) {
  const std::uint32_t slot = waiting_.front();
  LayeredLive& request = lives_[slot];
  const std::size_t blocks = settings_.engine.blocks_of(bounded(0, request.live.known));
  // Those that run take a block a layer before long. With some layers away it cannot decode as the
  // others do, so what it kept beyond the fewest would be lost to those that can.
  const std::size_t growth = running_.size() * layers();
  const bool all_fit = admitted.layers.most >= layers() &&
                       tables_.free_blocks(Tier::device) >= growth + layers() * blocks;
  // A round needs all layers: a prompt of which one prunes keeps them. Policies with a total for
  // all layers are due from about 0.98 of the bound on: a prompt just below that may be placed with
  // layers away, and waits for them before the round that its answer brings.
  const bool is_pruned =
      settings_.rounds.are_heeded() && request.live.known >= settings_.rounds.first_round;
  const std::size_t retained = all_fit || is_pruned ? layers() : admitted.layers.fewest;
  if (!allocate(request, retained)) return false;
  waiting_.pop_front();
  running_.push_back(slot);
  if (!request.live.was_scheduled) results_.requests[request.live.index].scheduled = now;
  request.live.was_scheduled = true;
  const std::size_t tokens = step_tokens(request.live, budget);
  if (tokens == 0) return true;
  open_step(request, tokens);
  add_item(slot, tokens, items, budget);
  return true;
}

bool LayeredScheduler::allocate(LayeredLive& request, std::size_t retained) {
  const auto choice =
      settings_.interleaves ? layerkv::LayerChoice::interleaved : layerkv::LayerChoice::last;
  request.live.id = tables_.open().value();
  if (prunes()) pruning_.begin(request.live.id);
  for (std::size_t layer = 0; layer < layers(); ++layer) {
    request.on_host[layer] = !layerkv::stays(layer, layers(), retained, choice);
    request.host_layers += request.on_host[layer] ? 1 : 0;
  }
  if (grow(request, request.live.known)) return true;
  release(request);
  return false;
}

void LayeredScheduler::add_item(std::uint32_t slot, std::size_t tokens,
                                std::vector<StepItem>& items, std::size_t& budget) {
  Live& live = lives_[slot].live;
  lives_[slot].has_room = false;
  const auto count = static_cast<std::uint32_t>(tokens);
  const bool gives = live.missing() == count;
  items.push_back({slot, count, live.computed, gives});
  live.computed += count;
  live.ahead += gives ? 1 : 0;
  budget -= tokens;
}

double LayeredScheduler::end_of_step(double begin, double seconds,
                                     const std::vector<StepItem>& items) {
  copies_.begin(layers());
  compute_seconds_ = seconds;
  for (const StepItem& item : items) {
    const LayeredLive& request = lives_[item.slot];
    if (request.host_layers == 0) continue;
    copies_.is_empty = false;
    for (std::size_t layer = 0; layer < layers(); ++layer) {
      if (!request.on_host[layer]) continue;
      const auto in = layerkv::copy_of(settings_.shape, 1, bounded(layer, item.context));
      const auto out = layerkv::copy_of(settings_.shape, 1, item.tokens);
      copies_.in[layer] += settings_.costs.copy.seconds(in);
      copies_.out[layer] += settings_.costs.copy.seconds(out);
      results_.link_bytes += static_cast<double>(in.bytes + out.bytes);
    }
  }
  double end = begin + seconds;
  if (!copies_.is_empty)
    end = serving::end_of_step(begin, seconds / static_cast<double>(layers()), copies_, in_, out_);
  // What a token takes now: recent steps count most.
  step_seconds_ += 0.2 * (end - begin - step_seconds_);
  results_.link_seconds = in_.seconds + out_.seconds;
  return end;
}

void LayeredScheduler::finish(double now, const std::vector<StepItem>& items) {
  for (const StepItem& item : items) {
    if (!item.gives_token) continue;
    LayeredLive& request = lives_[item.slot];
    ++request.live.known;
    --request.live.ahead;
    Served& served = results_.requests[request.live.index];
    if (served.first < 0) served.first = request.first = now;
    if (request.live.known == request.live.longest()) end(now, item.slot);
  }
}

void LayeredScheduler::end(double now, std::uint32_t slot) {
  LayeredLive& request = lives_[slot];
  Served& served = results_.requests[request.live.index];
  served.end = now;
  served.preemptions = request.live.preemptions;
  lengths_.observe(request.live.output);
  const auto at = std::find(running_.begin(), running_.end(), slot);
  if (at != running_.end()) {
    release(request);
    running_.erase(at);
  } else {
    waiting_.erase(std::find(waiting_.begin(), waiting_.end(), slot));
  }
  unused_.push_back(slot);
  ++finished_;
}

}  // namespace serving
