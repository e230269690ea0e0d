#include "report.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "catch.hpp"
#include "report_axis.hpp"
#include "report_heat.hpp"
#include "report_text.hpp"

namespace {

using nlohmann::json;

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

// The tag that breaks the nesting of a page, or nothing when every tag is closed in order.
std::string first_unbalanced(const std::string& page) {
  static const std::set<std::string> never_closed{"!DOCTYPE", "meta"};
  std::vector<std::string> open;
  for (auto at = page.find('<'); at != std::string::npos; at = page.find('<', at + 1)) {
    const auto end = page.find('>', at);
    if (end == std::string::npos) return page.substr(at, 20);
    const std::string tag = page.substr(at + 1, end - at - 1);
    const std::string word = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag.back() == '/' || never_closed.count(word) > 0) continue;
    if (tag.front() != '/') {
      open.push_back(word);
    } else {
      if (open.empty() || "/" + open.back() != tag) return tag;
      open.pop_back();
    }
  }
  return open.empty() ? std::string() : open.back();
}

json fidelity() {
  const json part{{"tokens", 3},
                  {"mean_divergence", 0.0123},
                  {"largest_divergence", 0.5},
                  {"agreement", 0.9375},
                  {"full_perplexity", 3.5},
                  {"pruned_perplexity", 3.6},
                  {"perplexity_ratio", 1.0286}};
  return {{"overall", part},
          {"long_gap", part},
          {"first_difference", 17},
          {"mean_bytes", 2097152},
          {"over_time",
           {{"tokens", {10, 20}}, {"mean_divergence", {0.01, 0.02}}, {"disagreement", {0, 0.1}}}}};
}

json run(const std::string& label, double speed) {
  return {{"label", label},
          {"speed",
           {{"tokens_per_second", speed},
            {"ratio", speed / 50},
            {"over_time", {{"tokens", {10, 20}}, {"tokens_per_second", {speed, speed}}}}}},
          {"memory",
           {{"mean_bytes", 2097152},
            {"peak_bytes", 4194304},
            {"ratio", 0.5},
            {"resident_set_growth", 4194304},
            {"resident_set_peak", 104857600},
            {"over_time", {{"tokens", {10, 20}}, {"bytes", {1048576, 4194304}}}}}},
          {"kept",
           {{"mean_tokens", 12},
            {"over_time", {{"tokens", {10, 20}}, {"layers", {{10, 20}, {10, 14}}}}}}}};
}

json results() {
  json pruned = run("Lethe <&\"'>", 75);
  pruned["fidelity"] = fidelity();
  pruned["sparsity"] = {
      {"over_time", {{"tokens", {10, 20}}, {"layers", {{nullptr, 0.5}, {nullptr, nullptr}}}}}};
  pruned["phases"] = {{"tokens", 20},         {"observe_seconds", 2e-3}, {"plan_seconds", 1e-3},
                      {"apply_seconds", 0.0}, {"other_seconds", 0.0},    {"step_seconds", 0.2},
                      {"share", 0.015}};
  json full = run("Whole cache", 50);
  full["fidelity"] = {{"mean_bytes", 4194304}};
  return {{"runs", {full, pruned}},
          {"text", {{"source", "a file"}, {"tokens", 20}, {"prompt_tokens", 4}}},
          {"settings", {{"prompt", "<script>alert(1)</script>"}}},
          {"weak", {"one text only"}}};
}

}  // namespace

TEST_CASE("the report is one well-formed page that needs no network", "[report]") {
  const std::string page = decoder::html_report(results());
  CHECK(first_unbalanced(page).empty());
  CHECK(page.rfind("<!DOCTYPE html>", 0) == 0);
  CHECK(count(page, "http") == 0);
  CHECK(count(page, "<script") == 0);
  CHECK(count(page, "@import") + count(page, "url(") == 0);
  CHECK(count(page, "prefers-color-scheme:dark") == 1);
}

TEST_CASE("text from outside is escaped", "[report]") {
  const std::string page = decoder::html_report(results());
  CHECK(count(page, "Lethe <&") == 0);
  CHECK(count(page, "Lethe &lt;&amp;&quot;&#39;&gt;") > 5);
  CHECK(count(page, "&lt;script&gt;alert(1)") == 1);
}

TEST_CASE("every picture has a title, a description and labels that refer to them", "[report]") {
  const std::string page = decoder::html_report(results());
  const std::size_t pictures = count(page, "role=\"img\"");
  CHECK(pictures == 8);
  CHECK(count(page, "<desc id=") == pictures);
  CHECK(count(page, "aria-labelledby=") == pictures);
  std::set<std::string> ids;
  for (auto at = page.find(" id=\""); at != std::string::npos; at = page.find(" id=\"", at + 1))
    CHECK(ids.insert(page.substr(at, page.find('"', at + 5) - at)).second);
}

TEST_CASE("the report shows the figures of the results", "[report]") {
  const std::string page = decoder::html_report(results());
  CHECK(count(page, "1.50\xC3\x97") >= 2);
  CHECK(count(page, "0.0123") >= 2);
  CHECK(count(page, "93.8%") >= 2);
  CHECK(count(page, "2.00 MiB") >= 2);
  CHECK(count(page, "100 us") == 1);
  CHECK(count(page, "one text only") == 1);
}

TEST_CASE("an interrupted comparison still makes a page", "[report]") {
  json partial = results();
  partial["interrupted"] = true;
  for (const char* member : {"fidelity", "kept", "phases", "sparsity", "speed"})
    for (json& each : partial["runs"]) each.erase(member);
  const std::string page = decoder::html_report(partial);
  CHECK(first_unbalanced(page).empty());
  CHECK(count(page, "Interrupted") == 1);
  const json alone{{"runs", {{{"label", "Whole cache"}}}}};
  CHECK(first_unbalanced(decoder::html_report(alone)).empty());
}

TEST_CASE("a degenerate text is called so", "[report]") {
  json looping = results();
  CHECK(count(decoder::html_report(looping), "makes any policy look good") == 0);
  looping["text"]["loops"] = {{"verdict", "degenerate"}, {"tokens", 20}};
  CHECK(count(decoder::html_report(looping), "makes any policy look good") == 1);
}

TEST_CASE("axes end on ticks and hold the data", "[report]") {
  for (const double low : {0.0, 3.7, -12.0, 118.0})
    for (const double range : {1e-4, 0.03, 1.0, 7.7, 950.0, 3.1e6}) {
      const auto axis = decoder::report::nice_axis(low, low + range, 6);
      REQUIRE(axis.ticks.size() >= 2);
      CHECK(axis.ticks.size() <= 12);
      CHECK(axis.labels.size() == axis.ticks.size());
      CHECK(axis.low <= low + 1e-9 * range);
      CHECK(axis.high >= low + range * (1 - 1e-9));
      CHECK_THAT(axis.ticks.front(), WithinAbs(axis.low, 1e-9 * range));
      CHECK_THAT(axis.ticks.back(), WithinAbs(axis.high, 1e-9 * range));
      CHECK_THAT(axis.at(axis.high), WithinAbs(1, 1e-12));
    }
}

TEST_CASE("axes survive data that cannot be drawn", "[report]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(decoder::report::nice_axis(nan, nan, 5).ticks.size() >= 2);
  CHECK(decoder::report::nice_axis(infinity, -infinity, 5).ticks.size() >= 2);
  CHECK(decoder::report::tight_axis(5, 5, 5).ticks.size() >= 2);
  CHECK(decoder::report::log_axis(nan, 0).ticks.size() >= 2);
}

TEST_CASE("a logarithmic axis puts equal ratios equally far apart", "[report]") {
  const auto axis = decoder::report::log_axis(0.013, 0.4);
  CHECK(axis.labels == std::vector<std::string>{"0.01", "0.02", "0.05", "0.1", "0.2", "0.5"});
  CHECK_THAT(axis.at(0.02) - axis.at(0.01), WithinAbs(axis.at(0.2) - axis.at(0.1), 1e-12));
  CHECK(axis.at(axis.low) == 0.0);
}

TEST_CASE("figures are written for people", "[report]") {
  using namespace decoder::report;
  CHECK(bytes(512) == "512 B");
  CHECK(bytes(14.25 * 1024 * 1024) == "14.2 MiB");
  CHECK(percent(0.9415) == "94.2%");
  CHECK(percent(1) == "100%");
  CHECK(seconds(0.000850) == "850 us");
  CHECK(figure(0.03124) == "0.0312");
  CHECK(figure(118.4) == "118");
  CHECK(grouped(1234567) ==
        "1\xE2\x80\xAF"
        "234\xE2\x80\xAF"
        "567");
  CHECK(fixed(std::numeric_limits<double>::quiet_NaN(), 2) == "-");
}

TEST_CASE("heat colours run from dark to bright", "[report]") {
  CHECK(decoder::report::heat_colour(0) == "#440154");
  CHECK(decoder::report::heat_colour(1) == "#fde725");
  CHECK(decoder::report::heat_colour(7) == "#fde725");
}
