#include "table.hpp"

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "output.hpp"
#include "report_text.hpp"

namespace accuracy {
namespace {

using decoder::report::figure;
using decoder::report::fixed;
using decoder::report::percent;
using decoder::report::plain;
using nlohmann::json;

std::string range(const Interval& interval) {
  return percent(interval.low) + " to " + percent(interval.high);
}

std::string pin_of(const Setting& setting) { return setting.is_pinned ? "yes" : "no"; }
std::string budget_of(const Setting& setting) { return plain(setting.budget) + "%"; }

/// Four digits are more than a thousand problems can say.
double rounded(double share) { return std::round(share * 1e4) / 1e4; }

json share_json(const Share& share, const Interval& interval) {
  return {share.hits, share.count, rounded(interval.low), rounded(interval.high)};
}

json comparison_json(const Comparison& each) {
  json comparison{{"pairs", each.pairs},
                  {"ahead", each.ahead},
                  {"behind", each.behind},
                  {"difference", rounded(each.difference)},
                  {"verdict", each.verdict()}};
  if (!each.is_tested()) return comparison;
  comparison["p"] = std::stod(figure(each.p));
  comparison["corrected_p"] = std::stod(figure(each.corrected));
  return comparison;
}

json cell_json(const Summary& summary, const std::optional<Comparisons>& comparisons) {
  json cell{{"policy", summary.policy},
            {"answers", share_json(summary.answers.total(), summary.answers.interval())},
            {"solved", share_json(summary.solved, summary.solved.interval())},
            {"lookups", share_json(summary.lookups.total(), summary.lookups.interval())},
            {"kept", rounded(summary.kept_share())}};
  if (summary.seconds > 0) cell["tokens_per_second"] = std::lround(summary.tokens_per_second());
  if (summary.weighed != 0) cell["bytes"] = std::lround(summary.mean_bytes());
  if (!comparisons) return cell;
  for (const Comparison& each : comparisons->all) {
    if (each.policy == summary.policy && each.setting == summary.setting)
      cell["comparison"] = comparison_json(each);
  }
  return cell;
}

/// The setting's members, without a brace at the end: its policies follow.
std::string opening_of(const Setting& setting) {
  const Exam& exam = setting.exam;
  std::string text =
      json{{"model", exam.model}, {"feeding", exam.feeding},  {"task", exam.task},
           {"size", exam.size},   {"budget", setting.budget}, {"pinned", setting.is_pinned}}
          .dump();
  text.pop_back();
  return text;
}

}  // namespace

std::string summary_table(const Results& results) {
  std::vector<std::vector<std::string>> rows{{"model", "task", "pin", "budget", "policy",
                                              "problems", "answers", "95%", "solved", "steps",
                                              "kept"}};
  for (const Summary& each : results.summaries()) {
    rows.push_back({each.setting.exam.model, label_of(each.setting.exam), pin_of(each.setting),
                    budget_of(each.setting), each.policy, std::to_string(each.solved.count),
                    percent(each.answers.value()), range(each.answers.interval()),
                    percent(each.solved.value()), percent(each.steps.value()),
                    percent(each.kept_share())});
  }
  return decoder::text_table(rows);
}

std::string comparison_table(const Comparisons& comparisons) {
  const std::string& against = comparisons.against;
  std::vector<std::vector<std::string>> rows{{"model", "task", "pin", "budget", "policy", "pairs",
                                              "ahead", "behind", "difference", "p", "Holm p",
                                              "verdict"}};
  for (const Comparison& each : comparisons.all) {
    const auto shown = [&](double p) { return each.is_tested() ? figure(p) : std::string("-"); };
    rows.push_back({each.setting.exam.model, label_of(each.setting.exam), pin_of(each.setting),
                    budget_of(each.setting), each.policy, std::to_string(each.pairs),
                    std::to_string(each.ahead), std::to_string(each.behind),
                    fixed(100 * each.difference, 1) + "%", shown(each.p), shown(each.corrected),
                    each.verdict()});
  }
  return decoder::text_table(rows) + "Policies against " + against +
         " on the same problems: in how many it has more answers right, and in how many fewer; the "
         "exact sign test,\ncorrected by Holm over the table. Not ranked: where the better oracle "
         "has under " +
         plain(100 * least_of_oracle) + "% of answers right; for contexts the whole cache, under " +
         plain(100 * least_of_whole_cache) + "%.\n";
}

std::string summary_json(const Results& results, const std::optional<Comparisons>& comparisons) {
  std::map<Setting, std::string> cells;
  for (const Summary& each : results.summaries()) {
    std::string& list = cells[each.setting];
    list += (list.empty() ? "\n  " : ",\n  ") + cell_json(each, comparisons).dump();
  }
  std::string settings;
  for (const auto& [setting, list] : cells) {
    settings +=
        (settings.empty() ? "\n " : ",\n ") + opening_of(setting) + ",\"policies\":[" + list + "]}";
  }
  const std::string against =
      comparisons ? "\"against\":" + json(comparisons->against).dump() + "," : "";
  return "{" + against + "\"settings\":[" + settings + "]}\n";
}

}  // namespace accuracy
