#include <cstdio>

#include "commands.hpp"
#include "comparison.hpp"
#include "interrupt.hpp"
#include "output.hpp"
#include "report.hpp"
#include "report_data.hpp"
#include "report_text.hpp"

namespace decoder {
namespace {

using nlohmann::json;
using report::bytes;
using report::figure;
using report::fixed;
using report::has;
using report::number_at;
using report::percent;
using report::seconds;
using report::text_at;

using Rows = std::vector<std::vector<std::string>>;

void print_rows(const char* title, const Rows& rows) {
  if (rows.size() > 1) std::printf("\n%s\n%s", title, text_table(rows).c_str());
}

std::string count(const json& run, const char* pointer) {
  return fixed(number_at(run, pointer), 0);
}

Rows cost_rows(const json& results) {
  Rows rows{{"policy", "tokens/s", "speed", "cache mean", "cache peak", "of whole", "kept tokens",
             "RSS growth", "RSS peak"}};
  for (const json& run : results.at("runs"))
    rows.push_back({text_at(run, "/label"), figure(number_at(run, "/speed/tokens_per_second")),
                    fixed(number_at(run, "/speed/ratio"), 2) + "x",
                    bytes(number_at(run, "/memory/mean_bytes")),
                    bytes(number_at(run, "/memory/peak_bytes")),
                    percent(number_at(run, "/memory/ratio")), count(run, "/kept/mean_tokens"),
                    bytes(number_at(run, "/memory/resident_set_growth")),
                    bytes(number_at(run, "/memory/resident_set_peak"))});
  return rows;
}

Rows fidelity_rows(const json& results, const std::string& part) {
  Rows rows{{"policy", "tokens", "mean KL (nats)", "largest KL", "same top token", "ppl whole",
             "ppl pruned", "ppl ratio"}};
  const std::string at = "/fidelity/" + part;
  for (const json& run : results.at("runs")) {
    if (!(number_at(run, at + "/tokens") > 0)) continue;
    rows.push_back({text_at(run, "/label"), count(run, (at + "/tokens").c_str()),
                    fixed(number_at(run, at + "/mean_divergence"), 4),
                    figure(number_at(run, at + "/largest_divergence")),
                    percent(number_at(run, at + "/agreement")),
                    fixed(number_at(run, at + "/full_perplexity"), 2),
                    fixed(number_at(run, at + "/pruned_perplexity"), 2),
                    fixed(number_at(run, at + "/perplexity_ratio"), 3)});
  }
  return rows;
}

Rows phase_rows(const json& results) {
  Rows rows{{"policy", "observe", "plan", "apply", "other", "step", "pruner", "rounds", "pruned"}};
  for (const json& run : results.at("runs")) {
    const double tokens = number_at(run, "/phases/tokens");
    if (!(tokens > 0)) continue;
    const auto spent = [&](const char* pointer) {
      return seconds(number_at(run, pointer) / tokens);
    };
    rows.push_back({text_at(run, "/label"), spent("/phases/observe_seconds"),
                    spent("/phases/plan_seconds"), spent("/phases/apply_seconds"),
                    spent("/phases/other_seconds"), spent("/phases/step_seconds"),
                    percent(number_at(run, "/phases/share")), count(run, "/rounds/count"),
                    count(run, "/rounds/pruned")});
  }
  return rows;
}

Rows difference_rows(const json& results) {
  Rows rows{{"policy", "first other top token", "own text parts at", "own text", "in loops"}};
  const auto place = [](const json& run, const char* pointer) {
    return has(run, pointer) ? "token " + count(run, pointer) : std::string("never");
  };
  for (const json& run : results.at("runs")) {
    if (!has(run, "/generated/loops") && !has(run, "/fidelity/overall")) continue;
    const bool is_whole = text_at(run, "/policy") == "none";
    rows.push_back(
        {text_at(run, "/label"), is_whole ? "-" : place(run, "/fidelity/first_difference"),
         is_whole || !has(run, "/generated/loops") ? "-"
                                                   : place(run, "/generated/first_difference"),
         text_at(run, "/generated/loops/verdict"),
         percent(number_at(run, "/generated/loops/loop_rate"))});
  }
  return rows;
}

void print_tables(const json& results) {
  std::printf("%s: %s tokens after a prompt of %s; budget %s\nText: %s\n",
              text_at(results, "/model/name").c_str(), count(results, "/text/tokens").c_str(),
              count(results, "/text/prompt_tokens").c_str(),
              text_at(results, "/settings/budget").c_str(),
              text_at(results, "/text/source").c_str());
  print_rows("Speed and memory, each cache decoding alone", cost_rows(results));
  print_rows("Fidelity, all tokens", fidelity_rows(results, "overall"));
  print_rows("Fidelity, long-gap tokens (their 4-gram was last seen more than 256 tokens earlier)",
             fidelity_rows(results, "long_gap"));
  print_rows("Time in the pruner, per token", phase_rows(results));
  print_rows("Where they part", difference_rows(results));
  if (text_at(results, "/text/loops/verdict") == "degenerate")
    std::printf(
        "\nThe text repeats itself in loops, which makes any policy look good: "
        "try another --seed, or -f FILE.\n");
}

}  // namespace

int compare(const CompareOptions& options) {
  check_writable(options.report);
  check_writable(options.output.json);
  Workbench bench(options.model);
  Comparison comparison(bench, options);
  comparison.decode();
  if (!is_interrupted()) comparison.follow();
  const json results = comparison.results();
  print_tables(results);
  write_json(options.output.json, results);
  if (options.report.empty()) return exit_status();
  write_file(options.report, html_report(results));
  std::printf("\nReport: %s\n", options.report.c_str());
  return exit_status();
}

}  // namespace decoder
