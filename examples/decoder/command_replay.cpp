#include <cstdio>

#include "commands.hpp"
#include "interrupt.hpp"
#include "machine.hpp"
#include "one_line.hpp"
#include "output.hpp"
#include "replay.hpp"
#include "replay_page.hpp"
#include "report_data.hpp"
#include "report_text.hpp"

namespace decoder {
namespace {

using nlohmann::json;
using report::number_at;

std::vector<ReplayChoice> choices_of(const ReplayOptions& options, std::size_t tokens) {
  std::vector<ReplayChoice> choices;
  for (const std::string& budget : options.budgets) {
    for (const std::string& policy : options.policies)
      choices.push_back({.policy = policy,
                         .budget = budget,
                         .tokens = parse_budget(budget, tokens),
                         .is_pinned = options.is_pinned});
  }
  return choices;
}

json results_of(const ReplayOptions& options, const Recording& recording, const Replay& replay) {
  const ModelConfig& model = recording.model();
  return {
      {"kind", "replay"},
      {"interrupted", is_interrupted()},
      {"recording",
       {{"file", recording.path().string()},
        {"model", one_line(model.name)},
        {"tokens", recording.tokens()},
        {"prompt_tokens", recording.prompt_tokens()},
        {"judged_tokens", replay.judged()},
        {"layers", model.layers},
        {"query_heads", model.heads},
        {"kv_heads", model.kv_heads},
        {"head_channels", model.head_dim}}},
      {"settings",
       {{"pinned", options.is_pinned}, {"cache_type", options.cache_type}, {"date", date_now()}}},
      {"runs", replay.results()}};
}

void print_table(const json& results) {
  std::vector<std::vector<std::string>> rows{
      {"policy", "budget", "tokens a layer", "kept, mean", "lost attention", "output error"}};
  for (const json& run : results.at("runs"))
    rows.push_back({report::text_at(run, "/label"), report::text_at(run, "/budget"),
                    report::fixed(number_at(run, "/budget_tokens"), 0),
                    report::percent(number_at(run, "/kept_share")),
                    report::percent(number_at(run, "/lost_mass")),
                    report::fixed(number_at(run, "/output_error"), 4)});
  const json& recording = results.at("recording");
  std::printf("%s tokens after a prompt of %s, %s layers; means over tokens and layers\n\n%s",
              recording.at("judged_tokens").dump().c_str(),
              recording.at("prompt_tokens").dump().c_str(), recording.at("layers").dump().c_str(),
              text_table(rows).c_str());
}

}  // namespace

int replay(const ReplayOptions& options) {
  for (const std::string& policy : options.policies) policy_label(policy);
  check_writable(options.output.json);
  check_writable(options.report);
  const Recording recording = Recording::open(options.recording);
  Replay replay(recording, choices_of(options, recording.tokens()),
                parse_cache_type(options.cache_type), options.threads);
  replay.run();
  if (replay.judged() == 0) {
    tell("Interrupted before the first token was judged.");
    return 130;
  }
  const json results = results_of(options, recording, replay);
  print_table(results);
  write_json(options.output.json, results);
  if (!options.report.empty()) {
    write_file(options.report, replay_page(results));
    std::printf("\nReport: %s\n", options.report.c_str());
  }
  return exit_status();
}

}  // namespace decoder
