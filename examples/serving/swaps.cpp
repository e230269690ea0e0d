#include "swaps.hpp"

namespace serving {
namespace {

namespace layerkv = lethe::layerkv;
using layerkv::Tier;

}  // namespace

Swaps::Swaps(const PreemptionSettings& settings, const EngineSettings& engine, Memory& memory,
             RunResults& results)
    : settings_(settings), engine_(engine), memory_(memory), results_(results) {}

bool Swaps::is_worth(const Live& live) const {
  if (!settings_.may_swap()) return false;
  const std::size_t layers = settings_.shape.layers;
  const std::size_t free = memory_.tables().free_blocks(Tier::host) * layers;
  const layerkv::ResumeChoice choice = layerkv::choose_resume(
      settings_.costs, settings_.shape, live.computed, layers, free, engine_.batch_tokens);
  if (!settings_.resume) return choice.resume == layerkv::Resume::swap;
  return choice.swap_seconds < layerkv::never;
}

bool Swaps::leave(double now, std::uint32_t slot, Live& live) {
  if (!is_worth(live) || !begin(now, slot, live, true)) return false;
  ++results_.swaps;
  return true;
}

bool Swaps::come_back(double now, std::uint32_t slot, Live& live) {
  const bool is_leaving = std::any_of(moves_.begin(), moves_.end(),
                                      [&](const Move& move) { return move.slot == slot; });
  const std::size_t blocks = engine_.blocks_of(live.computed + live.missing());
  if (is_leaving || memory_.available() < blocks) return false;
  return begin(now, slot, live, false);
}

bool Swaps::begin(double now, std::uint32_t slot, Live& live, bool to_host) {
  const auto id = memory_.begin_move(live, to_host ? Tier::host : Tier::device);
  if (!id) return false;
  const auto work = layerkv::copy_of(settings_.shape, settings_.shape.layers, live.computed);
  LinkWay& way = to_host ? out_ : in_;
  const double end = way.copy(now, settings_.costs.copy.seconds(work));
  results_.link_bytes += static_cast<double>(work.bytes);
  results_.link_seconds = in_.seconds + out_.seconds;
  moves_.push_back({end, *id, slot, to_host});
  return true;
}

const std::vector<std::uint32_t>& Swaps::end(double now) {
  back_.clear();
  std::erase_if(moves_, [&](const Move& move) {
    if (move.end > now) return false;
    memory_.tables().finish_migration(move.id);
    if (!move.to_host) back_.push_back(move.slot);
    return true;
  });
  return back_;
}

}  // namespace serving
