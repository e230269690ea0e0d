#include "page_tables.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "report_text.hpp"

namespace accuracy {
namespace {

using decoder::report::escape;
using decoder::report::figure;
using decoder::report::fixed;
using decoder::report::percent;

const std::string absent = "<span class=\"dim\">&#8211;</span>";

/// Rows under a heading of their own; cells as HTML, the first is the row's heading.
struct Group {
  std::string title;
  std::vector<std::vector<std::string>> rows;
};

struct GroupedTable {
  std::string caption;
  std::vector<std::string> headings;
  std::vector<Group> groups;
};

std::string draw(const Group& group, std::size_t columns) {
  std::string out = "<tbody>";
  if (!group.title.empty())
    out += "<tr class=\"group\"><th scope=\"rowgroup\" colspan=\"" + std::to_string(columns) +
           "\">" + group.title + "</th></tr>";
  for (const auto& row : group.rows) {
    out += "<tr><th scope=\"row\">" + row.front() + "</th>";
    for (std::size_t i = 1; i < row.size(); ++i) out += "<td>" + row[i] + "</td>";
    out += "</tr>\n";
  }
  return out + "</tbody>";
}

std::string draw(const GroupedTable& table) {
  std::string out =
      "<div class=\"panel\"><table><caption>" + escape(table.caption) + "</caption><thead><tr>";
  for (const std::string& heading : table.headings)
    out += "<th scope=\"col\">" + escape(heading) + "</th>";
  out += "</tr></thead>";
  for (const Group& group : table.groups) out += draw(group, table.headings.size());
  return out + "</table></div>\n";
}

/// The policies that decide by themselves and have rows on these terms.
std::vector<std::string> candidates_on(const Results& results, const Study& study,
                                       const Terms& terms) {
  std::vector<std::string> found;
  for (const std::string& policy : results.policies()) {
    const bool has_rows = std::any_of(
        study.exams.begin(), study.exams.end(),
        [&](const Exam& exam) { return results.find(terms.of(exam), policy) != nullptr; });
    if (is_candidate(policy) && has_rows) found.push_back(policy);
  }
  return found;
}

/// Mean share of answers right over the study's exams; NaN when one of them is missing.
double mean_right(const Results& results, const Study& study, const Terms& terms,
                  const std::string& policy) {
  double sum = 0;
  for (const Exam& exam : study.exams) {
    const Summary* summary = results.find(terms.of(exam), policy);
    if (summary == nullptr) return unknown;
    sum += summary->answers.value();
  }
  return sum / static_cast<double>(study.exams.size());
}

/// The largest share of answers that a policy has right.
double best_share(const Results& results, const Setting& setting) {
  double best = -1;
  for (const std::string& policy : results.policies()) {
    const Summary* summary = is_candidate(policy) ? results.find(setting, policy) : nullptr;
    if (summary != nullptr) best = std::max(best, summary->answers.value());
  }
  return best;
}

std::string share_cell(const ClusteredShare& share) {
  const Interval interval = share.interval();
  return "<span title=\"" + std::to_string(share.total().hits) + " of " +
         std::to_string(share.total().count) + "\">" + percent(share.value()) + "</span> <small>" +
         fixed(100 * interval.low, 1) + "&#8211;" + fixed(100 * interval.high, 1) + "</small>";
}

std::string answers_cell(const Results& results, const Setting& setting,
                         const std::string& policy) {
  const Summary* summary = results.find(setting, policy);
  if (summary == nullptr) return absent;
  const std::string cell = share_cell(summary->answers);
  if (policy == whole_cache) return cell;
  if (!results.is_ranked(setting)) return "<span class=\"dim\">&#8224; " + cell + "</span>";
  const bool is_best =
      is_candidate(policy) && summary->answers.value() >= best_share(results, setting);
  return is_best ? "<strong>" + cell + "</strong>" : cell;
}

std::vector<std::string> answers_row(const Results& results, const Study& study, const Terms& terms,
                                     const std::string& policy) {
  std::vector<std::string> row{named(results, policy)};
  for (const Exam& exam : study.exams) row.push_back(answers_cell(results, terms.of(exam), policy));
  const double mean = mean_right(results, study, terms, policy);
  row.push_back(std::isfinite(mean) ? percent(mean) : absent);
  return row;
}

/// The oracles, then the policies, the best first.
Group answers_group(const Results& results, const Study& study, const Terms& terms) {
  Group group{.title = terms.describe(), .rows = {}};
  std::vector<std::string> policies = candidates_on(results, study, terms);
  const auto mean = [&](const std::string& policy) {
    const double value = mean_right(results, study, terms, policy);
    return std::isfinite(value) ? value : -1;
  };
  std::stable_sort(policies.begin(), policies.end(),
                   [&](const auto& a, const auto& b) { return mean(a) > mean(b); });
  for (const std::string_view each : {oracle, attention_oracle}) {
    if (results.has(each)) {
      group.rows.push_back(answers_row(results, study, terms, std::string(each)));
    }
  }
  for (const std::string& policy : policies)
    group.rows.push_back(answers_row(results, study, terms, policy));
  return group;
}

/// Where the comparison stands, for the heading of its group.
std::string group_title(const Results& results, const Setting& setting) {
  const Terms terms{.is_pinned = setting.is_pinned, .budget = setting.budget};
  const std::string title = escape(describe_task(results, setting.exam)) + ", " + terms.describe();
  if (results.is_ranked(setting)) return title;
  const Summary* judge = results.judge(setting);
  const bool is_text = is_context(setting.exam);
  const std::string why =
      judge == nullptr ? std::string("no rows of ") + (is_text ? "the whole cache" : "an oracle")
                       : (is_text ? "the whole cache has " : "the better oracle has ") +
                             percent(judge->answers.value());
  return title + " <span class=\"dim\">&#8224; not ranked: " + why + "</span>";
}

std::vector<std::string> comparison_row(const Results& results, const Comparison& each) {
  const std::string verdict = each.verdict();
  const bool is_found = verdict == "better" || verdict == "worse";
  return {named(results, each.policy),
          std::to_string(each.pairs),
          std::to_string(each.ahead),
          std::to_string(each.behind),
          (each.difference > 0 ? "+" : "") + fixed(100 * each.difference, 1) + " pp",
          each.is_tested() ? figure(each.p) : absent,
          each.is_tested() ? figure(each.corrected) : absent,
          is_found ? "<strong>" + verdict + "</strong>" : verdict};
}

/// Cost over the exams of a study.
struct Cost {
  double symbols = 0, seconds = 0, bytes = 0, weighed = 0, kept = 0, whole = 0;

  void add(const Summary& summary) {
    symbols += summary.timed_symbols;
    seconds += summary.seconds;
    bytes += summary.bytes;
    weighed += static_cast<double>(summary.weighed);
    kept += summary.kept;
    whole += summary.whole;
  }
  // NaN where nothing was measured.
  [[nodiscard]] double speed() const { return symbols / seconds; }
  [[nodiscard]] double mean_bytes() const { return bytes / weighed; }
};

/// A policy's cost, and the whole cache's for the same tasks.
std::vector<std::string> cost_row(const Results& results, const Study& study, const Terms& terms,
                                  const std::string& policy) {
  Cost cost, whole;
  for (const Exam& exam : study.exams) {
    const Summary* summary = results.find(terms.of(exam), policy);
    const Summary* all = results.find(terms.of(exam), whole_cache);
    if (summary != nullptr) cost.add(*summary);
    if (summary != nullptr && all != nullptr) whole.add(*all);
  }
  const auto ratio = [](double value) {
    return std::isfinite(value) ? fixed(value, 2) + "\xC3\x97" : absent;
  };
  return {named(results, policy),
          figure(cost.speed()),
          ratio(cost.speed() / whole.speed()),
          std::isfinite(cost.mean_bytes()) ? decoder::report::bytes(cost.mean_bytes()) : absent,
          ratio(cost.mean_bytes() / whole.mean_bytes()),
          percent(cost.kept / cost.whole)};
}

bool is_measured(const Results& results, const Study& study) {
  return std::any_of(
      results.summaries().begin(), results.summaries().end(), [&](const Summary& each) {
        const bool is_ours = std::find(study.exams.begin(), study.exams.end(), each.setting.exam) !=
                             study.exams.end();
        return is_ours && (each.seconds > 0 || each.weighed != 0);
      });
}

}  // namespace

std::string answers_table(const Results& results, const Study& study) {
  GroupedTable table{
      .caption = "Answers right, with 95% intervals (%)", .headings = {"Policy"}, .groups = {}};
  for (const Exam& exam : study.exams) table.headings.push_back(describe_task(results, exam));
  table.headings.emplace_back("Mean of tasks");
  if (results.has(whole_cache)) {
    const std::string policy(whole_cache);
    table.groups.push_back({.title = "", .rows = {answers_row(results, study, {}, policy)}});
  }
  for (const Terms& terms : terms_of(results, study.exams))
    table.groups.push_back(answers_group(results, study, terms));
  return draw(table);
}

std::string verdict_table(const Results& results, const Comparisons& comparisons) {
  static const std::vector<std::string> verdicts{"better", "no difference shown", "worse",
                                                 "not ranked", "no common problems"};
  std::map<std::string, std::map<std::string, std::size_t>> counts;
  for (const Comparison& each : comparisons.all) ++counts[each.policy][each.verdict()];
  GroupedTable table{.caption = "Cells in which a policy does better or worse than " +
                                label_of(comparisons.against),
                     .headings = {"Policy"},
                     .groups = {Group{}}};
  for (const std::string& verdict : verdicts) table.headings.push_back(verdict);
  for (const std::string& policy : results.policies()) {
    if (counts.count(policy) == 0) continue;
    std::vector<std::string> row{named(results, policy)};
    for (const std::string& verdict : verdicts)
      row.push_back(std::to_string(counts[policy][verdict]));
    table.groups.front().rows.push_back(row);
  }
  return draw(table);
}

std::string comparison_panel(const Results& results, const Study& study,
                             const Comparisons& comparisons) {
  GroupedTable table{
      .caption = "Against " + label_of(comparisons.against) + ", problem by problem",
      .headings = {"Policy", "Pairs", "Ahead", "Behind", "Difference", "p", "Holm p", "Verdict"},
      .groups = {}};
  std::optional<Setting> last;
  for (const Comparison& each : comparisons.all) {
    const Exam& exam = each.setting.exam;
    if (std::find(study.exams.begin(), study.exams.end(), exam) == study.exams.end()) continue;
    if (last != each.setting)
      table.groups.push_back({.title = group_title(results, each.setting), .rows = {}});
    last = each.setting;
    table.groups.back().rows.push_back(comparison_row(results, each));
  }
  return table.groups.empty() ? std::string() : draw(table);
}

std::string cost_panel(const Results& results, const Study& study) {
  if (!is_measured(results, study)) return {};
  GroupedTable table{.caption = "Speed and memory, all tasks together",
                     .headings = {"Policy", "Tokens/s", "Of the whole cache's", "Cache, peak bytes",
                                  "Of the whole cache's", "Kept, mean"},
                     .groups = {}};
  if (results.has(whole_cache)) {
    const std::string policy(whole_cache);
    table.groups.push_back({.title = "", .rows = {cost_row(results, study, {}, policy)}});
  }
  for (const Terms& terms : terms_of(results, study.exams)) {
    Group group{.title = terms.describe(), .rows = {}};
    for (const std::string& policy : candidates_on(results, study, terms))
      group.rows.push_back(cost_row(results, study, terms, policy));
    table.groups.push_back(group);
  }
  return draw(table);
}

}  // namespace accuracy
