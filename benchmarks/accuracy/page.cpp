#include "page.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "page_charts.hpp"
#include "page_settings.hpp"
#include "page_tables.hpp"
#include "report_style.hpp"
#include "report_text.hpp"

namespace accuracy {
namespace {

using decoder::report::escape;
using decoder::report::grouped;
using decoder::report::plain;

using PartOf = std::string (*)(const Results&, const Study&);

/// A part for each study, under its title where there are several.
std::string each_study(const Results& results, PartOf part_of) {
  const std::vector<Study> studies = studies_of(results);
  std::string out;
  for (const Study& study : studies) {
    const std::string part = part_of(results, study);
    const bool needs_title = studies.size() > 1 && !part.empty();
    out += (needs_title ? "<h3>" + escape(study.title()) + "</h3>" : std::string()) + part;
  }
  return out;
}

std::string section(const std::string& heading, const std::string& lead, const std::string& body) {
  if (body.empty()) return {};
  return "<section><h2>" + heading + "</h2><p class=\"note\">" + lead + "</p>" + body +
         "</section>\n";
}

std::size_t count_ranked(const Results& results) {
  const auto& settings = results.settings();
  return static_cast<std::size_t>(
      std::count_if(settings.begin(), settings.end(),
                    [&](const Setting& setting) { return results.is_ranked(setting); }));
}

std::string headline(const Results& results) {
  if (count_ranked(results) == 0) return "No policy can be ranked";
  const auto& policies = results.policies();
  const auto candidates = std::count_if(policies.begin(), policies.end(),
                                        [](const std::string& each) { return is_candidate(each); });
  return "Of " + std::to_string(candidates) + " policies, " + label_of(best_policy(results)) +
         " has most answers right";
}

std::string opening(const Results& results) {
  std::size_t attempts = 0;
  for (const Summary& each : results.summaries()) attempts += each.solved.count;
  return "<p class=\"kicker\">Accuracy of a pruned cache</p><h1>" + escape(headline(results)) +
         "</h1><p class=\"lead\">" + grouped(static_cast<double>(attempts)) +
         " attempts at problems with exact answers, by a small model whose cache is pruned as "
         "it goes. Policies rank by the mean share of answers right over the ranked cells that all "
         "of "
         "them have; whether they differ by more than chance is tested below, problem by "
         "problem.</p>";
}

std::string warning(const Results& results) {
  const std::size_t all = results.settings().size(), ranked = count_ranked(results);
  if (ranked == all) return {};
  return "<p class=\"alert\">" + std::to_string(all - ranked) + " of " + std::to_string(all) +
         " cells are not ranked (&#8224;): the better oracle, told what will be asked for or "
         "looked at, has under " +
         plain(100 * least_of_oracle) +
         "% of answers right there, or of a context the whole cache under " +
         plain(100 * least_of_whole_cache) +
         "%, so that a wrong one need not be the policy&#39;s.</p>";
}

std::string tables_and_charts(const Results& results) {
  return section("Answers right",
                 "A problem asks for one value, for several or for hundreds. A budget is its "
                 "symbols&#39; share that a layer may hold. In bold the best of a ranked cell; "
                 "intervals are Wilson&#39;s.",
                 each_study(results, answers_table)) +
         section("By the share of the cache kept",
                 "The mean over steps, of what the whole cache would hold then. Points at one "
                 "place are set apart sideways; bars are 95% intervals.",
                 each_study(results, kept_charts)) +
         section("By the gap",
                 "How far back the value that a lookup states again was last mentioned: each point "
                 "counts gaps from its tick to below the next. Points of fewer than ten lookups "
                 "are left out.",
                 each_study(results, gap_charts)) +
         section("Where the first error falls",
                 "Share of problems with a wrong symbol by then. A line that ends at 40% leaves "
                 "60% of the problems without one.",
                 each_study(results, error_charts));
}

std::string comparison_section(const Results& results, const Comparisons& comparisons) {
  std::string body = verdict_table(results, comparisons);
  for (const Study& study : studies_of(results)) {
    if (studies_of(results).size() > 1) body += "<h3>" + escape(study.title()) + "</h3>";
    body += comparison_panel(results, study, comparisons);
  }
  return section(
      "Every policy against " + escape(label_of(comparisons.against)),
      "On the same problems: in how many it has more answers right, in how many fewer, the "
      "two-sided p of the exact sign test, and that corrected by Holm over all ranked "
      "comparisons of the page. Better or worse: corrected p under 0.05.",
      comparisons.all.empty() ? "" : body);
}

std::string closing(const Results& results, const Source& source) {
  return section("Speed and memory",
                 "Wall time of whole attempts, other attempts running beside them, so a hint at "
                 "most; bytes are pages of the cache that held tokens, the most after any step, "
                 "mean over problems.",
                 each_study(results, cost_panel)) +
         section("Settings", "Everything needed to run this again.", settings_of(results, source));
}

}  // namespace

std::string html_page(const Results& results, const Comparisons& comparisons,
                      const Source& source) {
  return decoder::report::whole_page(
      "Accuracy of a pruned cache",
      opening(results) + warning(results) + tables_and_charts(results) +
          comparison_section(results, comparisons) + closing(results, source),
      plot_style());
}

}  // namespace accuracy
