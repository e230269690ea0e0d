#include "real_run.hpp"

#include <algorithm>
#include <limits>

#include "cost_fit.hpp"
#include "error.hpp"
#include "one_line.hpp"
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
                               .file = &bench.model.file()},
                              bench.model.config());
}

}  // namespace

PrunedRun pruned_run(const decoder::Workbench& bench, const std::string& policy, std::size_t bound,
                     std::size_t longest, const EngineSettings& engine) {
  // More than a request can fill would be memory for nothing.
  const decoder::Pruner pruner = pruner_of(bench, policy, std::min(bound, 2 * longest + 1024));
  if (!pruner)
    throw decoder::Error("--pruner " + decoder::one_line(policy) +
                         ": drops nothing; take a --policy that does not prune");
  if (pruner.config().head_capacity != 0)
    throw decoder::Error("--pruner " + decoder::one_line(policy) +
                         ": gives the heads of a layer counts of their own, which blocks of all "
                         "heads cannot hold; take one that counts by the layer");
  PrunedRun run{.policy = policy, .bounds = {}, .rounds = {}};
  std::size_t first = std::numeric_limits<std::size_t>::max();
  for (std::size_t layer = 0; layer < bench.model.config().layers; ++layer) {
    const std::size_t most = pruner.bound(layer);
    const std::size_t next = pruner.threshold(layer);
    run.bounds.push_back(static_cast<std::uint32_t>(most));
    first = std::min({first, most, next == 0 ? most : next});
  }
  const std::size_t batch = engine.batch_tokens;
  run.rounds = {.early_piece = std::min(decoder::Pruner::largest_chunk, batch),
                .late_piece = std::min(pruner.chunk_tokens(), batch),
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
