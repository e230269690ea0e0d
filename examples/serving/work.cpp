#include "work.hpp"

#include <utility>

#include "error.hpp"
#include "one_line.hpp"
#include "progress.hpp"

namespace serving {

Trace at_rate(Trace trace, double rate) {
  const double span = trace.requests.back().arrival - trace.requests.front().arrival;
  if (rate <= 0) return trace;
  if (span <= 0)
    throw decoder::Error("--rate: all requests of " + decoder::one_line(trace.name) +
                         " arrive at once, which no speed changes");
  speed_up(trace, rate * span / static_cast<double>(trace.requests.size()));
  return trace;
}

Trace trace_of(const WorkOptions& options) {
  Trace trace;
  if (options.trace.empty()) {
    SyntheticTrace made;
    made.seed = options.seed;
    if (options.requests > 0) made.requests = options.requests;
    trace = synthetic_trace(made);
  } else {
    trace = read_trace(options.trace);
    if (options.requests > 0 && options.requests < trace.requests.size())
      trace.requests.resize(options.requests);
  }
  return at_rate(std::move(trace), options.rate);
}

Profile profile_of(const MachineOptions& options) {
  Profile profile = read_profile(options.profile, model_shape(options.model), options.gpus,
                                 EngineSettings{}.block_tokens);
  if (options.blocks > 0) profile.device_blocks = options.blocks;
  if (options.link_gigabytes > 0)
    profile.link_bytes = static_cast<double>(profile.gpus) * options.link_gigabytes * 1e9;
  return profile;
}

PolicySettings policy_settings(const ServiceOptions& options, const MachineOptions& machine) {
  PolicySettings settings;
  settings.engine.has_prefix_cache = options.has_prefix_cache;
  settings.each_token = options.each_token;
  settings.bound = options.bound;
  settings.most_output = options.max_tokens;
  settings.host_bytes = options.host_gigabytes * 1e9;
  if (options.preemption == "swap") settings.resume = lethe::layerkv::Resume::swap;
  if (options.preemption == "cheaper") settings.resume = std::nullopt;
  if (options.costs.empty()) return settings;
  settings.costs = read_costs(options.costs);
  if (settings.costs.copy && machine.link_gigabytes > 0)
    throw decoder::Error("--link-gb: " + decoder::one_line(options.costs) +
                         " says what copies take; give one of the two");
  return settings;
}

Objectives objectives_of(const ServiceOptions& options) {
  return {options.first_token, options.each_token};
}

RunResults serve_shown(const std::string& policy, const Trace& trace, const Profile& profile,
                       const PolicySettings& settings) {
  decoder::Progress progress("Serving with " + policy, trace.requests.size());
  std::size_t shown = 0;
  return serve_policy(policy, trace, profile, settings, [&](std::size_t done) {
    progress.advance(done - shown);
    shown = done;
  });
}

}  // namespace serving
