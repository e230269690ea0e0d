#include "table.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "../catch.hpp"
#include "sample_rows.hpp"

namespace {

using accuracy::compare;
using accuracy::test::results;
using accuracy::test::sample_rows;
using nlohmann::json;

/// The line of a table that holds all these words, or nothing.
std::string line_with(const std::string& table, const std::vector<std::string>& words) {
  std::istringstream in(table);
  for (std::string line; std::getline(in, line);) {
    const bool has_all = std::all_of(words.begin(), words.end(), [&](const std::string& word) {
      return line.find(word) != std::string::npos;
    });
    if (has_all) return line;
  }
  return {};
}

}  // namespace

TEST_CASE("the table has a line a cell") {
  const std::string table = summary_table(results(sample_rows()));
  CHECK_FALSE(line_with(table, {"recall", "25%", "tova", "75.0%", "59.6% to 85.9%"}).empty());
  CHECK_FALSE(line_with(table, {"100%", "none"}).empty());
  CHECK(line_with(table, {"snapkv"}).empty());
}

TEST_CASE("the comparison says how often and how surely") {
  const std::string table = comparison_table(compare(results(sample_rows()), "tova"));
  CHECK_FALSE(line_with(table, {"25%", "lethe", "20.0%", "0.00781", "better"}).empty());
  CHECK_FALSE(line_with(table, {"25%", "h2o", "-25.0%", "0.00195", "0.00391", "worse"}).empty());
  CHECK_FALSE(line_with(table, {"10%", "lethe", "not ranked"}).empty());
  CHECK_FALSE(line_with(table, {"under 97% of answers right"}).empty());
}

TEST_CASE("the summary as JSON has every cell with its comparison, one a line") {
  const accuracy::Results all = results(sample_rows());
  const std::string text = summary_json(all, compare(all, "tova"));
  const json summary = json::parse(text);
  CHECK(summary.at("against") == "tova");
  REQUIRE(summary.at("settings").size() == 3);  // budgets of 10, 25 and, for the whole cache, 100
  const json& setting = summary.at("settings").at(1);
  CHECK(setting.at("budget") == 25);
  CHECK(setting.at("task") == "recall");
  REQUIRE(setting.at("policies").size() == 4);
  const json& tova = setting.at("policies").at(1);
  CHECK(tova.at("policy") == "tova");
  CHECK(tova.at("solved") == json({30, 40, 0.5981, 0.8581}));
  CHECK(tova.at("answers") == json({30, 40, 0.596, 0.8592}));
  CHECK(tova.at("lookups").at(0) == 70);
  CHECK(tova.at("lookups").at(1) == 80);
  CHECK_THAT(tova.at("kept").get<double>(), WithinRel(0.25, 1e-12));
  CHECK(tova.at("tokens_per_second") == 200);
  CHECK(tova.at("bytes") == 4096);
  CHECK_FALSE(tova.contains("comparison"));
  CHECK(std::count(text.begin(), text.end(), '\n') == 13);
}

TEST_CASE("the summary as JSON says how a policy compares") {
  const accuracy::Results all = results(sample_rows());
  const json settings = json::parse(summary_json(all, compare(all, "tova"))).at("settings");
  const json& h2o = settings.at(1).at("policies").at(2).at("comparison");
  CHECK(h2o.at("verdict") == "worse");
  CHECK(h2o.at("behind") == 10);
  CHECK_THAT(h2o.at("difference").get<double>(), WithinRel(-0.25, 1e-12));
  CHECK_THAT(h2o.at("corrected_p").get<double>(), WithinRel(0.00391, 1e-9));
  const json& unranked = settings.at(0).at("policies").at(2).at("comparison");
  CHECK(unranked.at("verdict") == "not ranked");
  CHECK_FALSE(unranked.contains("p"));
  const json alone = json::parse(summary_json(all, {}));
  CHECK_FALSE(alone.contains("against"));
  CHECK_FALSE(alone.at("settings").at(1).at("policies").at(2).contains("comparison"));
}
