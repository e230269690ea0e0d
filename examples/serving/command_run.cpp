#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <lethe/layerkv/thread_copier.hpp>
#include <nlohmann/json.hpp>
#include <optional>
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
constexpr double calibration_share = 0.7;

/// A policy of real runs, and what it may use.
struct RealPolicy {
  const char* name;
  bool is_limited, offloads, minds_slack, prunes;
};
constexpr std::array<RealPolicy, 7> real_policies{{
    {"unlimited", false, false, true, false},
    {"vllm", true, false, true, false},
    {"layerkv", true, true, true, false},
    {"layerkv-greedy", true, true, false, false},
    {"lethe", true, false, true, true},
    {"layerkv+lethe", true, true, true, true},
    {"lethe-unlimited", false, false, true, true},
}};

/// Throws decoder::Error that lists the policies when there is none of that name.
const RealPolicy& real_policy(const std::string& name) {
  std::string names;
  for (const RealPolicy& known : real_policies) {
    if (name == known.name) return known;
    names += (names.empty() ? "" : ", ") + std::string(known.name);
  }
  throw decoder::Error("--policy: there is no " + decoder::one_line(name) + ": take one of " +
                       names);
}

/// One policy's run, as it was and as it is simulated with the step times measured in its pauses.
struct Outcome {
  std::string policy;
  RunResults measured;
  RunResults simulated;
  RunResults averaged;  ///< simulated on a machine that is as fast at all times
  Texts texts;
  json steps;
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

/// What single steps take, in seconds, by the measurements that a simulation rests on.
json steps_of(const StepTimes& times, const RunOptions& options) {
  json steps = json::array();
  for (const std::size_t tokens : {std::size_t{64}, options.batch_tokens}) {
    const PrefillPart part{static_cast<double>(tokens), 0};
    StepWork work;
    work.prefills = {&part, 1};
    steps.push_back({{"prompt", tokens}, {"seconds", times.seconds(work)}});
  }
  for (const std::size_t sequences : {std::size_t{1}, options.sequences}) {
    StepWork work;
    work.decodes = static_cast<double>(sequences);
    work.decode_context = static_cast<double>(sequences * options.input.second);
    steps.push_back({{"decodes", sequences}, {"seconds", times.seconds(work)}});
  }
  return steps;
}

EngineSettings engine_of(const RunOptions& options) {
  return {.batch_tokens = options.batch_tokens,
          .sequences = options.sequences,
          .has_prefix_cache = false,
          .schedules_ahead = false};
}

/// Throws decoder::Error for a pruner, or a bound, with which no policy that prunes can be served.
PrunedRun pruned_of(const decoder::Workbench& bench, const Trace& trace,
                    const RunOptions& options) {
  const bool is_pruned =
      std::any_of(options.policies.begin(), options.policies.end(),
                  [](const std::string& policy) { return real_policy(policy).prunes; });
  if (!is_pruned) return {};
  return pruned_run(bench, options.pruner, options.bound, longest_request(trace),
                    engine_of(options));
}

/// All runs of one queue, one after another. Steps are measured in pauses of the run, since on a
/// machine that others use they are not the same a minute later.
class Runs {
 public:
  Runs(decoder::Workbench& bench, const PromptQueue& queue, const RunOptions& options)
      : bench_(bench),
        queue_(queue),
        options_(options),
        pruned_(pruned_of(bench, queue.trace, options)),
        calibrator_(bench, {.tokens = options.batch_tokens,
                            .sequences = options.sequences,
                            .context = options.input.second}) {
    calibrator_.complete(0);
    samples_ = calibrator_.take();
  }

  Outcome serve(const std::string& policy) {
    const RealSettings settings = settings_of(policy, samples_);
    Outcome outcome{.policy = policy,
                    .measured = {},
                    .simulated = {},
                    .averaged = {},
                    .texts = queue_.prompts,
                    .steps = {}};
    outcome.measured = serve_shown(profile_of(samples_, false), settings, policy, outcome.texts);
    calibrator_.complete(outcome.measured.makespan);
    samples_ = calibrator_.take();
    const Profile profile = profile_of(samples_, true);
    outcome.simulated = simulate_run(queue_.trace, profile, settings);
    outcome.averaged = simulate_run(queue_.trace, profile_of(samples_, false), settings);
    outcome.steps = steps_of(profile.times, options_);
    return outcome;
  }

 private:
  RunResults serve_shown(const Profile& profile, const RealSettings& settings,
                         const std::string& policy, Texts& texts) {
    lethe::layerkv::ThreadCopier copier(copier_settings(queue_.trace, settings));
    decoder::Progress progress("Serving with " + policy, queue_.trace.requests.size());
    std::size_t shown = 0;
    const auto show = [&](std::size_t done) {
      progress.advance(done - shown);
      shown = done;
    };
    const auto measure = [&](double passed) {
      while (calibrator_.spent() < calibration_share * passed) calibrator_.measure_next(passed);
    };
    return serve_really(bench_, queue_.trace, profile, settings, copier, texts, {show, measure});
  }

  Profile profile_of(const std::vector<StepSample>& samples, bool follows) const {
    const decoder::ModelConfig& config = bench_.model.config();
    const decoder::PagedCache cache(config, bench_.cache_type, EngineSettings{}.block_tokens);
    return {.name = "this machine",
            .model = shape_of(config, cache),
            .times = step_times(samples, config.layers, follows),
            .device_blocks = options_.blocks,
            .link_bytes = options_.link_gigabytes * 1e9};
  }

  RealSettings settings_of(const std::string& policy,
                           const std::vector<StepSample>& samples) const {
    RealSettings settings;
    settings.engine = engine_of(options_);
    const RealPolicy& real = real_policy(policy);
    settings.device_blocks = real.is_limited ? options_.blocks : unlimited_blocks();
    settings.host_blocks = real.offloads ? options_.host_blocks : 0;
    settings.each_token = options_.each_token;
    settings.minds_slack = real.minds_slack;
    if (real.prunes) settings.pruned = pruned_;
    settings.costs = step_costs(samples, options_.link_gigabytes * 1e9);
    return settings;
  }

  std::size_t unlimited_blocks() const {
    return options_.sequences * EngineSettings{}.blocks_of(longest_request(queue_.trace));
  }

  decoder::Workbench& bench_;
  const PromptQueue& queue_;
  const RunOptions& options_;
  PrunedRun pruned_;  ///< of the policies that prune
  Calibrator calibrator_;
  std::vector<StepSample> samples_;  ///< of the run before
};

void check(const RunOptions& options) {
  for (const std::string& policy : options.policies) real_policy(policy);
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

/// Refuses what a policy could not serve.
void check_room(const Trace& trace, const RunOptions& options) {
  for (const std::string& policy : options.policies) {
    std::size_t tokens = longest_request(trace);
    if (real_policy(policy).prunes) tokens = std::min(tokens, options.bound);
    const std::size_t needed = EngineSettings{}.blocks_of(tokens);
    if (needed > options.blocks)
      throw decoder::Error("--blocks: the longest request takes " + std::to_string(needed) +
                           " blocks under " + policy + ", the device holds " +
                           std::to_string(options.blocks));
  }
}

/// One figure of a run, and what the two simulations say of it.
struct Compared {
  const char* name;
  std::array<double, 3> values;
};

std::vector<Compared> lines_of(const Trace& trace, const Outcome& outcome) {
  std::vector<Compared> lines{{"TTFT mean", {}}, {"TTFT p50", {}}, {"TTFT p99", {}},
                              {"TPOT mean", {}}, {"TPOT p50", {}}, {"TPOT p99", {}},
                              {"makespan", {}}};
  const RunResults* const runs[] = {&outcome.measured, &outcome.simulated, &outcome.averaged};
  for (std::size_t i = 0; i < 3; ++i) {
    const Summary summary = summarise(trace, *runs[i], {});
    const Spread& first = summary.first_token;
    const Spread& each = summary.each_token;
    const double values[] = {first.mean,  first.median, first.p99,        each.mean,
                             each.median, each.p99,     runs[i]->makespan};
    for (std::size_t line = 0; line < lines.size(); ++line) lines[line].values[i] = values[line];
  }
  return lines;
}

std::string error_of(double measured, double simulated) {
  if (measured <= 0) return "-";
  const double error = simulated / measured - 1;
  return (error < 0 ? "-" : "+") + fixed(100 * std::abs(error), 1) + "%";
}

void print(const Outcome& outcome, const std::vector<Compared>& lines,
           std::optional<bool> is_same) {
  const RunResults& measured = outcome.measured;
  const RunResults& simulated = outcome.simulated;
  std::printf(
      "\n%s: %zu steps (simulated %zu), %zu preemptions (%zu), %s MB over the link (%s), %zu rows "
      "of layers pruned; tokens %s\n",
      outcome.policy.c_str(), measured.steps, simulated.steps, measured.preemptions,
      simulated.preemptions, fixed(measured.link_bytes / 1e6, 0).c_str(),
      fixed(simulated.link_bytes / 1e6, 0).c_str(), measured.dropped_tokens,
      !is_same   ? "not compared: no other run must give the same"
      : *is_same ? "identical"
                 : "DIFFERENT");
  std::vector<std::vector<std::string>> rows{
      {"seconds", "measured", "simulated", "error", "at mean speed", "error"}};
  for (const auto& [name, values] : lines)
    rows.push_back({name, fixed(values[0], 3), fixed(values[1], 3), error_of(values[0], values[1]),
                    fixed(values[2], 3), error_of(values[0], values[2])});
  std::printf("%s", decoder::text_table(rows).c_str());
}

json to_json(const Outcome& outcome, const std::vector<Compared>& lines,
             std::optional<bool> is_same) {
  json figures = json::array();
  for (const auto& [name, values] : lines)
    figures.push_back({{"name", name},
                       {"measured", values[0]},
                       {"simulated", values[1]},
                       {"at_mean_speed", values[2]}});
  return {{"policy", outcome.policy},
          {"identical", is_same ? json(*is_same) : json()},
          {"lines", figures},
          {"steps", outcome.measured.steps},
          {"link_bytes", outcome.measured.link_bytes},
          {"preemptions", outcome.measured.preemptions},
          {"dropped_tokens", outcome.measured.dropped_tokens},
          {"step_seconds", outcome.steps}};
}

/// Whether a run gave the tokens of the first that must have given the same, or nothing where no
/// other must: what is pruned differs from what is not, and from nothing else.
std::optional<bool> is_identical(const std::vector<Outcome>& outcomes, const Outcome& outcome) {
  const auto is_alike = [&](const Outcome& other) {
    return (other.measured.dropped_tokens > 0) == (outcome.measured.dropped_tokens > 0);
  };
  if (std::count_if(outcomes.begin(), outcomes.end(), is_alike) < 2) return std::nullopt;
  return std::find_if(outcomes.begin(), outcomes.end(), is_alike)->texts == outcome.texts;
}

}  // namespace

int run(const RunOptions& options) {
  check(options);
  decoder::Workbench bench({.file = options.model, .threads = options.threads});
  const PromptQueue queue = queue_of(bench, options);
  check_room(queue.trace, options);
  Runs runs(bench, queue, options);
  std::vector<Outcome> outcomes;
  for (const std::string& policy : options.policies) outcomes.push_back(runs.serve(policy));
  json results = json::array();
  bool are_same = true;
  for (const Outcome& outcome : outcomes) {
    const std::optional<bool> is_same = is_identical(outcomes, outcome);
    const std::vector<Compared> lines = lines_of(queue.trace, outcome);
    print(outcome, lines, is_same);
    results.push_back(to_json(outcome, lines, is_same));
    are_same = are_same && is_same.value_or(true);
  }
  decoder::write_json(options.json, {{"model", bench.describe()}, {"runs", results}});
  return are_same ? 0 : 1;
}

}  // namespace serving
