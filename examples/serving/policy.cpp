#include "policy.hpp"

#include <algorithm>
#include <array>

#include "cost_fit.hpp"
#include "error.hpp"
#include "one_line.hpp"

namespace serving {
namespace {

/// Bytes that a gathered copy moves at once: there bandwidth is within 1/20 of its most.
constexpr std::size_t gathered_bytes = std::size_t{2} << 20;

struct Named {
  const char* name;
  bool is_layered, offloads, prunes, interleaves, minds_slack, gathers, hides, heeds, counts;
};
constexpr std::array<Named, 10> policies{{
    {"vllm", false, false, false, false, false, false, true, true, true},
    {"layerkv", true, true, false, true, true, true, true, true, true},
    {"lethe", true, false, true, false, false, false, true, true, true},
    {"layerkv+lethe", true, true, true, true, true, true, true, true, true},
    {"layerkv-last", true, true, false, false, true, true, true, true, true},
    {"layerkv-greedy", true, true, false, true, false, true, true, true, true},
    {"layerkv-forgiving", true, true, false, true, true, true, true, false, true},
    {"layerkv-fetch", true, true, false, true, true, true, false, true, true},
    {"layerkv-scattered", true, true, false, true, true, false, true, true, true},
    {"layerkv-published", true, true, false, true, true, true, true, true, false},
}};

const Named& policy(const std::string& name) {
  const auto found = std::find_if(policies.begin(), policies.end(),
                                  [&](const Named& known) { return name == known.name; });
  if (found == policies.end())
    throw decoder::Error("there is no policy " + decoder::one_line(name) + ": take one of " +
                         policy_list());
  return *found;
}

/// Blocks of one layer that the host holds.
std::size_t host_blocks(const lethe::layerkv::CacheShape& shape, const PolicySettings& settings) {
  const auto block = static_cast<double>(shape.token_bytes * shape.block_tokens);
  return static_cast<std::size_t>(settings.host_bytes / block);
}

PreemptionSettings preemption(const Profile& profile, const PolicySettings& settings) {
  PreemptionSettings made{.resume = settings.resume, .shape = {}, .costs = {}};
  if (!made.may_swap()) return made;
  made.shape = cache_shape(profile, settings.engine.block_tokens, gathered_bytes);
  made.host_blocks = host_blocks(made.shape, settings) / made.shape.layers;
  made.costs = completed(settings.costs, fit_costs(profile).costs);
  return made;
}

LayeredSettings layered(const Named& named, const Profile& profile,
                        const PolicySettings& settings) {
  LayeredSettings made;
  made.engine = settings.engine;
  made.offloads = named.offloads;
  made.interleaves = named.interleaves;
  made.minds_slack = named.minds_slack;
  made.hides_fetches = named.hides;
  made.heeds_missed = named.heeds;
  made.counts_fetches = named.counts;
  made.each_token = settings.each_token;
  made.most_output = settings.most_output;
  if (named.prunes)
    made.bounds.assign(profile.model.layers, static_cast<std::uint32_t>(settings.bound));
  made.device_blocks = profile.device_blocks * profile.model.layers;
  made.shape =
      cache_shape(profile, settings.engine.block_tokens, named.gathers ? gathered_bytes : 0);
  made.host_blocks = host_blocks(made.shape, settings);
  made.costs = completed(settings.costs, fit_costs(profile).costs);
  return made;
}

}  // namespace

std::string policy_list() {
  std::string names;
  for (const Named& known : policies)
    names += (names.empty() ? "" : ", ") + std::string(known.name);
  return names;
}

void check_policy(const std::string& name) { policy(name); }

RunResults serve_policy(const std::string& name, const Trace& trace, const Profile& profile,
                        const PolicySettings& settings, const ServeProgress& progress) {
  const Named& named = policy(name);
  if (!named.is_layered)
    return serve(trace, profile, settings.engine, preemption(profile, settings), progress);
  return serve_layered(trace, profile, layered(named, profile, settings), progress);
}

}  // namespace serving
