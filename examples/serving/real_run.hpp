#pragma once

#include <cstddef>
#include <functional>
#include <lethe/layerkv/copier.hpp>
#include <lethe/layerkv/thread_copier.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "block_memory.hpp"
#include "engine.hpp"
#include "layered_scheduler.hpp"
#include "memory.hpp"
#include "real_loop.hpp"
#include "request_pruners.hpp"
#include "workbench.hpp"

namespace serving {

/// A pruner for each request of a run.
struct PrunedRun {
  std::string policy;                 ///< as the decoder's; empty: every token stays
  std::vector<std::uint32_t> bounds;  ///< the most tokens that each layer holds
  RoundSteps rounds;

  bool prunes() const { return !policy.empty(); }
};

/// What a queue is served with. Blocks of all layers.
struct RealSettings {
  EngineSettings engine;
  std::size_t device_blocks = 0;
  std::size_t host_blocks = 0;  ///< 0: whole requests on the device, as vLLM has them
  double each_token = 0.2;      ///< the TPOT that admission keeps to
  bool minds_slack = true;      ///< as LayeredSettings
  lethe::layerkv::Costs costs;  ///< what the scheduler of layers reckons with
  PrunedRun pruned;

  bool offloads() const { return host_blocks > 0; }
  /// Whether each layer has a block table.
  bool is_layerwise() const { return offloads() || pruned.prunes(); }
};

/// Pruning by a policy of the decoder's command line, no layer beyond `bound` tokens.
///
/// @param longest  tokens of the longest request
/// @throws decoder::Error, which names --pruner and --bound, for an unknown policy, one that cannot
///         prune blocks of all heads, and a bound that it cannot work with
PrunedRun pruned_run(const decoder::Workbench& bench, const std::string& policy, std::size_t bound,
                     std::size_t longest, const EngineSettings& engine);

/// The same settings for the scheduler of layers.
LayeredSettings layered_settings(const Profile& profile, const RealSettings& settings);

/// The pruner that each request begins with.
decoder::Pruner run_pruner(const decoder::Workbench& bench, const PrunedRun& pruned);

/// Tokens of the longest request, its answer included.
std::size_t longest_request(const Trace& trace);

/// A thread that copies, with room for whatever such a run has under way at a time.
lethe::layerkv::ThreadCopierConfig copier_settings(const Trace& trace,
                                                   const RealSettings& settings);

/// The steps of an engine that allocates whole requests, or layers, simulated.
RunResults simulate_run(const Trace& trace, const Profile& profile, const RealSettings& settings);

namespace detail {

template <class Policy, class Runner>
void serve_all(const Trace& trace, Policy& policy, Runner& runner, RunClock& clock,
               RunResults& results, Texts& texts, const RunHooks& hooks) {
  RealLoop<Policy, Runner>(trace, policy, runner, clock, results, texts).run(hooks);
  using lethe::layerkv::Tier;
  const lethe::layerkv::BlockTables& tables = policy.tables();
  tables.check();
  if (tables.free_blocks(Tier::device) != tables.config().device_blocks ||
      tables.free_blocks(Tier::host) != tables.config().host_blocks)
    throw std::logic_error("a run has lost blocks");
}

/// Blocks of one layer that a step may fetch, or send.
inline std::size_t step_blocks(const lethe::layerkv::BlockTablesConfig& tables) {
  return tables.requests * tables.request_blocks;
}

template <class Copier>
void serve_whole(decoder::Workbench& bench, const Trace& trace, const Profile& profile,
                 const RealSettings& settings, Copier& copier, RunResults& results, Texts& texts,
                 const RunHooks& hooks) {
  const decoder::PagedCache empty(bench.model.config(), bench.cache_type,
                                  settings.engine.block_tokens);
  Memory tables(trace, settings.engine, settings.device_blocks, longest_request(trace));
  Scheduler scheduler(settings.engine, tables, results);
  BlockMemory memory({empty.block_bytes(), empty.block_tokens(), empty.layers(), true},
                     scheduler.tables().config());
  RunClock clock;
  RealLink<Copier> link({.bytes_per_second = profile.link_bytes, .step_blocks = 1}, memory, copier,
                        clock);
  StepRunner<RealLink<Copier>> runner(bench.decoder, empty, bench.tokenizer.size(), memory, link);
  serve_all(trace, scheduler, runner, clock, results, texts, hooks);
}

/// What serving by layers consists of, for the scheduler to reach it.
template <class Copier>
struct LayerParts {
  const LayeredScheduler* scheduler = nullptr;
  RealLink<Copier>* link = nullptr;
  RequestPruners* pruners = nullptr;
};

template <class Copier>
Carrier carrier_of(const LayerParts<Copier>& parts) {
  return {.begin =
              [&](auto id, auto request, std::size_t layer, std::size_t tokens, bool to_host) {
                parts.link->begin_move(parts.scheduler->tables(), id, request, layer, tokens,
                                       to_host);
              },
          .state = [&](auto id) { return parts.link->state(id); }};
}

template <class Copier>
Pruning pruning_of(const LayerParts<Copier>& parts) {
  return {.begin = [&](auto id) { parts.pruners->begin(id); },
          .is_due = [&](auto id, auto tokens) { return parts.pruners->is_due(id, tokens); },
          .make_room = [&](auto id, auto tokens) { parts.pruners->make_room(id, tokens); },
          .held = [&](auto id) { return parts.pruners->held(id); }};
}

template <class Copier>
void serve_layers(decoder::Workbench& bench, const Trace& trace, const Profile& profile,
                  const RealSettings& settings, Copier& copier, RunResults& results, Texts& texts,
                  const RunHooks& hooks) {
  const decoder::PagedCache empty(bench.model.config(), bench.cache_type,
                                  settings.engine.block_tokens);
  LayeredSettings layered = layered_settings(profile, settings);
  layered.longest = longest_request(trace);
  LayerParts<Copier> parts;
  const bool prunes = settings.pruned.prunes();
  LayeredScheduler scheduler(layered, results, carrier_of(parts),
                             prunes ? pruning_of(parts) : Pruning{});
  parts.scheduler = &scheduler;
  const lethe::layerkv::BlockTablesConfig& tables = scheduler.tables().config();
  BlockMemory memory({empty.block_bytes(), empty.block_tokens(), empty.layers(), false}, tables);
  RunClock clock;
  RealLink<Copier> link({profile.link_bytes, step_blocks(tables), tables.migrations}, memory,
                        copier, clock);
  parts.link = &link;
  std::optional<RequestPruners> pruners;
  if (prunes)
    pruners.emplace(run_pruner(bench, settings.pruned), scheduler.tables(), memory, empty);
  parts.pruners = pruners ? &*pruners : nullptr;
  StepRunner<RealLink<Copier>> runner(bench.decoder, empty, bench.tokenizer.size(), memory, link,
                                      parts.pruners);
  serve_all(trace, scheduler, runner, clock, results, texts, hooks);
  if (pruners) results.dropped_tokens = pruners->dropped();
}

}  // namespace detail

/// Serves a queue with the decoder, on the wall's clock; throws std::logic_error when a block is
/// lost.
///
/// @param profile  the model's shape and the link's speed; its step times are not looked at
/// @param copier   carries what moves between the pools
/// @param texts    the prompts; what is generated is appended
template <lethe::layerkv::Copier Copier>
RunResults serve_really(decoder::Workbench& bench, const Trace& trace, const Profile& profile,
                        const RealSettings& settings, Copier& copier, Texts& texts,
                        const RunHooks& hooks = {}) {
  RunResults results;
  results.requests.resize(trace.requests.size());
  if (settings.is_layerwise())
    detail::serve_layers(bench, trace, profile, settings, copier, results, texts, hooks);
  else
    detail::serve_whole(bench, trace, profile, settings, copier, results, texts, hooks);
  return results;
}

}  // namespace serving
