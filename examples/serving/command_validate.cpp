#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "commands.hpp"
#include "engine.hpp"
#include "measured_run.hpp"
#include "metrics.hpp"
#include "one_line.hpp"
#include "output.hpp"
#include "report_text.hpp"
#include "shared_prefixes.hpp"

namespace serving {
namespace {

using decoder::report::fixed;
using nlohmann::json;

/// How far a latency and the makespan may be off.
constexpr double latency_bound = 0.03;
constexpr double makespan_bound = 0.02;
/// Seconds that are no difference: when nobody waits, queueing is a few microseconds of scheduling.
constexpr double negligible = 1e-4;

/// One figure, measured and simulated.
struct Line {
  std::string name;
  double measured = 0;
  double simulated = 0;
  double bound = 0;

  double difference() const { return simulated - measured; }
  double error() const { return measured > 0 ? difference() / measured : 0; }
  bool is_within() const {
    return std::abs(difference()) <= std::max(bound * measured, negligible);
  }
};

void add_lines(const std::string& name, const std::vector<double>& measured,
               const std::vector<double>& simulated, std::vector<Line>& lines) {
  const Spread real = spread(measured);
  const Spread made = spread(simulated);
  lines.push_back({name + " mean", real.mean, made.mean, latency_bound});
  lines.push_back({name + " p50", real.median, made.median, latency_bound});
  lines.push_back({name + " p95", real.p95, made.p95, latency_bound});
  lines.push_back({name + " p99", real.p99, made.p99, latency_bound});
}

std::vector<Line> compare(const MeasuredRun& run, const RunResults& results) {
  const Latencies real = latencies(run.trace, run.served);
  const Latencies made = latencies(run.trace, results.requests);
  std::vector<Line> lines;
  add_lines("queueing", real.queue, made.queue, lines);
  add_lines("TTFT", real.first_token, made.first_token, lines);
  add_lines("TPOT", real.each_token, made.each_token, lines);
  add_lines("end to end", real.whole, made.whole, lines);
  lines.push_back({"makespan", run.makespan, results.makespan, makespan_bound});
  return lines;
}

std::string signed_percent(double share) {
  return (share < 0 ? "-" : "+") + fixed(100 * std::abs(share), 2) + "%";
}

void print(const MeasuredRun& run, const RunResults& results, const std::vector<Line>& lines) {
  std::vector<std::vector<std::string>> rows{
      {"seconds", "measured", "simulated", "error", "bound", ""}};
  for (const Line& line : lines)
    rows.push_back({line.name, fixed(line.measured, 4), fixed(line.simulated, 4),
                    signed_percent(line.error()), fixed(100 * line.bound, 0) + "%",
                    line.is_within() ? "within" : "OUTSIDE"});
  std::printf("%s: %zu requests, %zu blocks of %zu tokens, %zu steps, %zu preemptions\n%s",
              run.profile.name.c_str(), run.trace.requests.size(), run.profile.device_blocks,
              run.settings.block_tokens, results.steps, results.preemptions,
              decoder::text_table(rows).c_str());
}

/// Where what the prompts share is known from; empty: it is not known.
std::string read_shared_prompts(const ValidateOptions& options, MeasuredRun& run) {
  const std::size_t block = run.settings.block_tokens;
  if (!options.shared_prefixes.empty()) {
    share_prefixes(read_shared_prefixes(options.shared_prefixes, run.trace), block, run.trace);
    return options.shared_prefixes;
  }
  std::error_code unknown;
  const std::string beside = options.run + "/prompts.jsonl";
  std::string path = options.prompts;
  if (path.empty() && std::filesystem::exists(beside, unknown)) path = beside;
  if (!path.empty()) {
    read_prompts(path, block, run.trace);
    return path;
  }
  const auto known = known_prefixes(run.dataset);
  // The table is of the whole workload; the run may be of a part.
  if (known.empty() || !are_of(known, run.trace)) return "";
  share_prefixes(known, block, run.trace);
  return "a table of this workload";
}

json to_json(const std::vector<Line>& lines) {
  json out = json::array();
  for (const Line& line : lines)
    out.push_back({{"name", line.name},
                   {"measured", line.measured},
                   {"simulated", line.simulated},
                   {"error", line.error()},
                   {"bound", line.bound},
                   {"within", line.is_within()}});
  return out;
}

}  // namespace

int validate(const ValidateOptions& options) {
  decoder::check_writable(options.json);
  MeasuredRun run = read_measured_run(options.run, model_shape(options.model));
  const std::string source = read_shared_prompts(options, run);
  const RunResults results = serve(run.trace, run.profile, run.settings);
  const std::vector<Line> lines = compare(run, results);
  print(run, results, lines);
  if (!source.empty())
    std::printf("Which prompts begin alike: by %s.\n", decoder::one_line(source).c_str());
  else if (run.settings.has_prefix_cache)
    std::puts(
        "The prompts are not known (--prompts, --shared-prefixes), so none shares blocks with "
        "another, which the engine's prefix cache let them do.");
  decoder::write_json(options.json, {{"lines", to_json(lines)},
                                     {"steps", results.steps},
                                     {"preemptions", results.preemptions},
                                     {"prompts", !source.empty()}});
  for (const Line& line : lines)
    if (!line.is_within()) return 1;
  return 0;
}

}  // namespace serving
