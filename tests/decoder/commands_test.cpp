#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "catch.hpp"
#include "sanitized.hpp"
#include "tiny_model.hpp"

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct Outcome {
  int status = -1;
  std::string output;
  std::string errors;
};

std::string slurp(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

decoder::test::TinyModel tiny() {
  decoder::test::TinyModel shape{.architecture = "llama", .type = decoder::gguf::TensorType::Q8_0};
  shape.context = 1u << 20;
  return shape;
}

/// A folder of its own, with a tiny model in it, where the program runs.
class Workplace {
 public:
  Workplace()
      : folder_(fs::temp_directory_path() / ("lethe_commands_" + std::to_string(getpid()))) {
    fs::create_directories(folder_);
    write_model("tiny.gguf", tiny());
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
  void write_model(const char* name, const decoder::test::TinyModel& shape) const {
    const auto bytes = decoder::test::tiny_model(shape);
    write(name, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  std::string read(const char* name) const { return slurp(folder_ / name); }
  json read_json(const char* name) const { return json::parse(read(name)); }
  bool has(const char* name) const { return fs::exists(folder_ / name); }

  /// Runs the program with shell arguments, `before` (such as "timeout 1") in front of it.
  Outcome run(const std::string& arguments, const std::string& before = "") const {
    const std::string command = "cd '" + folder_.string() + "' && " + before +
                                " '" LETHE_DECODER_FILE "' " + arguments + " >out 2>err </dev/null";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read("out"), read("err")};
  }

 private:
  fs::path folder_;
};

/// One line on stderr that begins with the program's name and contains `part`, and status 2.
void check_refused(const Outcome& outcome, const std::string& part) {
  INFO("stderr: " << outcome.errors);
  CHECK(outcome.status == 2);
  CHECK(outcome.errors.rfind("decoder: ", 0) == 0);
  CHECK(outcome.errors.find('\n') + 1 == outcome.errors.size());
  CHECK(outcome.errors.find(part) != std::string::npos);
}

// The tiny model's tokens are the characters '!' to '_', so its texts have no spaces.
std::string text(std::size_t size) {
  std::string out;
  unsigned state = 7;
  while (out.size() < size)
    out += static_cast<char>('A' + (state = state * 1103515245u + 12345u) % 26);
  return out;
}

constexpr const char* figures[] = {
    "/speed/tokens_per_second",  "/speed/over_time/tokens_per_second",
    "/memory/mean_bytes",        "/memory/peak_bytes",
    "/memory/resident_set_peak", "/kept/mean_tokens",
    "/kept/over_time/layers",    "/rounds/count"};

void check_comparison(const json& results, std::size_t runs, std::size_t tokens) {
  REQUIRE(results.at("runs").size() == runs);
  CHECK(results.at("text").at("tokens") == tokens);
  CHECK(results.at("interrupted") == false);
  for (const json& run : results.at("runs"))
    for (const char* pointer : figures) {
      INFO(pointer);
      CHECK(run.contains(json::json_pointer(pointer)));
    }
  for (std::size_t i = 1; i < runs; ++i) {
    const json& overall = results.at("runs").at(i).at("fidelity").at("overall");
    CHECK(overall.at("tokens") == tokens);
    CHECK(overall.at("mean_divergence") >= 0.0);
    CHECK(overall.at("agreement") <= 1.0);
  }
}

}  // namespace

TEST_CASE("without a model the reasoner executes its program to the right answer", "[commands]") {
  const Workplace place;
  const Outcome whole = place.run("generate --temperature 0 --json g.json");
  INFO(whole.errors);
  CHECK(whole.status == 0);
  CHECK(whole.output.find("R00 ? c c=9") != std::string::npos);
  CHECK(json::parse(place.read("g.json")).at("/model/file"_json_pointer) ==
        "the embedded reasoner");
  const Outcome forgetful = place.run("generate --temperature 0 --policy streaming --budget 5%");
  CHECK(forgetful.status == 0);
  CHECK(forgetful.output.find("R00 ? c c=9") == std::string::npos);
}

TEST_CASE("characters that the reasoner has no symbol for are told of", "[commands]") {
  const Workplace place;
  const Outcome outcome = place.run("generate -n 4 -p 'a=3 | what?'");
  CHECK(outcome.status == 0);
  CHECK(outcome.errors.find("no token for ") != std::string::npos);
  CHECK(place.run("generate -n 4 -p 'a=3 | '").errors.empty());
}

TEST_CASE("help explains every command", "[commands]") {
  const Workplace place;
  for (const char* command : {"", "generate", "compare", "bench", "perplexity", "replay"}) {
    const Outcome outcome = place.run(std::string(command) + " --help");
    CHECK(outcome.status == 0);
    CHECK(outcome.errors.empty());
    CHECK(outcome.output.find("--help") != std::string::npos);
  }
  CHECK(place.run("--version").output.rfind("decoder ", 0) == 0);
}

TEST_CASE("generate writes text and the same text again", "[commands]") {
  const Workplace place;
  const std::string arguments =
      "generate -m tiny.gguf -p ABCABC -n 40 --seed 5 --stats --json g.json";
  const Outcome first = place.run(arguments);
  CHECK(first.status == 0);
  CHECK(first.output.size() > 10);
  CHECK(first.errors.find("tokens per second") != std::string::npos);
  CHECK(place.run(arguments).output == first.output);
  const json results = place.read_json("g.json");
  CHECK(results.at("text").at("tokens") == 40);
  CHECK(results.at("text").at("text").get<std::string>() + "\n" == first.output);
}

TEST_CASE("a pruned cache stays within its budget", "[commands]") {
  const Workplace place;
  for (const char* policy : {"lethe", "h2o", "tova", "snapkv", "streaming", "random"}) {
    INFO(policy);
    const Outcome outcome = place.run(std::string("generate -m tiny.gguf -p ABC -n 300 --budget 96 "
                                                  "--json g.json --policy ") +
                                      policy);
    CHECK(outcome.status == 0);
    const json run = place.read_json("g.json").at("runs").at(0);
    for (const json& layer : run.at("kept").at("over_time").at("layers"))
      for (const json& kept : layer) REQUIRE(kept.get<std::size_t>() <= 96);
    CHECK(run.at("rounds").at("pruned") > 0);
  }
}

TEST_CASE("time by phase is that of decoding, not of a prompt that was pruned", "[commands]") {
  const Workplace place;
  REQUIRE(place
              .run("generate -m tiny.gguf -n 4 --policy streaming --budget 32 --json g.json -p " +
                   text(3000))
              .status == 0);
  const json run = place.read_json("g.json").at("runs").at(0);
  CHECK(run.at("rounds").at("pruned") > 100);
  const json& phases = run.at("phases");
  const auto seconds = [&](const char* phase) { return phases.at(phase).get<double>(); };
  const double parts = seconds("observe_seconds") + seconds("plan_seconds") +
                       seconds("apply_seconds") + seconds("other_seconds");
  CHECK(parts <= 1.001 * seconds("share") * seconds("step_seconds"));
}

TEST_CASE("an embedding wider than the tokenizer draws no token without a name", "[commands]") {
  const Workplace place;
  decoder::test::TinyModel wide = tiny();
  wide.tokens = 40;
  place.write_model("wide.gguf", wide);
  REQUIRE(place.run("generate -m wide.gguf -p ABC -n 100 --json g.json").status == 0);
  CHECK(place.read_json("g.json").at("text").at("tokens") == 100);
}

TEST_CASE("threads that cannot be started are refused in one line", "[commands]") {
  if (is_sanitized) return;  // sanitizers reserve more than any limit
  const Workplace place;
  check_refused(place.run("generate -m tiny.gguf -p ABC -n 3 -t 1024", "ulimit -v 1000000;"),
                "give a smaller -t");
}

TEST_CASE("compare measures, prints and draws", "[commands]") {
  const Workplace place;
  const Outcome outcome = place.run(
      "compare -m tiny.gguf -p ABCABC -n 400 --budget 25% --policy lethe,streaming --report r.html "
      "--json r.json");
  INFO(outcome.errors);
  REQUIRE(outcome.status == 0);
  CHECK(outcome.output.find("StreamingLLM") != std::string::npos);
  CHECK(outcome.output.find("mean KL") != std::string::npos);
  CHECK(place.read("r.html").find("</html>") != std::string::npos);
  const json results = place.read_json("r.json");
  check_comparison(results, 3, 400);
  CHECK(results.at("runs").at(1).at("memory").at("ratio") < 0.8);
  CHECK(results.at("runs").at(1).at("phases").at("step_seconds") > 0.0);
}

TEST_CASE("a chat template that is not known leaves the prompt as it is, and says so",
          "[commands]") {
  const Workplace place;
  decoder::test::TinyModel strange = tiny();
  strange.chat_template = "### Instruction: {{ x }}";
  place.write_model("strange.gguf", strange);
  const std::string options = "-n 20 --budget 64 --policy tova --report '' --json r.json -p ABC";
  for (const char* raw : {"", " --raw"}) {
    const Outcome outcome = place.run("compare -m strange.gguf " + options + raw);
    CHECK(outcome.status == 0);
    const bool says_so = outcome.errors.find("prompt is taken as it is") != std::string::npos;
    CHECK(says_so == (*raw == '\0'));
    const json results = place.read_json("r.json");
    CHECK(results.at("text").at("prompt_tokens") == 3);
    CHECK(results.at("settings").at("follow_up_turns") == 0);
    CHECK((results.at("weak").dump().find("prompt is taken as it is") != std::string::npos) ==
          says_so);
  }
  CHECK(place.run("generate -m strange.gguf -n 2 -p ABC").errors.find("as it is") !=
        std::string::npos);
}

TEST_CASE("--raw compares on a text without turns", "[commands]") {
  const Workplace place;
  decoder::test::TinyModel chatty = tiny();
  chatty.chat_template = "<|im_start|>";
  place.write_model("chatty.gguf", chatty);
  const std::string options =
      "compare -m chatty.gguf -n 20 --budget 64 --policy tova --report '' --json r.json -p ABC";
  REQUIRE(place.run(options + " --raw").status == 0);
  CHECK(place.read_json("r.json").at("settings").at("follow_up_turns") == 0);
  CHECK(place.read_json("r.json").at("text").at("prompt_tokens") == 3);
}

TEST_CASE("a budget that holds everything changes nothing", "[commands]") {
  const Workplace place;
  const Outcome outcome = place.run(
      "compare -m tiny.gguf -p ABCABC -n 100 --budget 1000 --policy h2o --report '' --json r.json");
  REQUIRE(outcome.status == 0);
  const json run = place.read_json("r.json").at("runs").at(1);
  CHECK(run.at("fidelity").at("overall").at("mean_divergence") < 1e-9);
  CHECK(run.at("fidelity").at("overall").at("agreement") == 1.0);
  CHECK_FALSE(run.at("fidelity").contains("first_difference"));
  CHECK_FALSE(run.at("generated").contains("first_difference"));
}

TEST_CASE("text files can be compared on and scored", "[commands]") {
  const Workplace place;
  place.write("text.txt", text(300));
  REQUIRE(place
              .run("compare -m tiny.gguf -f text.txt --budget 64 --policy tova --report '' "
                   "--json r.json")
              .status == 0);
  check_comparison(place.read_json("r.json"), 2, 299);
  const Outcome scored =
      place.run("perplexity -m tiny.gguf -f text.txt -n 200 --budget 64 --json p.json");
  CHECK(scored.status == 0);
  CHECK(scored.output.find("ppl ratio") != std::string::npos);
  CHECK(place.read_json("p.json").at("fidelity").at("overall").at("tokens") == 200);
}

TEST_CASE("bench measures every point", "[commands]") {
  const Workplace place;
  const Outcome outcome =
      place.run("bench -m tiny.gguf -c 64,128 --batch 1,2 -n 16 --policy none,lethe --json b.json");
  REQUIRE(outcome.status == 0);
  const json points = place.read_json("b.json").at("points");
  CHECK(points.size() == 8);
  for (const json& point : points) CHECK(point.at("tokens_per_second") > 0.0);
}

TEST_CASE("a budget beyond any run holds everything", "[commands]") {
  const Workplace place;
  for (const char* budget : {"4294967295", "18446744073709551615"}) {
    INFO(budget);
    CHECK(place
              .run(std::string("generate -m tiny.gguf -p ABC -n 20 --pinned --json g.json "
                               "--policy lethe --budget ") +
                   budget)
              .status == 0);
    CHECK(place.read_json("g.json").at("runs").at(0).at("rounds").at("pruned") == 0);
  }
}

TEST_CASE("a budget too small for one point of a bench is refused before any is measured",
          "[commands]") {
  const Workplace place;
  check_refused(
      place.run("bench -m tiny.gguf -c 400000,4 -n 4 --budget 25% --json b.json", "timeout 20"),
      "budget of 2 tokens");
}

TEST_CASE("what generate records is replayed under policies", "[commands]") {
  const Workplace place;
  REQUIRE(place.run("generate -m tiny.gguf -p ABCABC -n 200 --record r.safetensors").status == 0);
  const Outcome outcome = place.run(
      "replay r.safetensors --policy none,h2o,supersession -b 20%,50% --json r.json "
      "--report r.html");
  INFO(outcome.errors);
  REQUIRE(outcome.status == 0);
  const json results = place.read_json("r.json");
  REQUIRE(results.at("runs").size() == 6);
  CHECK(results.at("recording").at("prompt_tokens") == 6);
  for (const json& run : results.at("runs")) {
    const double lost = run.at("lost_mass"), error = run.at("output_error");
    CHECK((run.at("policy") == "none" ? lost < 1e-6 : lost > 0.01));
    CHECK((run.at("policy") == "none" ? error < 1e-6 : error > 0.001));
  }
  CHECK(results.at("runs").at(4).at("lost_mass") < results.at("runs").at(1).at("lost_mass"));
  CHECK(outcome.output.find("H2O") != std::string::npos);
  CHECK(place.read("r.html").find("Output error by layer, budget 50%") != std::string::npos);
}

TEST_CASE("what cannot be recorded or replayed is refused in one line", "[commands]") {
  const Workplace place;
  check_refused(place.run("generate -m tiny.gguf -p ABC -n 3 --policy h2o --record r.safetensors"),
                "leave --policy out");
  CHECK_FALSE(place.has("r.safetensors"));
  check_refused(place.run("replay tiny.gguf"), "tiny.gguf: is no safetensors file");
  check_refused(place.run("replay missing.safetensors"), "cannot open it");
  REQUIRE(place.run("generate -m tiny.gguf -p ABC -n 30 --record r.safetensors").status == 0);
  check_refused(place.run("replay r.safetensors --policy h3o"), "h3o");
  check_refused(place.run("replay r.safetensors -b 0"), "--budget 0");
  check_refused(place.run("replay r.safetensors -b 101%"), "--budget 101%");
}

TEST_CASE("one token has figures", "[commands]") {
  const Workplace place;
  place.write("text.txt", text(50));
  REQUIRE(place.run("perplexity -m tiny.gguf -f text.txt -n 1 --budget 64 --json p.json").status ==
          0);
  const json results = place.read_json("p.json");
  CHECK(results.at("fidelity").at("mean_kept") > 0.0);
  CHECK(results.at("whole_mean_bytes") > 0.0);
}

TEST_CASE("the random policy draws by the seed", "[commands]") {
  const Workplace place;
  place.write("text.txt", text(300));
  const auto divergence = [&](const char* seed) {
    const Outcome outcome =
        place.run(std::string("compare -m tiny.gguf -f text.txt --budget 64 --policy random "
                              "--report '' --json r.json --seed ") +
                  seed);
    CHECK(outcome.status == 0);
    const json results = place.read_json("r.json");
    return results.at("runs").at(1).at("fidelity").at("overall").at("mean_divergence");
  };
  const json first = divergence("1");
  CHECK(divergence("2") != first);
  CHECK(divergence("1") == first);
}

TEST_CASE("output that cannot be written is no success", "[commands]") {
  const Workplace place;
  const std::string full = "sh -c '\"$0\" \"$@\" >/dev/full'";
  check_refused(place.run("generate -m tiny.gguf -p ABC -n 3", full), "could not be written");
  check_refused(place.run("--help", full), "could not be written");
}

TEST_CASE("what cannot be done is refused in one line", "[commands]") {
  const Workplace place;
  const std::string generate = "generate -m tiny.gguf -p ABC ";
  check_refused(place.run(""), "--help");
  check_refused(place.run("generate -m tiny.gguf"), "the prompt is empty");
  check_refused(place.run(generate + "-n 0"), "--tokens");
  check_refused(place.run(generate + "--frobnicate"), "--frobnicate");
  check_refused(place.run(generate + "--policy best"), "lethe");
  check_refused(place.run(generate + "--budget lots --policy lethe"), "percentage up to 100%");
  check_refused(place.run(generate + "--budget 2 --policy lethe"), "budget");
  check_refused(place.run(generate + "--budget 0% --policy lethe"), "percentage up to 100%");
  check_refused(place.run(generate + "--cache-type f64"), "f64");
  check_refused(place.run(generate + "-n 2000000"), "context");
  check_refused(place.run(generate + "--json no/such/folder/x.json"), "cannot be written");
  check_refused(place.run(generate + "--top-p 7"), "top-p");
  check_refused(place.run("compare -m tiny.gguf --policy none -p ABC"), "at least one policy");
  check_refused(place.run("compare -m tiny.gguf -p ABC --report no/such/r.html"),
                "cannot be written");
  check_refused(place.run("perplexity -m tiny.gguf -f absent.txt"), "absent.txt");
}

TEST_CASE("a pinned prompt must fit the budget", "[commands]") {
  const Workplace place;
  check_refused(
      place.run("generate -m tiny.gguf -n 50 --budget 32 --pinned --policy lethe -p " + text(40)),
      "pinned");
}

TEST_CASE("damaged models are refused in one line", "[commands]") {
  const Workplace place;
  const std::string whole = place.read("tiny.gguf");
  place.write("damaged.gguf", whole.substr(0, whole.size() / 2));
  check_refused(place.run("generate -m damaged.gguf -p ABC"), "damaged.gguf");
  place.write("damaged.gguf", "no model at all");
  check_refused(place.run("generate -m damaged.gguf -p ABC"), "damaged.gguf");
  place.write("damaged.gguf", "");
  check_refused(place.run("generate -m damaged.gguf -p ABC"), "damaged.gguf");
  check_refused(place.run("generate -m absent.gguf -p ABC"), "absent.gguf");
  check_refused(place.run("generate -m . -p ABC"), "decoder: ");
}

TEST_CASE("a weight that is no number ends a run in one line", "[commands]") {
  const Workplace place;
  std::vector<std::byte> bytes = decoder::test::tiny_model({.architecture = "llama"});
  const float no_number = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(bytes.data() + bytes.size() - sizeof no_number, &no_number, sizeof no_number);
  place.write("odd.gguf", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  check_refused(place.run("generate -m odd.gguf -p ABC -n 4 --json g.json"),
                "the logits are not all numbers");
  CHECK_FALSE(place.has("g.json"));
}

TEST_CASE("an early refusal leaves no files behind", "[commands]") {
  const Workplace place;
  place.write("damaged.gguf", "no model at all");
  check_refused(place.run("compare -m damaged.gguf --report r.html --json r.json"), "damaged");
  CHECK_FALSE(place.has("r.html"));
  CHECK_FALSE(place.has("r.json"));
}

TEST_CASE("Ctrl-C ends a run with what it has", "[commands]") {
  const Workplace place;
  const Outcome outcome = place.run(
      "compare -m tiny.gguf -p ABC -n 1000000 --budget 64 --policy streaming --report r.html "
      "--json r.json",
      "timeout --foreground --preserve-status -s INT 1");
  INFO(outcome.errors);
  CHECK(outcome.status == 130);
  const json results = place.read_json("r.json");
  CHECK(results.at("interrupted") == true);
  CHECK(results.at("text").at("tokens") < 1000000);
  CHECK(place.read("r.html").find("Interrupted") != std::string::npos);
}

TEST_CASE("the real model is compared", "[commands]") {
  if (!fs::exists(LETHE_MODEL_FILE)) {
    WARN("skipped: no model at " LETHE_MODEL_FILE "; scripts/test.sh fetches it");
    return;
  }
  const Workplace place;
  const Outcome outcome =
      place.run("compare -m '" LETHE_MODEL_FILE
                "' -n 40 --budget 40 --policy lethe --report r.html --json r.json");
  INFO(outcome.errors);
  REQUIRE(outcome.status == 0);
  const json results = place.read_json("r.json");
  check_comparison(results, 2, 40);
  const json& run = results.at("runs").at(1);
  CHECK(run.at("rounds").at("pruned") > 0);
  CHECK(run.at("fidelity").at("overall").at("mean_divergence") > 0.0);
  CHECK(run.at("fidelity").at("overall").at("agreement") > 0.5);
}
