#include "layered_scheduler.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

namespace serving {
namespace {

namespace layerkv = lethe::layerkv;
using layerkv::Tier;

/// Prompts that one decision lets in.
constexpr std::size_t most_admitted = 16;

layerkv::BlockTablesConfig tables_config(const LayeredSettings& settings) {
  return {.layers = settings.shape.layers,
          .block_tokens = settings.engine.block_tokens,
          .device_blocks = settings.device_blocks,
          .host_blocks = settings.offloads ? settings.host_blocks : 0,
          .requests = settings.engine.sequences,
          .request_blocks = settings.engine.blocks_of(settings.longest) + 1,
          .migrations = 4 * settings.shape.layers};
}

layerkv::LayerwiseConfig layerwise_config(const LayeredSettings& settings) {
  return {.shape = settings.shape,
          .tpot = settings.minds_slack ? settings.each_token : 0,
          .heeds_missed = settings.heeds_missed,
          .chunk = settings.engine.batch_tokens,
          .fetches_chunks = settings.counts_fetches,
          .staging = std::min<std::size_t>(2, settings.shape.layers)};
}

}  // namespace

LayeredScheduler::LayeredScheduler(const LayeredSettings& settings, RunResults& results,
                                   Carrier carrier, Pruning pruning)
    : settings_(settings),
      results_(results),
      carrier_(std::move(carrier)),
      pruning_(std::move(pruning)),
      tables_(tables_config(settings)),
      layerwise_(layerwise_config(settings)),
      whole_({.shape = settings.shape, .chunk = settings.engine.batch_tokens}),
      forecast_({.block_tokens = settings.engine.block_tokens}),
      watermarks_({.device_blocks = settings.device_blocks}),
      plan_(64),
      admitted_(most_admitted) {
  for (const std::uint32_t bound : settings.bounds)
    largest_bound_ = std::max<std::size_t>(largest_bound_, bound);
}

std::uint32_t LayeredScheduler::bounded(std::size_t layer, std::size_t tokens) const {
  const auto count = static_cast<std::uint32_t>(tokens);
  return settings_.bounds.empty() ? count : std::min(count, settings_.bounds[layer]);
}

bool LayeredScheduler::fits(const Request& request) const {
  std::size_t blocks = 0;
  for (std::size_t layer = 0; layer < layers(); ++layer)
    blocks += settings_.engine.blocks_of(bounded(layer, request.input + request.output));
  return blocks <= settings_.device_blocks;
}

double LayeredScheduler::context(std::uint32_t, double tokens) const {
  if (settings_.bounds.empty()) return tokens;
  double sum = 0;
  for (const std::uint32_t bound : settings_.bounds)
    sum += std::min(tokens, static_cast<double>(bound));
  return sum / static_cast<double>(settings_.bounds.size());
}

double LayeredScheduler::device_share() const {
  return 1 - static_cast<double>(tables_.free_blocks(Tier::device)) /
                 static_cast<double>(settings_.device_blocks);
}

double LayeredScheduler::host_share() const {
  const std::size_t all = tables_.config().host_blocks;
  if (all == 0) return 0;
  return 1 - static_cast<double>(tables_.free_blocks(Tier::host)) / static_cast<double>(all);
}

double LayeredScheduler::next_event() const {
  double next = std::numeric_limits<double>::infinity();
  for (const Move& move : moves_) next = std::min(next, move.end);
  return next;
}

void LayeredScheduler::arrive(std::uint32_t index, const Request& request) {
  if (unused_.empty()) {
    unused_.push_back(static_cast<std::uint32_t>(lives_.size()));
    lives_.emplace_back();
  }
  const std::uint32_t slot = unused_.back();
  unused_.pop_back();
  LayeredLive& added = lives_[slot];
  added.live = {
      .index = index, .input = request.input, .output = request.output, .known = request.input};
  added.on_host.assign(layers(), false);
  added.host_layers = added.moving_out = added.moving_in = 0;
  added.room = 0;
  added.has_room = added.awaits_round = false;
  const std::uint32_t stated =
      request.most_output > 0 ? request.most_output : settings_.most_output;
  added.most = request.input + std::max(stated, request.output);
  added.arrival = request.arrival;
  added.first = -1;
  waiting_.push_back(slot);
}

void LayeredScheduler::schedule(double now, std::vector<StepItem>& items) {
  items.clear();
  has_preempted_ = false;
  end_moves(now);
  // Blocks are taken whole, so that none is written to by two.
  if (!tables_.take_copies().empty()) throw std::logic_error("a block was appended to on its way");
  if (prunes()) prune_due();
  if (settings_.offloads) rebalance(now);
  std::size_t budget = settings_.engine.batch_tokens;
  fetch_seconds_ = 0;
  schedule_running(now, items, budget);
  if (!has_preempted_ && !are_awaiting_) admit(now, items, budget);
  if (items.empty()) schedule_unhidden(items, budget);
  if (items.empty() && are_awaiting_) unblock(now);
}

void LayeredScheduler::end_moves(double now) {
  std::erase_if(moves_, [&](const Move& move) {
    const MoveState found = state(move, now);
    if (found != MoveState::under_way) end_move(move, found == MoveState::there);
    return found != MoveState::under_way;
  });
}

MoveState LayeredScheduler::state(const Move& move, double now) const {
  if (carrier_.state) return carrier_.state(move.id);
  return move.end <= now ? MoveState::there : MoveState::under_way;
}

void LayeredScheduler::end_move(const Move& move, bool is_there) {
  if (is_there)
    tables_.finish_migration(move.id);
  else
    tables_.cancel_migration(move.id);
  if (move.slot == layerkv::no_id) return;
  LayeredLive& request = lives_[move.slot];
  --(move.to_host ? request.moving_out : request.moving_in);
  if (!is_there) return;
  // What was appended meanwhile lies where the layer was; a round needs all of it.
  const bool is_split = tables_.tier(request.live.id, move.layer) != Tier::device;
  if (prunes() && !move.to_host && is_split) return;
  request.on_host[move.layer] = move.to_host;
  request.host_layers += move.to_host ? 1 : std::size_t{0} - 1;
}

layerkv::LowestPoint LayeredScheduler::forecast() {
  forecast_.begin(tables_.free_blocks(Tier::device));
  for (const std::uint32_t slot : running_) {
    const LayeredLive& request = lives_[slot];
    if (request.host_layers > 0 && settings_.hides_fetches) continue;
    const std::size_t device = layers() - request.host_layers - request.moving_out;
    const auto ahead = lengths_.predict(request.live.known - request.live.input);
    std::size_t left = layerkv::unbounded;
    if (ahead.below != layerkv::unbounded)
      left = ahead.below - (request.live.known - request.live.input);
    forecast_.add({.tokens = bounded(0, request.live.known),
                   .most_tokens = bounded(0, request.most),
                   .device_layers = device,
                   .device_blocks = device * layer_blocks(request),
                   .steps_left = left});
  }
  // Layers on their way to the host come free.
  for (const Move& move : moves_)
    if (move.to_host && move.slot != layerkv::no_id)
      forecast_.change(1, static_cast<std::int64_t>(layer_blocks(lives_[move.slot])));
  return forecast_.lowest();
}

layerkv::MovableRequest LayeredScheduler::movable(const LayeredLive& request) const {
  const bool decodes = request.live.computed >= request.live.input;
  if (!decodes || request.awaits_round) return {};
  return {.device_layers = layers() - request.host_layers - request.moving_out,
          .host_layers = request.host_layers - request.moving_in,
          .layer_blocks = layer_blocks(request)};
}

bool LayeredScheduler::is_returning_enough(double now) const {
  // What steps fetch shares the link: a few steps' worth ahead will do.
  return last_return_ > now + 4 * step_seconds_;
}

void LayeredScheduler::rebalance(double now) {
  if (are_awaiting_) return_awaited(now);
  const layerkv::LowestPoint lowest = forecast();
  movable_.clear();
  for (const std::uint32_t slot : running_) movable_.push_back(movable(lives_[slot]));
  const std::size_t wanted = watermarks_.to_offload(lowest);
  if (wanted > 0) {
    const auto plan =
        layerkv::plan_offload(movable_, wanted, tables_.free_blocks(Tier::host), plan_);
    move(now, std::span(plan_).first(plan.moves), true);
    return;
  }
  if (are_awaiting_ || is_returning_enough(now)) return;
  const std::size_t allowed = watermarks_.to_return(lowest);
  const auto plan = layerkv::plan_return(movable_, allowed, plan_);
  move(now, std::span(plan_).first(plan.moves), false);
}

void LayeredScheduler::move(double now, std::span<const layerkv::LayerMove> moves, bool to_host) {
  for (const layerkv::LayerMove& wanted : moves)
    for (std::size_t i = 0; i < wanted.layers; ++i) {
      if (!to_host && is_returning_enough(now)) return;
      if (!move_one(now, running_[wanted.request], to_host)) break;
    }
}

bool LayeredScheduler::move_one(double now, std::uint32_t slot, bool to_host) {
  LayeredLive& request = lives_[slot];
  const auto on_device = [&](std::size_t layer) {
    return !request.on_host[layer] && !tables_.busy(request.live.id, layer);
  };
  const auto present = [&](std::size_t layer) {
    return !request.on_host[layer] || tables_.busy(request.live.id, layer);
  };
  const auto layer = to_host ? layerkv::next_to_offload(layers(), on_device)
                             : layerkv::next_to_return(layers(), present);
  if (!layer) return false;
  const auto id =
      tables_.begin_migration(request.live.id, *layer, to_host ? Tier::host : Tier::device);
  if (!id) return false;
  const auto work = layerkv::copy_of(settings_.shape, 1, bounded(*layer, request.room));
  if (carrier_.begin) carrier_.begin(*id, request.live.id, *layer, held(request, *layer), to_host);
  LinkWay& way = to_host ? out_ : in_;
  const double end = way.copy(now, settings_.costs.copy.seconds(work));
  results_.link_bytes += static_cast<double>(work.bytes);
  ++(to_host ? request.moving_out : request.moving_in);
  if (!to_host) last_return_ = end;
  moves_.push_back({end, *id, slot, static_cast<std::uint32_t>(*layer), to_host});
  return true;
}

void LayeredScheduler::schedule_running(double now, std::vector<StepItem>& items,
                                        std::size_t& budget) {
  for (std::size_t i = 0; i < running_.size() && budget > 0; ++i) {
    const std::uint32_t slot = running_[i];
    const Live& live = lives_[slot].live;
    const std::size_t tokens = step_tokens(live, budget);
    if (live.is_ending() || tokens == 0 || lives_[slot].awaits_round) continue;
    if (!is_hidden(now, lives_[slot])) continue;
    open_step(lives_[slot], tokens);
    if (!make_room(i, live.computed + tokens)) {
      if (running_.size() <= i) return;
      continue;
    }
    add_item(slot, tokens, items, budget);
  }
}

void LayeredScheduler::schedule_unhidden(std::vector<StepItem>& items, std::size_t& budget) {
  for (std::size_t i = 0; i < running_.size(); ++i) {
    const std::uint32_t slot = running_[i];
    const Live& live = lives_[slot].live;
    const std::size_t tokens = step_tokens(live, budget);
    if (live.is_ending() || tokens == 0 || lives_[slot].awaits_round) continue;
    open_step(lives_[slot], tokens);
    if (make_room(i, live.computed + tokens)) return add_item(slot, tokens, items, budget);
  }
}

bool LayeredScheduler::is_hidden(double now, const LayeredLive& request) {
  if (request.host_layers == 0) return true;
  const Live& live = request.live;
  const auto work = layerkv::copy_of(settings_.shape, 1, bounded(0, live.computed));
  const double seconds =
      static_cast<double>(request.host_layers) * settings_.costs.copy.seconds(work);
  const bool is_prefill = live.missing() > 1;
  // What returns for good has the link first: it is fetched once, not for every token.
  const double free = compute_seconds_ - std::max(0.0, last_return_ - now);
  const bool fits = fetch_seconds_ + seconds <= free;
  if (settings_.hides_fetches && !is_prefill && !fits) return false;
  fetch_seconds_ += seconds;
  return true;
}

bool LayeredScheduler::grow(LayeredLive& request, std::size_t tokens) {
  if (tokens <= request.room && !prunes()) return true;
  std::size_t need[2] = {0, 0};
  for (std::size_t layer = 0; layer < layers(); ++layer) {
    const std::size_t held = tables_.tokens(request.live.id, layer);
    const std::size_t wanted = rows(request, layer, tokens);
    need[request.on_host[layer] ? 1 : 0] +=
        wanted <= held ? 0 : tables_.blocks_needed(request.live.id, layer, wanted - held);
  }
  if (need[0] > tables_.free_blocks(Tier::device) || need[1] > tables_.free_blocks(Tier::host))
    return false;
  for (std::size_t layer = 0; layer < layers(); ++layer) {
    const std::size_t held = tables_.tokens(request.live.id, layer);
    const std::size_t wanted = rows(request, layer, tokens);
    if (wanted <= held) continue;
    const Tier tier = request.on_host[layer] ? Tier::host : Tier::device;
    if (!tables_.append(request.live.id, layer, wanted - held, tier)) return false;
  }
  const std::size_t blocks = settings_.engine.blocks_of(tokens);
  request.room = static_cast<std::uint32_t>(blocks * settings_.engine.block_tokens);
  return true;
}

bool LayeredScheduler::make_room(std::size_t position, std::size_t tokens) {
  while (!grow(lives_[running_[position]], tokens)) {
    const bool is_coming =
        std::any_of(moves_.begin(), moves_.end(), [](const Move& move) { return move.to_host; });
    if (is_coming) return false;
    preempt_last();
    if (running_.size() <= position) return false;
  }
  return true;
}

void LayeredScheduler::preempt_last() {
  const std::uint32_t slot = running_.back();
  running_.pop_back();
  LayeredLive& request = lives_[slot];
  release(request);
  request.live.computed = 0;
  ++request.live.preemptions;
  ++results_.preemptions;
  waiting_.push_front(slot);
  has_preempted_ = true;
}

void LayeredScheduler::release(LayeredLive& request) {
  const auto slot = static_cast<std::uint32_t>(&request - lives_.data());
  for (Move& move : moves_)
    if (move.slot == slot) move.slot = layerkv::no_id;
  tables_.close(request.live.id);
  request.live.id = layerkv::no_id;
  request.on_host.assign(layers(), false);
  request.host_layers = request.moving_in = request.moving_out = 0;
  request.room = 0;
  request.has_room = request.awaits_round = false;
}

}  // namespace serving
