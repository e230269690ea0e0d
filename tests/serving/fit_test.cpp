#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "catch.hpp"
#include "cost_tables.hpp"
#include "error.hpp"
#include "program.hpp"

namespace {

using Catch::Matchers::WithinRel;
using nlohmann::json;
using serving::test::check_refused;
using serving::test::Folder;
using serving::test::run;
using serving::test::slurp;

std::string pass(double tokens, double context, double seconds) {
  std::ostringstream row;
  row.precision(17);
  row << tokens << "," << context << "," << seconds << "\n";
  return row.str();
}

/// Passes of 2 ms, 10 us a token and 3 ns a pair; the row before the last takes `late` times as
/// long.
std::string passes(double late) {
  std::string table = "tokens,context,seconds\n";
  for (const double tokens : {64, 256, 1024, 2048})
    for (const double context : {0, 1000, 8000}) {
      const double pairs = tokens * context + tokens * (tokens + 1) / 2;
      const double seconds = 2e-3 + 1e-5 * tokens + 3e-9 * pairs;
      table += pass(tokens, context, tokens == 2048 && context == 1000 ? late * seconds : seconds);
    }
  return table;
}

const std::string steps =
    "seconds,context,sequences\n0.0111,1000,1\n0.0123,10000,4\n0.0230,100000,21\n0.0163,4000,50\n";
// 5 us a call, 6 us a fragment, 2e-11 s a byte.
const std::string copies =
    "bytes,fragments,copies,seconds\n1000000,1,1,3.1e-5\n1000000,10,1,8.5e-5\n"
    "1000000,10,10,1.3e-4\n4000000,2,1,9.7e-5\n";

json fitted(const Folder& folder, const std::string& options) {
  const auto outcome = run(folder, "fit " + options + " --json fit.json");
  INFO(outcome.errors);
  REQUIRE(outcome.status == 0);
  return json::parse(slurp(folder.path("fit.json")));
}

/// What a costs file of that text is refused with.
void check_costs_refused(const std::string& text, const std::string& part) {
  const Folder folder;
  CHECK_THROWS_WITH(serving::read_costs(folder.write("costs.json", text)),
                    Catch::Contains("costs.json: " + part));
}

}  // namespace

TEST_CASE("tables that a model made give its coefficients back, and no error") {
  const Folder folder;
  folder.write("p.csv", passes(1));
  folder.write("d.csv", steps);
  folder.write("t.csv", copies);
  const json all = fitted(folder, "--prefill p.csv --decode d.csv --transfer t.csv");
  CHECK_THAT(all.at("prefill").at("base").get<double>(), WithinRel(2e-3, 1e-6));
  CHECK_THAT(all.at("prefill").at("per_token").get<double>(), WithinRel(1e-5, 1e-6));
  CHECK_THAT(all.at("prefill").at("per_pair").get<double>(), WithinRel(3e-9, 1e-6));
  CHECK_THAT(all.at("decode").at("base").get<double>(), WithinRel(1.09e-2, 1e-6));
  CHECK_THAT(all.at("decode").at("per_sequence").get<double>(), WithinRel(1e-4, 1e-6));
  CHECK_THAT(all.at("decode").at("per_token").get<double>(), WithinRel(1e-7, 1e-6));
  CHECK_THAT(all.at("copy").at("per_copy").get<double>(), WithinRel(5e-6, 1e-6));
  CHECK_THAT(all.at("copy").at("per_fragment").get<double>(), WithinRel(6e-6, 1e-6));
  CHECK_THAT(all.at("copy").at("per_byte").get<double>(), WithinRel(2e-11, 1e-6));
  CHECK(all.at("fit").at("prefill").at("rows") == 12);
  for (const char* part : {"prefill", "decode", "copy"})
    CHECK(all.at("fit").at(part).at("error").at("worst").get<double>() < 1e-6);
  CHECK(all.at("fit").at("prefill").at("error_held_out").at("worst").get<double>() < 1e-6);
}

TEST_CASE("a row that a fit has not seen is off by what it is off, and more than one it has") {
  const Folder folder;
  folder.write("p.csv", passes(1.5));
  const json fit = fitted(folder, "--prefill p.csv").at("fit").at("prefill");
  // All other rows follow the model, so that the model without this one errs by just that.
  CHECK_THAT(fit.at("error_held_out").at("worst").get<double>(), WithinRel(0.5, 1e-6));
  CHECK(fit.at("error").at("worst").get<double>() < 0.5);
  CHECK(fit.at("error").at("worst").get<double>() > fit.at("error").at("mean").get<double>());
  CHECK(fit.at("error_held_out").at("mean").get<double>() >= 0.5 / 12);
}

TEST_CASE("rows that suffice for a fit alone leave none to hold out") {
  const Folder folder;
  folder.write("p.csv", "tokens,context,seconds\n1,0,1\n2,0,2\n3,0,3\n");
  const auto outcome = run(folder, "fit --prefill p.csv --json fit.json");
  INFO(outcome.output << outcome.errors);
  CHECK(outcome.status == 0);
  const json all = json::parse(slurp(folder.path("fit.json")));
  CHECK(all.at("fit").at("prefill").at("error_held_out").at("mean").is_null());
  CHECK(outcome.output.find("nan") == std::string::npos);
}

TEST_CASE("simulate takes fitted costs: a profile's own change nothing, a slow link does") {
  const Folder folder;
  const std::string simulate =
      "simulate --requests 60 --rate 20 --blocks 1500 --policy layerkv --json r.json";
  const auto result = [&](const std::string& options) {
    const auto outcome = run(folder, simulate + options);
    INFO(outcome.errors);
    REQUIRE(outcome.status == 0);
    return json::parse(slurp(folder.path("r.json"))).at("result");
  };
  const json without = result("");
  const json costs = fitted(folder, "--profile estimate");
  CHECK(costs.find("copy") == costs.end());
  CHECK(result(" --costs fit.json") == without);
  folder.write("slow.json", R"({"copy": {"per_copy": 0, "per_fragment": 0, "per_byte": 1e-9}})");
  const json slow = result(" --costs slow.json");
  REQUIRE(without.at("link").at("bytes") > 0);
  CHECK_THAT(slow.at("link").at("seconds").get<double>(),
             WithinRel(1e-9 * slow.at("link").at("bytes").get<double>(), 1e-6));
  check_refused(run(folder, simulate + " --costs slow.json --link-gb 3"), "--link-gb: slow.json");
}

TEST_CASE("what is wrong with a table is said with its file and row") {
  const Folder folder;
  const auto refused = [&](const std::string& text, const std::string& part) {
    folder.write("p.csv", text);
    check_refused(run(folder, "fit --prefill p.csv"), "p.csv: " + part);
  };
  const std::string head = "tokens,context,seconds\n";
  refused(head, "lethe: measurements = 0");
  refused("tokens,seconds\n1,1\n", "has no column \"context\"");
  refused(head + "1,0,1\n0,0,1\n", "row 3: tokens is \"0\"");
  refused(head + "1,-1,1\n", "row 2: context is \"-1\"");
  refused(head + "1,1,0\n", "row 2: seconds is \"0\": give 1e-9 to 3600");
  refused(head + "1,1,3601\n", "row 2: seconds is \"3601\"");
  refused(head + "1,1,inf\n", "row 2: seconds is \"inf\"");
  refused(head + "1,1\n", "row 2: 2 cells under 3 headings");
  refused(head + "1,0,3\n2,0,2\n30,0,0.1\n", "lethe: measurements = 3");
  refused(head + "1,0,1\n2,0,900\n3,0,1\n4,0,900\n", "lethe: mean_error = ");
  check_refused(run(folder, "fit"), "there is nothing to fit");
  check_refused(run(folder, "fit --transfer nowhere.csv"), "nowhere.csv: cannot be read");
  check_refused(run(folder, "fit --profile nowhere"), "there is no profile nowhere");
}

TEST_CASE("what is wrong with a file of costs is said with its field") {
  check_costs_refused("{", "is no JSON object");
  check_costs_refused("[1]", "is no JSON object");
  check_costs_refused("{}", "has none of prefill, decode and copy");
  check_costs_refused(R"({"decode": 4})", "has no number decode.base");
  check_costs_refused(R"({"decode": {"base": 1, "per_token": 1}})",
                      "has no number decode.per_sequence");
  check_costs_refused(R"({"copy": {"per_copy": 0, "per_fragment": -1, "per_byte": 0}})",
                      "copy.per_fragment is -1: give seconds from 0 to 3600");
  check_costs_refused(R"({"copy": {"per_copy": 0, "per_fragment": 0, "per_byte": 1e9}})",
                      "copy.per_byte is");
}
