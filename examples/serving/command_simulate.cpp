#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "commands.hpp"
#include "engine.hpp"
#include "metrics.hpp"
#include "output.hpp"
#include "profile.hpp"
#include "report_text.hpp"
#include "work.hpp"

namespace serving {
namespace {

using decoder::report::fixed;
using decoder::report::percent;

std::vector<std::string> row_of(const char* name, const Spread& spread) {
  return {name, fixed(spread.mean, 3), fixed(spread.median, 3), fixed(spread.p95, 3),
          fixed(spread.p99, 3)};
}

std::string preempted(const RunResults& results) {
  std::string text = std::to_string(results.preemptions) + " preemptions";
  if (results.swaps > 0) text += " (" + std::to_string(results.swaps) + " by swapping)";
  return text;
}

void print(const Trace& trace, const Profile& profile, const Summary& summary,
           const RunResults& results) {
  std::printf("%s, %zu requests, on %zu x %s with %s\n", trace.name.c_str(), trace.requests.size(),
              profile.gpus, profile.name.c_str(), profile.model.name.c_str());
  std::printf("%s", decoder::text_table({{"seconds", "mean", "p50", "p95", "p99"},
                                         row_of("queueing", summary.queue),
                                         row_of("TTFT", summary.first_token),
                                         row_of("TPOT", summary.each_token),
                                         row_of("end to end", summary.whole)})
                        .c_str());
  std::printf(
      "Objectives met by %s (TTFT %s, TPOT %s); goodput %s requests/s\n"
      "%s requests/s, %s tokens/s; makespan %s s; %s, %zu refused\n",
      percent(summary.attained).c_str(), percent(summary.first_token_attained).c_str(),
      percent(summary.each_token_attained).c_str(), fixed(summary.goodput, 3).c_str(),
      fixed(summary.requests_rate, 3).c_str(), fixed(summary.token_rate, 1).c_str(),
      fixed(results.makespan, 1).c_str(), preempted(results).c_str(), summary.refused);
}

}  // namespace

int simulate(const SimulateOptions& options) {
  decoder::check_writable(options.json);
  check_policy(options.policy);
  const Trace trace = trace_of(options.work);
  const PolicySettings settings = policy_settings(options.service, options.machine);
  const Profile profile = profile_of(options.machine);
  const RunResults results = serve_shown(options.policy, trace, profile, settings);
  const Summary summary = summarise(trace, results, objectives_of(options.service));
  print(trace, profile, summary, results);
  decoder::write_json(options.json, {{"trace", trace.name},
                                     {"profile", profile.name},
                                     {"model", profile.model.name},
                                     {"gpus", profile.gpus},
                                     {"policy", options.policy},
                                     {"result", to_json(summary, results)}});
  return 0;
}

}  // namespace serving
