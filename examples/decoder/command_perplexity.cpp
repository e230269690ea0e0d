#include <cstdio>

#include "commands.hpp"
#include "error.hpp"
#include "interrupt.hpp"
#include "machine.hpp"
#include "output.hpp"
#include "report_data.hpp"
#include "report_text.hpp"
#include "teacher.hpp"
#include "text_source.hpp"
#include "workbench.hpp"

namespace decoder {
namespace {

using nlohmann::json;
using report::fixed;
using report::number_at;

std::vector<std::string> row(const char* heading, const json& part) {
  return {heading,
          fixed(number_at(part, "/tokens"), 0),
          fixed(number_at(part, "/full_perplexity"), 3),
          fixed(number_at(part, "/pruned_perplexity"), 3),
          fixed(number_at(part, "/perplexity_ratio"), 4),
          fixed(number_at(part, "/mean_divergence"), 4),
          report::percent(number_at(part, "/agreement"))};
}

void print_perplexity(const json& results) {
  const json& fidelity = results.at("fidelity");
  std::vector<std::vector<std::string>> rows{{"tokens", "count", "ppl whole", "ppl pruned",
                                              "ppl ratio", "mean KL (nats)", "same top token"}};
  rows.push_back(row("all", fidelity.at("overall")));
  if (number_at(fidelity, "/long_gap/tokens") > 0)
    rows.push_back(row("long-gap", fidelity.at("long_gap")));
  std::printf("%s, %s\n\n%s\nkept tokens, mean: %s of a layer's; cache, mean: %s\n",
              report::text_at(results, "/model/name").c_str(),
              report::text_at(results, "/label").c_str(), text_table(rows).c_str(),
              fixed(number_at(fidelity, "/mean_kept"), 0).c_str(),
              report::bytes(number_at(fidelity, "/mean_bytes")).c_str());
}

json results_of(const PerplexityOptions& options, const Workbench& bench,
                const TeacherForcing& teacher) {
  return {{"kind", "perplexity"},
          {"interrupted", is_interrupted()},
          {"policy", options.policy},
          {"label", policy_label(options.policy)},
          {"model", bench.describe()},
          {"machine", describe_machine(bench.decoder.threads())},
          {"settings",
           {{"text_file", options.text_file},
            {"tokens", options.tokens},
            {"budget", options.budget.budget},
            {"date", date_now()}}},
          {"fidelity", teacher.followers().front()->results()},
          {"whole_mean_bytes", teacher.whole_bytes()}};
}

}  // namespace

int perplexity(const PerplexityOptions& options) {
  policy_label(options.policy);
  check_writable(options.output.json);
  Workbench bench(options.model);
  const TextSource source = read_text(bench, options.text_file, options.tokens);
  const std::size_t total = source.prompt.size() + source.text.size();
  check_context(bench, source.prompt.size(), source.text.size());
  const PolicyChoice choice{.policy = options.policy,
                            .budget = parse_budget(options.budget.budget, total),
                            .pinned = options.budget.is_pinned ? source.prompt.size() : 0,
                            .capacity = total};
  TeacherForcing teacher(bench, {choice}, total);
  teacher.run(bench, source.prompt, source.text);
  const json results = results_of(options, bench, teacher);
  print_perplexity(results);
  write_json(options.output.json, results);
  return exit_status();
}

}  // namespace decoder
