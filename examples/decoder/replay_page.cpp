#include "replay_page.hpp"

#include <algorithm>
#include <vector>

#include "report_data.hpp"
#include "report_style.hpp"
#include "report_svg.hpp"
#include "report_tables.hpp"
#include "report_text.hpp"

namespace decoder {
namespace {

using nlohmann::json;
using report::escape;
using report::number_at;
using report::text_at;

std::vector<std::string> distinct(const json& runs, const char* pointer) {
  std::vector<std::string> found;
  for (const json& run : runs) {
    const std::string text = text_at(run, pointer);
    if (std::find(found.begin(), found.end(), text) == found.end()) found.push_back(text);
  }
  return found;
}

/// A policy keeps its colour whatever the budget; 0 is the whole cache's.
std::size_t style_of(const json& runs, const json& run) {
  if (text_at(run, "/policy") == "none") return 0;
  const std::vector<std::string> policies = distinct(runs, "/policy");
  const auto place = std::find(policies.begin(), policies.end(), text_at(run, "/policy"));
  return 1 + static_cast<std::size_t>(place - policies.begin());
}

report::Table table_of(const json& runs) {
  report::Table table{.caption = "What each policy loses, means over tokens and layers",
                      .headings = {"Policy", "Budget", "Tokens a layer", "Kept, mean",
                                   "Lost attention", "Output error"},
                      .rows = {}};
  for (const json& run : runs)
    table.rows.push_back({report::swatch(style_of(runs, run)) + escape(text_at(run, "/label")),
                          escape(text_at(run, "/budget")),
                          report::grouped(number_at(run, "/budget_tokens")),
                          report::percent(number_at(run, "/kept_share")),
                          report::percent(number_at(run, "/lost_mass")),
                          report::fixed(number_at(run, "/output_error"), 4)});
  return table;
}

std::string cost_chart(const json& runs) {
  std::vector<report::Point> points;
  for (const json& run : runs)
    points.push_back({.label = text_at(run, "/label"),
                      .style = style_of(runs, run),
                      .x = 100 * number_at(run, "/kept_share"),
                      .y = number_at(run, "/output_error"),
                      .note = text_at(run, "/label") + ", budget " + text_at(run, "/budget")});
  return report::point_chart(
      {.id = "replay-cost",
       .title = "Output error by tokens kept",
       .description = "Each point is a policy at a budget; lower and further "
                      "left is better.",
       .x_title = "tokens kept, mean (%)",
       .y_title = "|Av - A'v| / |Av|"},
      points, {.label = "whole cache", .x = 100}, true);
}

std::string layer_chart(const json& runs, const std::string& budget, std::size_t number) {
  std::vector<report::Series> series;
  for (const json& run : runs) {
    if (text_at(run, "/budget") != budget) continue;
    report::Series line{.label = text_at(run, "/label"),
                        .style = style_of(runs, run),
                        .x = {},
                        .y = report::numbers_at(run, "/layers/output_error")};
    for (std::size_t layer = 0; layer < line.y.size(); ++layer)
      line.x.push_back(static_cast<double>(layer));
    series.push_back(std::move(line));
  }
  return report::line_chart({.id = "replay-layers-" + std::to_string(number),
                             .title = "Output error by layer, budget " + budget,
                             .description = "Where a line is high, the policy should keep more.",
                             .x_title = "layer",
                             .y_title = "|Av - A'v| / |Av|"},
                            series);
}

std::string section(const std::string& body) { return "<section>" + body + "</section>\n"; }

}  // namespace

std::string replay_page(const json& results) {
  const json& runs = results.at("runs");
  std::string body =
      "<p class=\"kicker\">Replayed attention</p><h1>What each policy loses</h1>"
      "<p class=\"lead\">Recorded queries, keys and values, fed to caches that are pruned as they "
      "grow; each token's attention is compared with the whole cache's.</p>" +
      section(report::draw(table_of(runs))) + section(cost_chart(runs));
  const std::vector<std::string> budgets = distinct(runs, "/budget");
  for (std::size_t i = 0; i < budgets.size(); ++i)
    body += section(layer_chart(runs, budgets[i], i));
  body += section(report::settings_table(results.at("recording"), "Recording")) +
          section(report::settings_table(results.at("settings"), "Settings"));
  return report::whole_page("Replayed attention", body);
}

}  // namespace decoder
