#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "catch.hpp"
#include "measured_folder.hpp"
#include "program.hpp"

namespace {

using nlohmann::json;
using serving::test::check_refused;
using serving::test::Folder;
using serving::test::Outcome;
using serving::test::run;
using serving::test::slurp;

/// A run on the tables' machine; `late` is added to what was measured of its only request.
void write_run(const Folder& folder, double late) {
  serving::test::write_tables(folder, "run");
  folder.write("run/meta.json", R"({"kv_cache": {"num_gpu_blocks": 101, "block_size": 16},
    "resolved_config": {"scheduler_config": {"max_num_batched_tokens": 512, "max_num_seqs": 8}}})");
  // One prompt of 512 tokens: 258 operations of 512 us, then three tokens of 258 us and 3.2 ms.
  const double first = 258e-6 * 512 + late;
  std::ostringstream text;
  text.precision(17);
  text << "arrival_s,input_tokens,output_tokens,queue_s,ttft_s,e2e_s\n0,512,4,0.000001," << first
       << "," << first + 3 * (258e-6 + 3.2e-3) << "\n";
  folder.write("run/requests.csv", text.str());
}

}  // namespace

TEST_CASE("validate says what is within the bounds, and fails when something is not") {
  const Folder folder;
  write_run(folder, 0);
  const Outcome good = run(folder, "validate --run run --json good.json");
  INFO(good.output << good.errors);
  CHECK(good.status == 0);
  const json lines = json::parse(slurp(folder.path("good.json"))).at("lines");
  REQUIRE(lines.size() == 17);
  for (const json& line : lines)
    if (line.at("name").get<std::string>().rfind("queueing", 0) != 0)
      CHECK(std::abs(line.at("error").get<double>()) < 1e-6);
  write_run(folder, 0.05);
  const Outcome bad = run(folder, "validate --run run");
  CHECK(bad.status == 1);
  CHECK(bad.output.find("OUTSIDE") != std::string::npos);
}

TEST_CASE("simulate serves a made-up trace out of the box, the same each time") {
  const Folder folder;
  const Outcome one = run(folder, "simulate --requests 50 --json one.json");
  INFO(one.errors);
  CHECK(one.status == 0);
  CHECK(one.output.find("TTFT") != std::string::npos);
  CHECK(run(folder, "simulate --requests 50 --json two.json").status == 0);
  const json result = json::parse(slurp(folder.path("one.json"))).at("result");
  CHECK(result == json::parse(slurp(folder.path("two.json"))).at("result"));
  CHECK(result.at("requests").at("served") == 50);
  for (const char* figure : {"ttft_seconds", "tpot_seconds", "queue_seconds", "latency_seconds"})
    CHECK(result.at(figure).at("p99") >= result.at(figure).at("p50"));
  CHECK(run(folder, "simulate --requests 50 --seed 2 --json three.json").status == 0);
  CHECK(result != json::parse(slurp(folder.path("three.json"))).at("result"));
}

TEST_CASE("a trace is served at the rate asked for") {
  const Folder folder;
  folder.write("t.csv", "arrival_s,input_tokens,output_tokens\n0,10,1\n1,10,1\n2,10,1\n3,10,1\n");
  CHECK(run(folder, "simulate --trace t.csv --rate 0.004 --json r.json").status == 0);
  const json result = json::parse(slurp(folder.path("r.json"))).at("result");
  CHECK(result.at("makespan_seconds").get<double>() > 999);
  CHECK(result.at("makespan_seconds").get<double>() < 1001);
}

TEST_CASE("compare writes a table, a page that stands alone and the same as JSON") {
  const Folder folder;
  const Outcome outcome = run(folder,
                              "compare --requests 40 --rate 5,50 --policy vllm,layerkv+lethe "
                              "--blocks 1200 --report page.html --json runs.json");
  INFO(outcome.errors);
  CHECK(outcome.status == 0);
  CHECK(outcome.output.find("layerkv+lethe") != std::string::npos);
  const std::string page = slurp(folder.path("page.html"));
  CHECK(page.find("http") == page.find("http://www.w3.org"));
  CHECK(page.find("<script") == std::string::npos);
  CHECK(page.find("50.00 requests a second") != std::string::npos);
  CHECK(page.find("never compared with a measured run") != std::string::npos);
  CHECK(page.find("On the device, layer by layer: layerkv+lethe") != std::string::npos);
  CHECK(page.find("On the host, layer by layer: layerkv+lethe") != std::string::npos);
  CHECK(page.find("No map of vllm:") != std::string::npos);
  const json runs = json::parse(slurp(folder.path("runs.json"))).at("runs");
  REQUIRE(runs.size() == 4);
  CHECK(runs[3].at("policy") == "layerkv+lethe");
  for (const json& each : runs) CHECK(each.at("result").at("requests").at("served") == 40);
}

TEST_CASE("what is swapped is counted where swapping is asked for") {
  const Folder folder;
  const std::string busy = "compare --requests 40 --rate 50 --policy vllm --blocks 1200 ";
  const Outcome swapped = run(folder, busy + "--preemption swap --json swap.json");
  INFO(swapped.errors);
  CHECK(swapped.status == 0);
  CHECK(swapped.output.find("swapped") != std::string::npos);
  const json result = json::parse(slurp(folder.path("swap.json"))).at("runs")[0].at("result");
  CHECK(result.at("swaps") > 0);
  CHECK(result.at("link").at("bytes") > 0);
  const Outcome one =
      run(folder, "simulate --requests 40 --rate 50 --blocks 1200 --preemption swap");
  CHECK(one.output.find("by swapping") != std::string::npos);
  const Outcome recomputed = run(folder, busy + "--json recompute.json");
  CHECK(recomputed.output.find("swapped") == std::string::npos);
  const json without = json::parse(slurp(folder.path("recompute.json"))).at("runs")[0].at("result");
  CHECK(without.at("preemptions") > 0);
  CHECK(without.at("swaps") == 0);
  check_refused(run(folder, busy + "--preemption lend"), "--preemption");
}

TEST_CASE("a page says of a measured run's tables alone that a run was measured") {
  const Folder folder;
  serving::test::write_tables(folder, "rtx4090-x");
  const Outcome outcome =
      run(folder, "compare --requests 5 --policy vllm --profile rtx4090-x/ --report page.html");
  INFO(outcome.errors);
  CHECK(outcome.status == 0);
  CHECK(outcome.output.find("on 1 x rtx4090-x with") != std::string::npos);
  CHECK(slurp(folder.path("page.html")).find("measured with a run of vLLM") != std::string::npos);
}

TEST_CASE("run serves real prompts, and generates the same tokens under each policy") {
  const Folder folder;
  const std::string small = "run -t 1 --requests 5 --rate 1000 --input 20,60 --output 4,9 ";
  const Outcome outcome = run(folder, small +
                                          "--blocks 8 --sequences 4 --batch-tokens 64 "
                                          "--policy unlimited,vllm,layerkv --json run.json");
  INFO(outcome.output << outcome.errors);
  CHECK(outcome.status == 0);
  const json runs = json::parse(slurp(folder.path("run.json"))).at("runs");
  REQUIRE(runs.size() == 3);
  for (const json& each : runs) {
    CHECK(each.at("identical") == true);
    for (const json& line : each.at("lines")) {
      CHECK(line.at("measured") > 0);
      CHECK(line.at("simulated") > 0);
    }
  }
  check_refused(run(folder, small + "--blocks 3"), "--blocks");
  check_refused(run(folder, small + "--policy fifo"), "fifo");
  check_refused(run(folder, small + "--output 9,4"), "--output");
  check_refused(run(folder, small + "--text none.txt"), "none.txt");
  check_refused(run(folder, small + "-m none.gguf --text none.txt"), "none.gguf");
  check_refused(run(folder, "run --input 100000,200000"), "context");
}

TEST_CASE("run refuses a pruner or a bound before it serves, by the options' names") {
  const Folder folder;
  const std::string small =
      "run -t 1 --requests 2 --rate 1000 --input 20,30 --output 4,9 --policy unlimited,lethe ";
  const auto refused = [&](const std::string& options, const std::string& part) {
    const Outcome outcome = run(folder, small + options);
    check_refused(outcome, part);
    CHECK(outcome.errors.find("Serving with") == std::string::npos);
    CHECK(outcome.errors.find("--policy") == std::string::npos);
    CHECK(outcome.errors.find("budget") == std::string::npos);
    return outcome.errors;
  };
  const std::string unknown = refused("--pruner fifo", "--pruner fifo: unknown; choose ");
  CHECK(unknown.find("h2o") != std::string::npos);
  CHECK(unknown.find("adakv") == std::string::npos);
  CHECK(unknown.find("none") == std::string::npos);
  refused("--pruner none", "--pruner none: drops nothing");
  refused("--pruner adakv", "--pruner adakv: gives the heads");
  refused("--pruner h2o:size=2", "--pruner h2o:size=2: has no setting size");
  refused("--bound 2", "a --bound of 2 tokens");
}

TEST_CASE("run says of a run that has none to be compared with that it was not compared") {
  const Folder folder;
  const Outcome outcome = run(folder,
                              "run -t 1 --requests 2 --rate 1000 --input 20,30 --output 4,9 "
                              "--policy vllm --json run.json");
  CHECK(outcome.status == 0);
  CHECK(outcome.output.find("tokens not compared") != std::string::npos);
  CHECK(json::parse(slurp(folder.path("run.json"))).at("runs")[0].at("identical").is_null());
}

TEST_CASE("what cannot be done is refused in one line") {
  const Folder folder;
  write_run(folder, 0);
  check_refused(run(folder, ""), "A subcommand is required");
  check_refused(run(folder, "frobnicate"), "frobnicate");
  check_refused(run(folder, "simulate --trace nowhere.csv"), "nowhere.csv: cannot be read");
  check_refused(run(folder, "simulate --profile nowhere"), "there is no profile nowhere");
  check_refused(run(folder, "simulate --model gpt"), "there is no model gpt");
  check_refused(run(folder, "simulate --model llama-3.1-70b"), "leave no room");
  check_refused(run(folder, "simulate --rate -1"), "--rate");
  check_refused(run(folder, "simulate --policy fifo"), "there is no policy fifo");
  check_refused(run(folder, "compare --policy vllm,fifo"), "there is no policy fifo");
  check_refused(run(folder, "compare --report no/such/page.html"), "cannot be written");
  check_refused(run(folder, "simulate --ttft 0"), "--ttft");
  check_refused(run(folder, "simulate --json no/such/folder.json"), "cannot be written");
  check_refused(run(folder, "validate"), "--run");
  check_refused(run(folder, "validate --run ."), "meta.json: cannot be read");
  folder.write("bad.csv", "arrival_s,input_tokens,output_tokens\n0,1,1\n0,x,1\n");
  check_refused(run(folder, "simulate --trace bad.csv"), "bad.csv: row 3: input_tokens is \"x\"");
  folder.write("burst.csv", "arrival_s,input_tokens,output_tokens\n1,1,1\n1,2,1\n");
  check_refused(run(folder, "simulate --trace burst.csv --rate 2"),
                "--rate: all requests of burst.csv arrive at once");
  folder.write("run/meta.json", R"({"kv_cache": {"num_gpu_blocks": 0, "block_size": 16}})");
  check_refused(run(folder, "validate --run run"), "no number above 0 at /kv_cache/num_gpu_blocks");
}
