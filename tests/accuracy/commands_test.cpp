// Runs the program itself.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "../catch.hpp"
#include "../decoder/tiny_model.hpp"
#include "rows.hpp"
#include "sample_rows.hpp"
#include "symbols.hpp"

namespace {

namespace fs = std::filesystem;
using accuracy::test::row;
using accuracy::test::sample_rows;

struct Outcome {
  int status = -1;
  std::string output;
  std::string errors;
};

/// A folder of its own with a model that knows nothing, where the program runs.
class Workplace {
 public:
  Workplace()
      : folder_(fs::temp_directory_path() / ("lethe_accuracy_" + std::to_string(getpid()))) {
    fs::create_directories(folder_);
    const auto vocabulary = static_cast<std::uint32_t>(accuracy::symbols);
    const auto bytes =
        decoder::test::tiny_model({.architecture = "llama", .vocabulary = vocabulary});
    write("tiny.gguf", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    write("rows.jsonl", accuracy::lines_of(sample_rows()));
  }
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;
  ~Workplace() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  void write(const char* name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }
  [[nodiscard]] std::string path(const char* name) const { return (folder_ / name).string(); }
  [[nodiscard]] std::string read(const char* name) const {
    std::ostringstream text;
    text << std::ifstream(folder_ / name, std::ios::binary).rdbuf();
    return text.str();
  }

  [[nodiscard]] Outcome run(const std::string& arguments) const {
    const std::string command = "cd '" + folder_.string() + "' && '" LETHE_ACCURACY_FILE "' " +
                                arguments + " >out 2>err </dev/null";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read("out"), read("err")};
  }

 private:
  fs::path folder_;
};

/// One line on stderr that begins with the program's name and contains `part`, and status 2.
void check_refused(const Outcome& outcome, const std::string& part) {
  INFO("stderr: " << outcome.errors << ", wanted: " << part);
  CHECK(outcome.status == 2);
  CHECK(outcome.errors.rfind("accuracy: ", 0) == 0);
  CHECK(outcome.errors.find(part) != std::string::npos);
  CHECK(std::count(outcome.errors.begin(), outcome.errors.end(), '\n') == 1);
}

}  // namespace

TEST_CASE("a quick run's shards merge into what one run makes, and show as a page") {
  const Workplace work;
  for (const char* shard : {"0/40", "1/40"}) {
    const std::string file = std::string("shard") + shard[0] + ".jsonl";
    const Outcome outcome =
        work.run("run -m tiny.gguf --quick -t 1 --shard " + std::string(shard) + " -o " + file);
    INFO(outcome.errors);
    REQUIRE(outcome.status == 0);
  }
  REQUIRE(work.run("merge shard0.jsonl shard1.jsonl -o all.jsonl").status == 0);
  REQUIRE(work.run("run -m tiny.gguf --quick -t 1 --shard 0/20 -o half.jsonl").status == 0);
  const auto all = accuracy::read_distinct({work.path("all.jsonl")});
  CHECK(all.size() == 22);
  std::set<std::string> policies;
  for (const auto& each : all) {
    policies.insert(each.at("policy").get<std::string>());
    CHECK(each.at("seconds").get<double>() > 0);
    CHECK(each.at("bytes").get<double>() >= 4096);
  }
  CHECK(policies.count("oracle") == 1);
  CHECK(work.run("merge half.jsonl shard0.jsonl -o joined.jsonl").output.find(" 11 equal") !=
        std::string::npos);
  CHECK(work.run("page all.jsonl").status == 0);
  CHECK(work.read("results.html").find("accuracy run -m tiny.gguf --quick") != std::string::npos);
}

TEST_CASE("table prints the summary and the comparison, and keeps it as JSON") {
  const Workplace work;
  const Outcome plain = work.run("table rows.jsonl");
  CHECK(plain.status == 0);
  CHECK(plain.output.find("verdict") == std::string::npos);
  const Outcome compared = work.run("table rows.jsonl --against tova --json summary.json");
  CHECK(compared.status == 0);
  CHECK(compared.output.find("worse") != std::string::npos);
  CHECK(nlohmann::json::parse(work.read("summary.json")).at("against") == "tova");
}

TEST_CASE("what cannot be shown is refused in one line") {
  const Workplace work;
  work.write("empty.jsonl", "");
  work.write("bad.jsonl", row({.policy = "h2o"}).dump() + "\n{\"model\": 3}\n");
  work.write("twice.jsonl", accuracy::lines_of({row({.policy = "h2o"}), row({.policy = "h2o"})}));
  work.write("other.jsonl", row({.policy = "tova", .is_solved = false}).dump() + "\n");
  work.write("blind.jsonl", accuracy::lines_of({row({.policy = "h2o"}), row({.policy = "tova"})}));
  check_refused(work.run("page rows.jsonl --against magic"), "--against magic: no rows of it");
  check_refused(work.run("table rows.jsonl --against magic"), "--against magic: no rows of it");
  check_refused(work.run("page empty.jsonl"), "empty.jsonl holds no rows");
  check_refused(work.run("table empty.jsonl"), "empty.jsonl holds no rows");
  check_refused(work.run("merge empty.jsonl -o x"), "empty.jsonl holds no rows");
  check_refused(work.run("page bad.jsonl"), "bad.jsonl line 2 is no row of results");
  check_refused(work.run("page twice.jsonl"), "twice.jsonl line 2 repeats twice.jsonl line 1");
  check_refused(work.run("merge rows.jsonl other.jsonl -o x"), "other.jsonl line 1 contradicts");
  check_refused(work.run("page blind.jsonl"), "no rows of an oracle");
  check_refused(work.run("table blind.jsonl --against h2o"), "no rows of an oracle");
  check_refused(work.run("page rows.jsonl -o no/such/folder.html"), "no/such/folder.html");
  check_refused(work.run("run -m tiny.gguf --quick --task loop"), "--quick");
  check_refused(work.run("run -m tiny.gguf --task facts"), "--task facts needs a language model");
  check_refused(work.run("run --task fewshot"), "--task fewshot needs a language model");
  check_refused(work.run("merge rows.jsonl"), "--out");
}
