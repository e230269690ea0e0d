#include "options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>

#include "error.hpp"
#include "one_line.hpp"
#include "pruners.hpp"

namespace decoder {
namespace {

void add_threads(CLI::App& app, unsigned& threads) {
  app.add_option("-t,--threads", threads, "Threads that compute; 0: one per core")
      ->capture_default_str()
      ->check(CLI::Range(0U, 1024U));
}

void add_cache_type(CLI::App& app, std::string& type) {
  app.add_option("--cache-type", type, "Storage of keys and values")
      ->capture_default_str()
      ->check(CLI::IsMember({"f32", "f16", "q8_0"}));
}

void add_pin(CLI::App& app, bool& is_pinned) {
  app.add_flag("--pinned,!--no-pinned", is_pinned,
               "Never evict the prompt (counts towards the budget); off by default");
}

void add(CLI::App& app, ModelOptions& options) {
  app.add_option("-m,--model", options.file,
                 "GGUF file (llama, qwen2 or qwen3); without, a small reasoner in the program");
  add_threads(app, options.threads);
  add_cache_type(app, options.cache_type);
}

void add(CLI::App& app, BudgetOptions& options) {
  app.add_option("-b,--budget", options.budget,
                 "Most tokens a layer holds: a number, or a percentage of all tokens of the run")
      ->capture_default_str();
  add_pin(app, options.is_pinned);
}

void add(CLI::App& app, SamplingOptions& options) {
  app.add_option("--temperature", options.temperature, "0 always takes the most likely token")
      ->capture_default_str();
  app.add_option("--top-p", options.top_p, "Draw among the likeliest tokens of this total share")
      ->capture_default_str();
  app.add_option("--seed", options.seed, "The same seed draws the same text")
      ->capture_default_str();
}

void add(CLI::App& app, OutputOptions& options) {
  app.add_option("--json", options.json, "Write the same figures to this file as JSON");
}

constexpr const char* policy_hint = "; settings follow the name: lethe:decay=0.95:segments=32";

void add_policy(CLI::App& app, std::string& policy) {
  app.add_option("--policy", policy, "What prunes the cache: " + policy_list() + policy_hint)
      ->capture_default_str();
}

void add_policies(CLI::App& app, std::vector<std::string>& policies) {
  app.add_option("--policy", policies,
                 "What prunes the cache, several by commas: " + policy_list() + policy_hint)
      ->delimiter(',')
      ->capture_default_str();
}

CLI::Option* add_count(CLI::App& app, const char* name, std::size_t& count, const char* what) {
  return app.add_option(name, count, what)
      ->capture_default_str()
      ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 24));
}

bool read_number(const std::string& text, std::size_t& number) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stop == end && number > 0;
}

bool read_percentage(const std::string& text, double& share) {
  if (text.size() < 2 || text.back() != '%') return false;
  const char* end = text.data() + text.size() - 1;
  double percentage = 0;
  const auto [stop, error] = std::from_chars(text.data(), end, percentage);
  share = percentage / 100;
  return error == std::errc() && stop == end && percentage > 0 && percentage <= 100;
}

}  // namespace

void add_options(CLI::App& app, GenerateOptions& options) {
  add(app, options.model);
  app.add_option("-p,--prompt", options.prompt,
                 "Text to continue or to answer; the reasoner has one of its own");
  add_policy(app, options.policy);
  add(app, options.budget);
  add_count(app, "-n,--tokens", options.tokens, "Most tokens to generate");
  add(app, options.sampling);
  auto* chat =
      app.add_flag("--chat", options.is_chat,
                   "Put the prompt into the chat template; default where its family is known");
  app.add_flag("--raw", options.is_raw, "Take the prompt as it is")->excludes(chat);
  app.add_flag("--stats", options.shows_statistics,
               "Print speed, bytes and kept tokens at the end");
  app.add_option("--record", options.recording,
                 "Write queries, keys and values of all layers to this file, for `decoder replay`");
  add(app, options.output);
}

void add_options(CLI::App& app, CompareOptions& options) {
  add(app, options.model);
  auto* prompt =
      app.add_option("-p,--prompt", options.prompt,
                     "First turn of the talk compared on; the whole cache answers it and "
                     "the follow-up turns");
  auto* raw = app.add_flag("--raw", options.is_raw,
                           "Take the prompt as it is: a text to go on with, no talk");
  app.add_option("-f,--file", options.text_file, "Compare on this text file instead")
      ->excludes(prompt)
      ->excludes(raw);
  add_policies(app, options.policies);
  add(app, options.budget);
  add_count(app, "-n,--tokens", options.tokens, "Tokens to compare on");
  add(app, options.sampling);
  app.add_option("--report", options.report, "HTML report to write; empty for none")
      ->capture_default_str();
  add(app, options.output);
}

void add_options(CLI::App& app, BenchOptions& options) {
  add(app, options.model);
  add_policies(app, options.policies);
  add(app, options.budget);
  app.add_option("-c,--context", options.contexts, "Tokens seen before decoding, several by commas")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 24));
  app.add_option("--batch", options.batches, "Sequences decoded in lockstep, several by commas")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::Range(std::size_t{1}, std::size_t{256}));
  add_count(app, "-n,--tokens", options.tokens, "Tokens to decode at each point");
  add(app, options.output);
}

void add_options(CLI::App& app, PerplexityOptions& options) {
  add(app, options.model);
  app.add_option("-f,--file", options.text_file, "Text to score")->required();
  add_policy(app, options.policy);
  add(app, options.budget);
  add_count(app, "-n,--tokens", options.tokens, "Most tokens of the file to score");
  add(app, options.output);
}

void add_options(CLI::App& app, ReplayOptions& options) {
  app.add_option("recording", options.recording,
                 "What entered attention, in a safetensors file (generate --record writes one)")
      ->required();
  add_policies(app, options.policies);
  app.add_option("-b,--budget", options.budgets,
                 "Most tokens a layer holds, several by commas: numbers, or percentages of all "
                 "tokens of the recording")
      ->delimiter(',')
      ->capture_default_str();
  add_pin(app, options.is_pinned);
  add_threads(app, options.threads);
  add_cache_type(app, options.cache_type);
  app.add_option("--report", options.report, "HTML report to write");
  add(app, options.output);
}

std::size_t parse_budget(const std::string& budget, std::size_t total) {
  std::size_t tokens = 0;
  double share = 0;
  if (read_number(budget, tokens)) return tokens;
  if (!read_percentage(budget, share))
    throw Error("--budget " + one_line(budget) +
                ": give a number of tokens such as 512, or a percentage up to 100%");
  return std::max<std::size_t>(1, static_cast<std::size_t>(share * static_cast<double>(total)));
}

}  // namespace decoder
