#include "run_options.hpp"

#include <CLI/CLI.hpp>

namespace serving {
namespace {

CLI::Range count_up_to(std::size_t most) { return CLI::Range(std::size_t{1}, most); }

void add_queue(CLI::App& app, RunOptions& options) {
  app.add_option("--text", options.text,
                 "File whose pieces are the prompts; without, programs for the reasoner");
  app.add_option("--requests", options.requests, "Prompts")
      ->capture_default_str()
      ->check(count_up_to(10000));
  app.add_option("--rate", options.rate, "Mean arrivals a second")
      ->capture_default_str()
      ->check(CLI::Range(1e-3, 1e6));
  app.add_option("--input", options.input, "Tokens of a prompt: the least and the most, by a comma")
      ->delimiter(',')
      ->capture_default_str()
      ->check(count_up_to(1 << 20));
  app.add_option("--output", options.output,
                 "Tokens generated for it: the least and the most, by a comma")
      ->delimiter(',')
      ->capture_default_str()
      ->check(count_up_to(1 << 20));
  app.add_option("--seed", options.seed, "Of lengths, places in the text and arrivals")
      ->capture_default_str();
}

void add_machine(CLI::App& app, RunOptions& options) {
  app.add_option("-m,--model", options.model, "GGUF file; without, the embedded reasoner");
  app.add_option("-t,--threads", options.threads, "Threads that compute; 0: one per core")
      ->capture_default_str()
      ->check(CLI::Range(0U, 1024U));
  app.add_option("--blocks", options.blocks, "Blocks of 16 tokens in all layers, on the device")
      ->capture_default_str()
      ->check(count_up_to(1 << 20));
  app.add_option("--host-blocks", options.host_blocks, "The same, on the host")
      ->capture_default_str()
      ->check(count_up_to(1 << 20));
  app.add_option("--link-gb", options.link_gigabytes, "GB a second between them, each way")
      ->capture_default_str()
      ->check(CLI::Range(1e-4, 1e4));
}

}  // namespace

void add_options(CLI::App& app, RunOptions& options) {
  add_machine(app, options);
  add_queue(app, options);
  app.add_option("--sequences", options.sequences, "Requests that run at a time, at most")
      ->capture_default_str()
      ->check(count_up_to(1024));
  app.add_option("--batch-tokens", options.batch_tokens, "Tokens of a step, at most")
      ->capture_default_str()
      ->check(CLI::Range(16, 1 << 16));
  app.add_option("--tpot", options.each_token,
                 "Seconds a token that layerkv promises those that decode")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option(
         "--policy", options.policies,
         "unlimited (whole requests, no lack of blocks), vllm (whole requests), layerkv, "
         "layerkv-greedy (without the rule of slack), lethe (pruned, layers on the device), "
         "layerkv+lethe (both), lethe-unlimited (pruned, no lack of blocks); several by "
         "commas")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--pruner", options.pruner,
                 "Who prunes, and its settings: as the decoder's --policy (lethe:decay=0.9)")
      ->capture_default_str();
  app.add_option("--bound", options.bound, "Most tokens of a layer where requests are pruned")
      ->capture_default_str()
      ->check(count_up_to(1 << 20));
  app.add_option("--json", options.json, "Write the same figures to this file as JSON");
}

}  // namespace serving
