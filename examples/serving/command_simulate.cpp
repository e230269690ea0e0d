#include <cstdio>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "engine.hpp"
#include "metrics.hpp"
#include "output.hpp"
#include "profile.hpp"
#include "progress.hpp"
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
      "%s requests/s, %s tokens/s; makespan %s s; %zu preemptions, %zu refused\n",
      percent(summary.attained).c_str(), percent(summary.first_token_attained).c_str(),
      percent(summary.each_token_attained).c_str(), fixed(summary.goodput, 3).c_str(),
      fixed(summary.requests_rate, 3).c_str(), fixed(summary.token_rate, 1).c_str(),
      fixed(results.makespan, 1).c_str(), results.preemptions, summary.refused);
}

RunResults serve_shown(const Trace& trace, const Profile& profile, const EngineSettings& settings) {
  decoder::Progress progress("Serving", trace.requests.size());
  std::size_t shown = 0;
  return serve(trace, profile, settings, [&](std::size_t done) {
    progress.advance(done - shown);
    shown = done;
  });
}

}  // namespace

int simulate(const SimulateOptions& options) {
  decoder::check_writable(options.json);
  const Trace trace = trace_of(options.work);
  const EngineSettings settings;
  const Profile profile = read_profile(options.machine.profile, model_shape(options.machine.model),
                                       options.machine.gpus, settings.block_tokens);
  const RunResults results = serve_shown(trace, profile, settings);
  const Summary summary = summarise(trace, results, {options.first_token, options.each_token});
  print(trace, profile, summary, results);
  decoder::write_json(options.json, {{"trace", trace.name},
                                     {"profile", profile.name},
                                     {"model", profile.model.name},
                                     {"gpus", profile.gpus},
                                     {"result", to_json(summary, results)}});
  return 0;
}

}  // namespace serving
