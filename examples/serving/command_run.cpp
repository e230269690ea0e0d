#include <algorithm>
#include <cmath>
#include <cstdio>
#include <lethe/layerkv/thread_copier.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "calibration.hpp"
#include "commands.hpp"
#include "error.hpp"
#include "metrics.hpp"
#include "one_line.hpp"
#include "output.hpp"
#include "progress.hpp"
#include "prompt_queue.hpp"
#include "real_run.hpp"
#include "report_text.hpp"

namespace serving {
namespace {

using decoder::report::fixed;
using nlohmann::json;

/// Seconds of calibration for each second of a run.
constexpr double calibration_share = 0.5;

/// One policy's run, as it was and as it is simulated with the step times measured in its pauses.
struct Outcome {
  std::string policy;
  RunResults measured;
  RunResults simulated;
  Texts texts;
};

ModelShape shape_of(const decoder::ModelConfig& config, const decoder::PagedCache& cache) {
  return {.name = config.name,
          .layers = config.layers,
          .width = config.width,
          .heads = config.heads,
          .kv_heads = config.kv_heads,
          .head_width = cache.channels(),
          .inner_width = config.feed_forward,
          .vocabulary = config.vocabulary,
          .value_bytes = cache.row_bytes() / cache.channels()};
}

/// All runs of one queue, one after another. Steps are measured in pauses of the run, since on a
/// machine that others use they are not the same a minute later.
class Runs {
 public:
  Runs(decoder::Workbench& bench, const PromptQueue& queue, const RunOptions& options)
      : bench_(bench),
        queue_(queue),
        options_(options),
        calibrator_(bench, {.tokens = options.batch_tokens,
                            .sequences = options.sequences,
                            .context = options.input.second}) {
    calibrator_.complete();
    samples_ = calibrator_.take();
  }

  Outcome serve(const std::string& policy) {
    const RealSettings settings = settings_of(policy, samples_);
    Outcome outcome{.policy = policy, .measured = {}, .simulated = {}, .texts = queue_.prompts};
    outcome.measured = serve_shown(profile_of(samples_), settings, policy, outcome.texts);
    calibrator_.complete();
    samples_ = calibrator_.take();
    outcome.simulated = simulate_run(queue_.trace, profile_of(samples_), settings);
    return outcome;
  }

 private:
  RunResults serve_shown(const Profile& profile, const RealSettings& settings,
                         const std::string& policy, Texts& texts) {
    lethe::layerkv::ThreadCopier copier({.threads = 1, .batches = 128, .batch_copies = 4096});
    decoder::Progress progress("Serving with " + policy, queue_.trace.requests.size());
    std::size_t shown = 0;
    const auto show = [&](std::size_t done) {
      progress.advance(done - shown);
      shown = done;
    };
    const auto measure = [&](double passed) {
      while (calibrator_.spent() < calibration_share * passed) calibrator_.measure_next();
    };
    return serve_really(bench_, queue_.trace, profile, settings, copier, texts, {show, measure});
  }

  Profile profile_of(const std::vector<StepSample>& samples) const {
    const decoder::ModelConfig& config = bench_.model.config();
    const decoder::PagedCache cache(config, bench_.cache_type, EngineSettings{}.block_tokens);
    return {.name = "this machine",
            .model = shape_of(config, cache),
            .times = step_times(samples, config.layers),
            .device_blocks = options_.blocks,
            .link_bytes = options_.link_gigabytes * 1e9};
  }

  RealSettings settings_of(const std::string& policy,
                           const std::vector<StepSample>& samples) const {
    RealSettings settings;
    settings.engine = {.batch_tokens = options_.batch_tokens,
                       .sequences = options_.sequences,
                       .has_prefix_cache = false,
                       .schedules_ahead = false};
    settings.device_blocks = policy == "unlimited" ? unlimited_blocks() : options_.blocks;
    const bool is_layerwise = policy.rfind("layerkv", 0) == 0;
    settings.host_blocks = is_layerwise ? options_.host_blocks : 0;
    settings.each_token = options_.each_token;
    settings.minds_slack = policy != "layerkv-greedy";
    settings.costs = step_costs(samples, options_.link_gigabytes * 1e9);
    return settings;
  }

  std::size_t unlimited_blocks() const {
    std::size_t blocks = 0;
    for (const Request& request : queue_.trace.requests)
      blocks += EngineSettings{}.blocks_of(request.input + request.output);
    return std::min(blocks, options_.sequences *
                                (options_.input.second + options_.output.second + 16));
  }

  decoder::Workbench& bench_;
  const PromptQueue& queue_;
  const RunOptions& options_;
  Calibrator calibrator_;
  std::vector<StepSample> samples_;  ///< of the run before
};

void check(const RunOptions& options) {
  for (const std::string& policy : options.policies)
    if (policy != "unlimited" && policy != "vllm" && policy != "layerkv" &&
        policy != "layerkv-greedy")
      throw decoder::Error("--policy: there is no " + decoder::one_line(policy) +
                           ": take unlimited, vllm, layerkv or layerkv-greedy");
  if (options.input.first > options.input.second || options.output.first > options.output.second)
    throw decoder::Error("--input and --output: give the least before the most");
  if (options.text.empty() && !options.model.empty())
    throw decoder::Error("--text: give a file whose pieces are the prompts");
  decoder::check_writable(options.json);
}

PromptQueue queue_of(const decoder::Workbench& bench, const RunOptions& options) {
  const std::string text = options.text.empty() ? "" : decoder::read_file(options.text);
  return make_queue(bench, text,
                    {.requests = options.requests,
                     .rate = options.rate,
                     .shortest_input = options.input.first,
                     .longest_input = options.input.second,
                     .shortest_output = options.output.first,
                     .longest_output = options.output.second,
                     .seed = options.seed});
}

struct Compared {
  const char* name;
  double measured;
  double simulated;
};

std::vector<Compared> lines_of(const Summary& measured, const Summary& simulated, double makespan,
                           double simulated_makespan) {
  return {{"TTFT mean", measured.first_token.mean, simulated.first_token.mean},
          {"TTFT p50", measured.first_token.median, simulated.first_token.median},
          {"TTFT p99", measured.first_token.p99, simulated.first_token.p99},
          {"TPOT mean", measured.each_token.mean, simulated.each_token.mean},
          {"TPOT p50", measured.each_token.median, simulated.each_token.median},
          {"TPOT p99", measured.each_token.p99, simulated.each_token.p99},
          {"makespan", makespan, simulated_makespan}};
}

std::vector<Compared> lines_of(const Trace& trace, const Outcome& outcome) {
  return lines_of(summarise(trace, outcome.measured, {}), summarise(trace, outcome.simulated, {}),
                  outcome.measured.makespan, outcome.simulated.makespan);
}

std::string error_of(const Compared& line) {
  if (line.measured <= 0) return "-";
  const double error = line.simulated / line.measured - 1;
  return (error < 0 ? "-" : "+") + fixed(100 * std::abs(error), 1) + "%";
}

json print(const Trace& trace, const Outcome& outcome, const Texts& expected) {
  const RunResults& measured = outcome.measured;
  const RunResults& simulated = outcome.simulated;
  const bool is_same = outcome.texts == expected;
  std::printf(
      "\n%s: %zu steps (simulated %zu), %zu preemptions (%zu), %s MB over the link (%s); tokens %s\n",
      outcome.policy.c_str(), measured.steps, simulated.steps, measured.preemptions,
      simulated.preemptions, fixed(measured.link_bytes / 1e6, 0).c_str(),
      fixed(simulated.link_bytes / 1e6, 0).c_str(), is_same ? "identical" : "DIFFERENT");
  std::vector<std::vector<std::string>> rows{{"seconds", "measured", "simulated", "error"}};
  json figures = json::array();
  for (const Compared& line : lines_of(trace, outcome)) {
    rows.push_back(
        {line.name, fixed(line.measured, 3), fixed(line.simulated, 3), error_of(line)});
    figures.push_back(
        {{"name", line.name}, {"measured", line.measured}, {"simulated", line.simulated}});
  }
  std::printf("%s", decoder::text_table(rows).c_str());
  return {{"policy", outcome.policy}, {"identical", is_same},   {"lines", figures},
          {"steps", measured.steps},  {"link_bytes", measured.link_bytes},
          {"preemptions", measured.preemptions}};
}

}  // namespace

int run(const RunOptions& options) {
  check(options);
  decoder::Workbench bench({.file = options.model, .threads = options.threads});
  const PromptQueue queue = queue_of(bench, options);
  Runs runs(bench, queue, options);
  std::vector<Outcome> outcomes;
  for (const std::string& policy : options.policies) outcomes.push_back(runs.serve(policy));
  json results = json::array();
  bool is_same = true;
  for (const Outcome& outcome : outcomes) {
    results.push_back(print(queue.trace, outcome, outcomes.front().texts));
    is_same = is_same && outcome.texts == outcomes.front().texts;
  }
  decoder::write_json(options.json, {{"model", bench.describe()}, {"runs", results}});
  return is_same ? 0 : 1;
}

}  // namespace serving
