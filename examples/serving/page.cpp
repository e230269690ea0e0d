#include "page.hpp"

#include <algorithm>
#include <functional>
#include <string>
#include <utility>

#include "page_layers.hpp"
#include "report_style.hpp"
#include "report_svg.hpp"
#include "report_tables.hpp"
#include "report_text.hpp"

namespace serving {
namespace {

using decoder::report::Caption;
using decoder::report::escape;
using decoder::report::fixed;
using decoder::report::line_chart;
using decoder::report::percent;
using decoder::report::Series;

/// Points of a distribution's line.
constexpr std::size_t points = 200;

std::string section(const std::string& heading, const std::string& note, const std::string& body) {
  return "<section><h2>" + escape(heading) + "</h2><p class=\"note\">" + note + "</p>" + body +
         "</section>\n";
}

std::string pair(const std::string& one, const std::string& two) {
  return "<div class=\"pair\">" + one + two + "</div>";
}

/// Of each share of requests the time that it stayed within.
Series distribution(const ComparedRun& run, std::size_t style, std::vector<double> values) {
  std::sort(values.begin(), values.end());
  Series line{.label = run.policy, .style = style, .x = {}, .y = {}};
  for (std::size_t i = 0; i < points && !values.empty(); ++i) {
    const std::size_t at = i * (values.size() - 1) / (points - 1);
    line.x.push_back(values[at]);
    line.y.push_back(100.0 * static_cast<double>(at + 1) / static_cast<double>(values.size()));
  }
  return line;
}

using RunsOfRate = std::vector<const ComparedRun*>;

std::vector<RunsOfRate> by_rate(const Comparison& comparison) {
  std::vector<RunsOfRate> rates;
  for (const ComparedRun& run : comparison.runs) {
    if (rates.empty() || rates.back().front()->rate != run.rate) rates.emplace_back();
    rates.back().push_back(&run);
  }
  return rates;
}

std::string distributions(const RunsOfRate& runs, std::size_t rate) {
  std::vector<Series> first;
  std::vector<Series> each;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    first.push_back(distribution(*runs[i], i, runs[i]->latencies.first_token));
    each.push_back(distribution(*runs[i], i, runs[i]->latencies.each_token));
    for (double& time : each.back().x) time *= 1000;
  }
  const std::string number = std::to_string(rate);
  return pair(line_chart({"ttft" + number, "Time to first token",
                          "The share of requests that had it by then; higher is better.", "seconds",
                          "requests (%)"},
                         first),
              line_chart({"tpot" + number, "Time per token after it",
                          "The share of requests whose mean was no more; higher is better.",
                          "milliseconds", "requests (%)"},
                         each));
}

Series over_time(const ComparedRun& run, std::size_t style,
                 const std::function<double(const Moment&)>& value) {
  Series line{.label = run.policy, .style = style, .x = {}, .y = {}};
  // More points than pixels only make the page longer.
  const std::size_t stride = std::max<std::size_t>(1, run.results.moments.size() / 400);
  for (std::size_t i = 0; i < run.results.moments.size(); i += stride) {
    line.x.push_back(run.results.moments[i].time);
    line.y.push_back(value(run.results.moments[i]));
  }
  return line;
}

std::string timeline(const RunsOfRate& runs, const Caption& caption,
                     const std::function<double(const Moment&)>& value) {
  std::vector<Series> lines;
  for (std::size_t i = 0; i < runs.size(); ++i) lines.push_back(over_time(*runs[i], i, value));
  return line_chart(caption, lines);
}

std::string timelines(const RunsOfRate& runs, std::size_t rate) {
  const std::string number = std::to_string(rate);
  return pair(timeline(runs,
                       {"device" + number, "Blocks on the device",
                        "In use, of all; by all layers together.", "seconds", "in use (%)"},
                       [](const Moment& moment) { return 100 * moment.device_share; }),
              timeline(runs,
                       {"host" + number, "Blocks on the host",
                        "In use, of all; what was offloaded.", "seconds", "in use (%)"},
                       [](const Moment& moment) { return 100 * moment.host_share; })) +
         pair(timeline(runs,
                       {"running" + number, "Requests that run", "Admitted and not finished.",
                        "seconds", "requests"},
                       [](const Moment& moment) { return moment.running; }),
              timeline(runs,
                       {"waiting" + number, "Requests that wait", "Arrived and not admitted.",
                        "seconds", "requests"},
                       [](const Moment& moment) { return moment.waiting; }));
}

std::string table(const Comparison& comparison) {
  auto rows = comparison_rows(comparison);
  decoder::report::Table table{
      .caption = "Every policy at every rate", .headings = rows.front(), .rows = {}};
  for (std::size_t r = 1; r < rows.size(); ++r) {
    for (std::string& cell : rows[r]) cell = escape(cell);
    table.rows.push_back(std::move(rows[r]));
  }
  return draw(table);
}

std::string opening(const Comparison& comparison) {
  return "<p class=\"kicker\">A simulated serving engine</p><h1>" + escape(comparison.trace) +
         "</h1><p class=\"lead\">" + std::to_string(comparison.requests) + " requests on " +
         escape(comparison.machine) + ". Objectives: first token within " +
         fixed(comparison.objectives.first_token, 1) + " s, " +
         fixed(1000 * comparison.objectives.each_token, 0) + " ms a token after it.</p>" +
         "<p class=\"alert\">Simulated: step times " +
         (comparison.is_of_run ? "are sums of kernels that were measured with a run of vLLM, which "
                                 "serving validate compares them with"
                               : "were never compared with a measured run") +
         "; copies between device and host, and several GPUs, were never checked against a "
         "measurement.</p>";
}

std::vector<std::string> row_of(const ComparedRun& run, bool may_swap) {
  const Summary& summary = run.summary;
  const double makespan = run.results.makespan;
  std::vector<std::string> row{run.policy,
                               fixed(run.rate, 2),
                               fixed(summary.first_token.mean, 2),
                               fixed(summary.first_token.median, 2),
                               fixed(summary.first_token.p99, 2),
                               fixed(1000 * summary.each_token.mean, 1),
                               fixed(1000 * summary.each_token.p99, 1),
                               percent(summary.attained),
                               fixed(summary.goodput, 2),
                               fixed(summary.token_rate, 0),
                               std::to_string(run.results.preemptions)};
  if (may_swap) row.push_back(std::to_string(run.results.swaps));
  row.push_back(percent(makespan > 0 ? run.results.link_seconds / (2 * makespan) : 0));
  return row;
}

}  // namespace

std::vector<std::vector<std::string>> comparison_rows(const Comparison& comparison) {
  std::vector<std::vector<std::string>> rows{{"policy", "requests/s", "TTFT mean s", "p50", "p99",
                                              "TPOT mean ms", "p99", "met", "goodput", "tokens/s",
                                              "preempted"}};
  if (comparison.may_swap) rows.front().push_back("swapped");
  rows.front().push_back("link");
  for (const ComparedRun& run : comparison.runs) rows.push_back(row_of(run, comparison.may_swap));
  return rows;
}

std::string comparison_page(const Comparison& comparison) {
  std::string body = opening(comparison) +
                     section("Results",
                             "met: both objectives; goodput: requests a second that met both; "
                             "link: busy, the mean of both ways.",
                             table(comparison));
  std::size_t number = 0;
  for (const RunsOfRate& runs : by_rate(comparison)) {
    const std::string rate = fixed(runs.front()->rate, 2) + " requests a second";
    body += section(rate, "How latencies are distributed, and where blocks lay meanwhile.",
                    distributions(runs, number) + timelines(runs, number));
    body += section("Layer by layer, at " + rate,
                    "Where the blocks of each layer lay, of all requests that ran.",
                    layer_maps(runs, number));
    ++number;
  }
  return decoder::report::whole_page("Serving " + escape(comparison.trace), body);
}

}  // namespace serving
