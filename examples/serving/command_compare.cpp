#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "commands.hpp"
#include "output.hpp"
#include "report_text.hpp"
#include "work.hpp"

namespace serving {
namespace {

using decoder::report::fixed;
using decoder::report::percent;
using nlohmann::json;

using Rows = std::vector<std::vector<std::string>>;

std::vector<std::string> row_of(const std::string& policy, double rate, const Summary& summary,
                                const RunResults& results) {
  return {policy,
          fixed(rate, 2),
          fixed(summary.first_token.mean, 2),
          fixed(summary.first_token.median, 2),
          fixed(summary.first_token.p99, 2),
          fixed(1000 * summary.each_token.mean, 1),
          fixed(1000 * summary.each_token.p99, 1),
          percent(summary.attained),
          fixed(summary.goodput, 2),
          fixed(summary.token_rate, 0),
          std::to_string(results.preemptions),
          percent(results.makespan > 0 ? results.link_seconds / results.makespan : 0)};
}

double rate_of(const Trace& trace) {
  const double span = trace.requests.back().arrival - trace.requests.front().arrival;
  return span > 0 ? static_cast<double>(trace.requests.size()) / span : 0;
}

}  // namespace

int compare(const CompareOptions& options) {
  decoder::check_writable(options.json);
  for (const std::string& policy : options.policies) check_policy(policy);
  const Trace recorded = trace_of(options.work);
  const Profile profile = profile_of(options.machine);
  const PolicySettings settings = policy_settings(options.service);
  Rows rows{{"policy", "requests/s", "TTFT mean s", "p50", "p99", "TPOT mean ms", "p99", "met",
             "goodput", "tokens/s", "preempted", "link"}};
  json runs = json::array();
  for (const double rate : options.rates) {
    const Trace trace = at_rate(recorded, rate);
    for (const std::string& policy : options.policies) {
      const RunResults results = serve_shown(policy, trace, profile, settings);
      const Summary summary = summarise(trace, results, objectives_of(options.service));
      rows.push_back(row_of(policy, rate_of(trace), summary, results));
      runs.push_back(
          {{"policy", policy}, {"rate", rate_of(trace)}, {"result", to_json(summary, results)}});
    }
  }
  std::printf("%s, %zu requests, on %zu x %s with %s\n%s", recorded.name.c_str(),
              recorded.requests.size(), profile.gpus, profile.name.c_str(),
              profile.model.name.c_str(), decoder::text_table(rows).c_str());
  decoder::write_json(options.json, {{"trace", recorded.name},
                                     {"profile", profile.name},
                                     {"model", profile.model.name},
                                     {"runs", runs}});
  return 0;
}

}  // namespace serving
