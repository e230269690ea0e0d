#include <algorithm>
#include <cstdio>
#include <string>

#include "commands.hpp"
#include "embedded_model.hpp"
#include "error.hpp"
#include "interrupt.hpp"
#include "loops.hpp"
#include "machine.hpp"
#include "output.hpp"
#include "recording.hpp"
#include "report_text.hpp"
#include "run.hpp"
#include "utf8.hpp"
#include "workbench.hpp"

namespace decoder {
namespace {

using nlohmann::json;

PolicyChoice choose(const GenerateOptions& options, std::size_t prompt) {
  const std::size_t total = prompt + options.tokens;
  return {.policy = options.policy,
          .budget = parse_budget(options.budget.budget, total),
          .pinned = options.budget.is_pinned ? prompt : 0,
          .capacity = total,
          .seed = options.sampling.seed};
}

/// Writes tokens until an end token, the wanted number, or Ctrl-C.
void write_text(Workbench& bench, Run& run, std::size_t tokens) {
  Utf8Stream stream;
  const auto show = [](const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  while (run.text().size() < tokens && !is_interrupted()) {
    if (!run.decode_one(bench)) break;
    show(stream.push(bench.tokenizer.piece(run.text().back())));
  }
  show(stream.flush() + "\n");
}

void print_statistics(const json& results) {
  const json& run = results.at("runs").at(0);
  const auto line = [](const char* what, const std::string& value) {
    std::fprintf(stderr, "%-24s %s\n", what, value.c_str());
  };
  const json& speed = run.at("speed");
  const json& memory = run.at("memory");
  line("policy", run.at("label").get<std::string>());
  line("prompt tokens", results.at("text").at("prompt_tokens").dump());
  line("generated tokens", speed.at("tokens").dump());
  line("tokens per second", report::figure(speed.at("tokens_per_second").get<double>()));
  line("cache bytes, mean", report::bytes(memory.at("mean_bytes").get<double>()));
  line("cache bytes, peak", report::bytes(memory.at("peak_bytes").get<double>()));
  line("kept tokens, mean", report::fixed(run.at("kept").at("mean_tokens").get<double>(), 0));
  line("rounds", run.at("rounds").at("count").dump());
  if (run.contains("phases"))
    line("time in the pruner", report::percent(run.at("phases").at("share").get<double>()));
  line("repetition", results.at("text").at("loops").at("verdict").get<std::string>());
}

/// What is left out filled in: the embedded model has a program of its own, to be run to its end.
GenerateOptions completed(GenerateOptions options, const Workbench& bench) {
  if (!options.prompt.empty()) return options;
  if (!bench.is_embedded) throw Error("the prompt is empty: give some text with -p");
  options.prompt = embedded_prompt;
  options.tokens = std::max(options.tokens, embedded_tokens);
  return options;
}

json results_of(const GenerateOptions& options, const Workbench& bench, const Run& run,
                std::size_t prompt) {
  return {{"kind", "generate"},
          {"interrupted", is_interrupted()},
          {"model", bench.describe()},
          {"machine", describe_machine(bench.decoder.threads())},
          {"settings",
           {{"prompt", options.prompt},
            {"policy", options.policy},
            {"budget", options.budget.budget},
            {"pinned", options.budget.is_pinned},
            {"temperature", options.sampling.temperature},
            {"top_p", options.sampling.top_p},
            {"seed", options.sampling.seed}}},
          {"text",
           {{"prompt_tokens", prompt},
            {"tokens", run.text().size()},
            {"text", bench.tokenizer.decode(run.text())},
            {"loops", loop_results(run.text())}}},
          {"runs", json::array({run.results()})}};
}

void check_options(const GenerateOptions& options) {
  policy_label(options.policy);
  check_writable(options.output.json);
  check_writable(options.recording);
  if (!options.recording.empty() && options.policy != "none")
    throw Error("--record takes what the whole cache sees: leave --policy out");
}

}  // namespace

int exit_status() {
  if (!is_interrupted()) return 0;
  tell("Interrupted: the figures are of what was done until then.");
  return 130;
}

int generate(const GenerateOptions& given) {
  check_options(given);
  Workbench bench(given.model);
  const GenerateOptions options = completed(given, bench);
  const auto prompt = encode_prompt(bench, options.prompt, options.is_chat, options.is_raw);
  check_context(bench, prompt.size(), options.tokens);
  tell(prompt_note(bench, options.prompt, options.is_chat, options.is_raw));
  if (options.policy == "none" && options.budget.budget != BudgetOptions{}.budget) {
    tell("--budget changes nothing without a --policy.");
  }
  Run run(bench, choose(options, prompt.size()), options.sampling);
  AttentionRecorder recorder(bench.model.config());
  if (!options.recording.empty())
    run.record([&recorder](const LayerStep& step) { recorder.add(step); });
  run.prefill(bench, prompt);
  write_text(bench, run, options.tokens);
  const json results = results_of(options, bench, run, prompt.size());
  if (options.shows_statistics) print_statistics(results);
  write_json(options.output.json, results);
  if (!options.recording.empty())
    recorder.write(options.recording, prompt.size(), bench.model.rope_frequencies());
  return exit_status();
}

}  // namespace decoder
