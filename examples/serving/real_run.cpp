#include "real_run.hpp"

#include <algorithm>
#include <limits>

#include "cost_fit.hpp"
#include "error.hpp"
#include "one_line.hpp"
#include "policy_spec.hpp"
#include "pruners.hpp"

namespace serving {

LayeredSettings layered_settings(const Profile& profile, const RealSettings& settings) {
  LayeredSettings made;
  made.engine = settings.engine;
  made.each_token = settings.each_token;
  made.minds_slack = settings.minds_slack;
  made.device_blocks = settings.device_blocks * profile.model.layers;
  made.host_blocks = settings.host_blocks * profile.model.layers;
  made.offloads = settings.offloads();
  made.bounds = settings.pruned.bounds;
  made.rounds = settings.pruned.rounds;
  made.shape = cache_shape(profile, settings.engine.block_tokens, 0);
  made.costs = settings.costs;
  return made;
}

namespace {

decoder::Pruner pruner_of(const decoder::Workbench& bench, const std::string& policy,
                          std::size_t bound) {
  return decoder::make_pruner(policy,
                              {.budget = bound,
                               .rope_frequencies = bench.model.rope_frequencies(),
                               .file = &bench.model.file(),
                               .policy_option = "--pruner",
                               .budget_option = "--bound"},
                              bench.model.config());
}

/// Why no request can be served with a pruner; empty: it can.
std::string fault_of(const decoder::Pruner& pruner) {
  if (!pruner) return "drops nothing";
  if (pruner.config().head_capacity == 0) return {};
  return "gives the heads of a layer counts of their own, which blocks of all heads cannot hold";
}

/// The policies that requests can be served with, as a sentence lists them.
std::string fitting_policies(const decoder::Workbench& bench) {
  std::vector<decoder::NamedPolicy> fitting = decoder::known_policies();
  std::erase_if(fitting, [&](const decoder::NamedPolicy& each) {
    try {
      const std::size_t usual = decoder::PolicyOptions{}.budget;
      return !fault_of(pruner_of(bench, std::string(each.name), usual)).empty();
    } catch (const decoder::Error&) {
      return true;  // not of this model
    }
  });
  return decoder::policy_list(fitting);
}

[[noreturn]] void refuse_pruner(const decoder::Workbench& bench, const std::string& policy,
                                const std::string& fault) {
  throw decoder::Error("--pruner " + decoder::one_line(policy) + ": " + fault + "; choose " +
                       fitting_policies(bench));
}

/// Throws decoder::Error for a policy that no request can be served with.
decoder::Pruner checked_pruner(const decoder::Workbench& bench, const std::string& policy,
                               std::size_t bound) {
  const std::string name = decoder::PolicySpec(policy, "--pruner").name();
  const std::vector<decoder::NamedPolicy> known = decoder::known_policies();
  const auto is_it = [&](const decoder::NamedPolicy& each) { return each.name == name; };
  if (std::none_of(known.begin(), known.end(), is_it)) refuse_pruner(bench, policy, "unknown");
  decoder::Pruner pruner = pruner_of(bench, policy, bound);
  const std::string fault = fault_of(pruner);
  if (!fault.empty()) refuse_pruner(bench, policy, fault);
  return pruner;
}

/// Tokens of a prompt's piece that a step has room for beside a token of each other request: one
/// that waited for more would wait until others end.
std::size_t largest_piece(const EngineSettings& engine) {
  const std::size_t others = engine.sequences - 1;
  return engine.batch_tokens > others ? engine.batch_tokens - others : 1;
}

}  // namespace

PrunedRun pruned_run(const decoder::Workbench& bench, const std::string& policy, std::size_t bound,
                     std::size_t longest, const EngineSettings& engine) {
  // More than a request can fill would be memory for nothing.
  const decoder::Pruner pruner = checked_pruner(bench, policy, std::min(bound, 2 * longest + 1024));
  PrunedRun run{.policy = policy, .bounds = {}, .rounds = {}};
  std::size_t first = std::numeric_limits<std::size_t>::max();
  for (std::size_t layer = 0; layer < bench.model.config().layers; ++layer) {
    const std::size_t most = pruner.bound(layer);
    const std::size_t next = pruner.threshold(layer);
    run.bounds.push_back(static_cast<std::uint32_t>(most));
    first = std::min({first, most, next == 0 ? most : next});
  }
  const std::size_t largest = largest_piece(engine);
  run.rounds = {.early_piece = std::min(decoder::Pruner::largest_chunk, largest),
                .late_piece = std::min(pruner.chunk_tokens(), largest),
                .first_round = first};
  return run;
}

decoder::Pruner run_pruner(const decoder::Workbench& bench, const PrunedRun& pruned) {
  return pruner_of(bench, pruned.policy, pruned.bounds.front());
}

std::size_t longest_request(const Trace& trace) {
  std::size_t longest = 1;
  for (const Request& request : trace.requests)
    longest = std::max<std::size_t>(longest, request.input + request.output);
  return longest;
}

lethe::layerkv::ThreadCopierConfig copier_settings(const Trace& trace,
                                                   const RealSettings& settings) {
  const std::size_t blocks = settings.engine.blocks_of(longest_request(trace)) + 1;
  // One thread: the others compute.
  return {.threads = 1, .batches = 128, .batch_copies = settings.engine.sequences * blocks};
}

RunResults simulate_run(const Trace& trace, const Profile& profile, const RealSettings& settings) {
  if (settings.is_layerwise())
    return serve_layered(trace, profile, layered_settings(profile, settings));
  Profile machine = profile;
  machine.device_blocks = settings.device_blocks;
  return serve(trace, machine, settings.engine);
}

}  // namespace serving
