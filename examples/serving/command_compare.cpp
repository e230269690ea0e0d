#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "commands.hpp"
#include "output.hpp"
#include "page.hpp"
#include "work.hpp"

namespace serving {
namespace {

using nlohmann::json;

double rate_of(const Trace& trace) {
  const double span = trace.requests.back().arrival - trace.requests.front().arrival;
  return span > 0 ? static_cast<double>(trace.requests.size()) / span : 0;
}

ComparedRun run(const std::string& policy, const Trace& trace, const Profile& profile,
                const PolicySettings& settings, const Objectives& objectives) {
  ComparedRun run{.policy = policy,
                  .rate = rate_of(trace),
                  .summary = {},
                  .latencies = {},
                  .results = serve_shown(policy, trace, profile, settings)};
  run.summary = summarise(trace, run.results, objectives);
  run.latencies = latencies(trace, run.results.requests);
  return run;
}

Comparison compare_all(const CompareOptions& options) {
  const PolicySettings settings = policy_settings(options.service, options.machine);
  const Trace recorded = trace_of(options.work);
  const Profile profile = profile_of(options.machine);
  Comparison all{.trace = recorded.name,
                 .requests = recorded.requests.size(),
                 .machine = std::to_string(profile.gpus) + " x " + profile.name + " with " +
                            profile.model.name,
                 .is_of_run = profile.is_of_run,
                 .may_swap = settings.resume != lethe::layerkv::Resume::recompute,
                 .objectives = objectives_of(options.service),
                 .runs = {}};
  for (const double rate : options.rates) {
    const Trace trace = at_rate(recorded, rate);
    for (const std::string& policy : options.policies)
      all.runs.push_back(run(policy, trace, profile, settings, all.objectives));
  }
  return all;
}

json to_json(const Comparison& comparison) {
  json runs = json::array();
  for (const ComparedRun& run : comparison.runs)
    runs.push_back({{"policy", run.policy},
                    {"rate", run.rate},
                    {"result", to_json(run.summary, run.results)}});
  return {{"trace", comparison.trace},
          {"requests", comparison.requests},
          {"machine", comparison.machine},
          {"runs", std::move(runs)}};
}

}  // namespace

int compare(const CompareOptions& options) {
  decoder::check_writable(options.report);
  decoder::check_writable(options.json);
  for (const std::string& policy : options.policies) check_policy(policy);
  const Comparison comparison = compare_all(options);
  std::printf("%s, %zu requests, on %s\n%s", comparison.trace.c_str(), comparison.requests,
              comparison.machine.c_str(), decoder::text_table(comparison_rows(comparison)).c_str());
  decoder::write_json(options.json, to_json(comparison));
  if (options.report.empty()) return 0;
  decoder::write_file(options.report, comparison_page(comparison));
  std::printf("\nReport: %s\n", options.report.c_str());
  return 0;
}

}  // namespace serving
