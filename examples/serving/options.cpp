#include "options.hpp"

#include <CLI/CLI.hpp>

#include "model_shape.hpp"
#include "policy.hpp"

namespace serving {
namespace {

void add_model(CLI::App& app, std::string& model) {
  app.add_option("-m,--model", model, "Model whose shape is served: " + model_list())
      ->capture_default_str();
}

/// Of MachineOptions and FitOptions.
template <class Options>
void add_gpus(CLI::App& app, Options& options) {
  app.add_option("--profile", options.profile,
                 "Machine: estimate (an H100's data sheet), a folder with measured dense.csv, or "
                 "the beginning of kernel tables' names such as profiles/a100_sxm")
      ->capture_default_str();
  add_model(app, options.model);
  app.add_option("--gpus", options.gpus, "GPUs that serve together, tensor parallel")
      ->capture_default_str()
      ->check(CLI::Range(std::size_t{1}, std::size_t{64}));
}

void add(CLI::App& app, MachineOptions& options) {
  add_gpus(app, options);
  app.add_option("--blocks", options.blocks,
                 "Blocks of 16 tokens that the device holds; 0: what its memory leaves")
      ->capture_default_str()
      ->check(CLI::Range(std::size_t{0}, std::size_t{1} << 24));
  app.add_option("--link-gb", options.link_gigabytes,
                 "GB a second between each GPU and the host, one way; 0: the profile's")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1e4));
}

void add(CLI::App& app, WorkOptions& options) {
  app.add_option("--trace", options.trace,
                 "Requests: CSV or JSON lines (docs/serving.md); without, a made-up trace");
  app.add_option("--requests", options.requests, "Only the first so many; 0: all")
      ->capture_default_str()
      ->check(CLI::Range(std::size_t{0}, std::size_t{1} << 28));
  app.add_option("--seed", options.seed, "Of the made-up trace")->capture_default_str();
}

void add_rate(CLI::App& app, double& rate) {
  app.add_option("--rate", rate, "Mean requests a second; 0: as the trace has it")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1e6));
}

void add(CLI::App& app, ServiceOptions& options) {
  app.add_option("--ttft", options.first_token, "Objective: seconds until the first token")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--tpot", options.each_token, "Objective: seconds a token after it")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--bound", options.bound, "Most tokens of a layer, of policies that prune")
      ->capture_default_str()
      ->check(CLI::Range(std::size_t{16}, std::size_t{1} << 24));
  app.add_option("--host-gb", options.host_gigabytes, "Host memory for the cache, GB a GPU")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 16384.0));
  app.add_option("--max-tokens", options.max_tokens,
                 "Longest answer that requests state whose trace does not say (max_tokens); 0: the "
                 "true one, which no engine knows")
      ->capture_default_str()
      ->check(CLI::Range(std::uint32_t{0}, std::uint32_t{1} << 24));
  app.add_option("--costs", options.costs,
                 "Costs that serving fit wrote, for what layers' decisions rest on and copies "
                 "take; without, fitted to the profile");
  app.add_option("--preemption", options.preemption,
                 "How vllm's preempted requests come back: recompute, swap (to the host and back; "
                 "recomputed where it is full) or cheaper (of the two, by costs); others recompute")
      ->capture_default_str()
      ->check(CLI::IsMember({"recompute", "swap", "cheaper"}));
  app.add_flag("--prefix-cache", options.has_prefix_cache,
               "Let vllm reuse the blocks of prompts that begin alike; others do not here");
}

void add_json(CLI::App& app, std::string& path) {
  app.add_option("--json", path, "Write the same figures to this file as JSON");
}

}  // namespace

void add_options(CLI::App& app, ValidateOptions& options) {
  app.add_option("--run", options.run,
                 "Folder of a measured run: requests.csv, meta.json, dense.csv, attention.csv, "
                 "per_sequence.csv")
      ->required();
  auto* prompts = app.add_option(
      "--prompts", options.prompts,
      "JSON lines with each request's input_tok_ids, so that prompts that begin alike share blocks "
      "as they did; without, RUN/prompts.jsonl where it is there");
  app.add_option("--shared-prefixes", options.shared_prefixes,
                 "CSV of which prompts continue others (request,continues,tokens) instead; "
                 "without, the program's own where it knows the workload")
      ->excludes(prompts);
  add_model(app, options.model);
  add_json(app, options.json);
}

void add_options(CLI::App& app, FitOptions& options) {
  app.add_option("--prefill", options.prefill, "CSV of passes: tokens,context,seconds");
  app.add_option("--decode", options.decode, "CSV of decode steps: sequences,context,seconds");
  app.add_option("--transfer", options.transfer,
                 "CSV of copies between device and host: bytes,fragments,copies,seconds");
  add_gpus(app, options);
  app.add_option("--most-mean-error", options.most_mean_error,
                 "Refuse a table that the model says worse than this")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  add_json(app, options.json);
}

void add_options(CLI::App& app, SimulateOptions& options) {
  add(app, options.machine);
  add(app, options.work);
  add_rate(app, options.work.rate);
  add(app, options.service);
  app.add_option("--policy", options.policy, "How it is served: " + policy_list())
      ->capture_default_str();
  add_json(app, options.json);
}

void add_options(CLI::App& app, CompareOptions& options) {
  add(app, options.machine);
  add(app, options.work);
  app.add_option("--rate", options.rates,
                 "Mean requests a second, several by commas; 0: as the trace has it")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1e6));
  add(app, options.service);
  app.add_option("--policy", options.policies,
                 "How it is served, several by commas: " + policy_list())
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--report", options.report, "HTML page to write; empty for none")
      ->capture_default_str();
  add_json(app, options.json);
}

}  // namespace serving
