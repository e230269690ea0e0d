// What of gpu_bench needs no device.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "catch.hpp"
#include "options.hpp"
#include "report.hpp"
#include "sizes.hpp"

namespace {

using gpu_bench::Case;
using gpu_bench::Limit;
using gpu_bench::Parsed;
using gpu_bench::Row;
using gpu_bench::Turns;

const std::vector<std::string> names{"plan/breakpoint", "observe/logits"};

Parsed parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "gpu_bench");
  return gpu_bench::parse(static_cast<int>(arguments.size()), arguments.data(), names);
}

}  // namespace

TEST_CASE("a spread is the median, the least and the most") {
  CHECK(gpu_bench::spread_of({3, 1, 9}) == gpu_bench::Spread{3, 1, 9});
  CHECK(gpu_bench::spread_of({4, 1, 9, 2}) == gpu_bench::Spread{3, 1, 9});
  CHECK(gpu_bench::spread_of({5}) == gpu_bench::Spread{5, 5, 5});
}

TEST_CASE("a row's ratio is the median of its turns' ratios") {
  // The medians' ratio would be 1.
  const Row row = gpu_bench::row_of("r", Turns{{1, 2, 4}, {3, 2, 2}, {7, 5, 6}}, {}, 64);
  CHECK(row.ratio == 1);
  CHECK(row.floor.median == 2);
  CHECK(row.subject.median == 2);
  CHECK(row.host == 6);
  const Row other = gpu_bench::row_of("r", Turns{{1, 2, 4}, {2, 6, 8}, {0, 0, 0}}, {}, 0);
  CHECK(other.ratio == 2);
  CHECK(other.subject.median == 6);
}

TEST_CASE("targets are met up to their value and missed beyond") {
  const auto verdict = [](Limit limit, double value, double ratio, double time) {
    Row row{.name = "r", .ratio = ratio, .target = {limit, value}};
    row.subject.median = time;
    return gpu_bench::verdict_of(row);
  };
  CHECK(verdict(Limit::most_ratio, 1.2, 1.2, 0) == "met");
  CHECK(verdict(Limit::most_ratio, 1.2, 1.21, 0) == "missed");
  CHECK(verdict(Limit::least_speed, 0.9, 1.1, 0) == "met");
  CHECK(verdict(Limit::least_speed, 0.9, 1.2, 0) == "missed");
  CHECK(verdict(Limit::most_time, 25, 9, 25) == "met");
  CHECK(verdict(Limit::most_time, 25, 0.1, 26) == "missed");
  CHECK(verdict(Limit::none, 0, 9, 9) == "-");
  CHECK(verdict(Limit::most_ratio, 1.2, std::nan(""), 0) == "missed");
}

TEST_CASE("a line of the table shows floor, subject, ratio, target and verdict") {
  Row row = gpu_bench::row_of("plan/x", Turns{{10}, {12.5}, {3}}, {Limit::most_ratio, 1.2}, 0);
  const std::string line = gpu_bench::table_line(row);
  for (const char* part :
       {"plan/x", "10.0", "12.5", "12.5 to 12.5", "1.250", "<= 1.20", "missed"}) {
    CHECK(line.find(part) != std::string::npos);
  }
  row.target = {Limit::least_speed, 0.9};
  CHECK(gpu_bench::table_line(row).find("0.800") != std::string::npos);
  CHECK(gpu_bench::table_head().find("verdict") != std::string::npos);
}

TEST_CASE("JSON escapes names and holds every row") {
  const Row row = gpu_bench::row_of("a \"b\"\\", Turns{{1}, {2}, {3}}, {Limit::most_time, 25}, 16);
  const std::string text = gpu_bench::json_of({.device = "d\n"}, Case{}, {row, row});
  CHECK(text.find("\"device\": \"d \"") != std::string::npos);
  CHECK(text.find("\"name\": \"a \\\"b\\\"\\\\\", \"floor\": {\"median_us\": 1.000") !=
        std::string::npos);
  CHECK(text.find("\"target\": \"<= 25 us\", \"verdict\": \"met\"},\n") != std::string::npos);
  CHECK(text.find("\"weight_bytes\": 16000000000") != std::string::npos);
}

TEST_CASE("the worked case is 17.2 GB of keys and values, and is halved until it fits") {
  const Case whole;
  CHECK(whole.cache_bytes() == 17'179'869'184);
  CHECK(gpu_bench::fitted(whole, 140'000'000'000) == whole);
  const Case half = gpu_bench::fitted(whole, 17'000'000'000);
  CHECK(half.batch == 8);
  CHECK(half.tokens == whole.tokens);
  CHECK(gpu_bench::needed_bytes(half) <= 17'000'000'000);
  const Case small = gpu_bench::fitted(whole, 1'000'000'000);
  CHECK(small.batch == 1);
  CHECK(small.tokens == 4096);
  CHECK(small.kept == 1024);
}

TEST_CASE("a device with too little memory is told how much is missing") {
  try {
    static_cast<void>(gpu_bench::fitted({}, 1'000'000));
    FAIL("nothing was thrown");
  } catch (const std::exception& error) {
    CHECK(std::string(error.what()).find("1000000 bytes are free") != std::string::npos);
  }
}

TEST_CASE("arguments are taken, and faults end with status 2") {
  const Parsed all = parse({});
  REQUIRE(all.options);
  CHECK(all.options->json.empty());
  CHECK_FALSE(all.options->quick);
  const Parsed some = parse({"--json", "out.json", "--filter", "plan", "--quick"});
  REQUIRE(some.options);
  CHECK(some.options->json == "out.json");
  CHECK(some.options->filter == "plan");
  CHECK(some.options->quick);
  for (const std::vector<const char*>& wrong :
       {std::vector<const char*>{"--fast"}, {"--json"}, {"--filter", "decode"}, {"here"}}) {
    CHECK_FALSE(parse(wrong).options);
    CHECK(parse(wrong).status == 2);
  }
  CHECK_FALSE(parse({"--help"}).options);
  CHECK(parse({"--help"}).status == 0);
}
