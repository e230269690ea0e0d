#pragma once

#include <cstddef>
#include <lethe/layerkv/preemption.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cost_tables.hpp"
#include "engine.hpp"

namespace serving {

/// What serves a trace: a policy by its name, and what it may use.
struct PolicySettings {
  EngineSettings engine;
  double each_token = 0.2;        ///< the TPOT that admission keeps to
  std::size_t bound = 1024;       ///< most tokens of a layer, where the policy prunes
  PartialCosts costs;             ///< where known; else fitted to the profile
  std::uint32_t most_output = 0;  ///< LayeredSettings::most_output
  double host_bytes = 128e9;      ///< of the host's memory, for each GPU
  /// PreemptionSettings::resume, of vllm.
  std::optional<lethe::layerkv::Resume> resume = lethe::layerkv::Resume::recompute;
};

/// The policies' names, separated by commas.
std::string policy_list();
/// Throws decoder::Error that lists the policies when there is none of that name.
void check_policy(const std::string& name);

/// Serves the trace under a policy:
///
/// - vllm: all of a prompt's blocks on the device, first come first served; who is preempted is
///   computed again, or swapped out and in, as settings.resume says;
/// - layerkv: layer-wise blocks, admission by slack, interleaved layers, coalesced copies;
/// - lethe: vllm's rules, no layer beyond `bound` tokens;
/// - layerkv+lethe: both;
/// - layerkv-greedy: layerkv without the rule of slack; layerkv-forgiving: with it, but for
/// requests
///   that miss their target anyway;
/// - layerkv-last, layerkv-scattered, layerkv-fetch: layerkv without interleaving, without
///   coalescing, and fetching layers for every step whether that hides or not;
/// - layerkv-published: layers that stay are counted as published, without what the later chunks of
///   a prompt fetch again.
RunResults serve_policy(const std::string& name, const Trace& trace, const Profile& profile,
                        const PolicySettings& settings, const ServeProgress& progress = {});

}  // namespace serving
