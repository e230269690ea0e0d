#include "commands.hpp"

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "catch.hpp"
#include "error.hpp"
#include "gguf_writer.hpp"
#include "host_backend.hpp"

namespace {

using namespace cuda_decode;

/// What a command writes to stdout, and its status.
struct Written {
  int status = -1;
  std::string text;
};

Written written(const std::function<int()>& command) {
  const decoder::test::TemporaryFile file({});
  std::fflush(stdout);
  const int kept = dup(STDOUT_FILENO);
  REQUIRE(std::freopen(file.path().c_str(), "w", stdout) != nullptr);
  Written out;
  try {
    out.status = command();
  } catch (const decoder::Error& error) {
    out.text = error.what();
  }
  std::fflush(stdout);
  REQUIRE(dup2(kept, STDOUT_FILENO) != -1);
  close(kept);
  std::ifstream in(file.path());
  out.text.append(std::istreambuf_iterator<char>(in), {});
  return out;
}

}  // namespace

TEST_CASE("generate writes the same text with the whole cache and with a bound it does not reach") {
  const GenerateOptions options{.prompt = "d=4 a=7 h=1 | L21 a + d > h R11 ? h | ", .tokens = 20};
  const Written whole = written([&] { return generate(options); });
  CHECK(whole.status == 0);
  CHECK(whole.text.size() > 20);
  GenerateOptions pruned = options;
  pruned.policy = "lethe";
  pruned.budget = "100%";
  CHECK(written([&] { return generate(pruned); }).text == whole.text);
  pruned.budget = "3";
  CHECK(written([&] { return generate(pruned); }).text.find("at least 16") != std::string::npos);
}

TEST_CASE("check passes on the reasoner, and writes what it found") {
  const decoder::test::TemporaryFile file({});
  const CheckOptions options{.budget = 64, .tokens = 30, .batch = 6, .json = file.path()};
  const Written out = written([&] { return check(options); });
  CHECK(out.status == 0);
  CHECK(out.text.find("whole cache") != std::string::npos);
  const auto found = nlohmann::json::parse(std::ifstream(file.path()));
  CHECK(found.at("lethe").at("most_kept") <= 64);
  CHECK(found.at("lethe").at("same_tokens") == found.at("lethe").at("steps"));
}

TEST_CASE("without a device check and time are skipped, and generate says why") {
  test::set_device(false);
  const std::string skipped = "skipped: no CUDA device\n";
  const Written checked = written([] { return check({}); });
  CHECK(checked.status == 0);
  CHECK(checked.text == skipped);
  CHECK(written([] { return timing({}); }).text == skipped);
  CHECK(written([] { return generate({}); }).text.find("no CUDA device") != std::string::npos);
  test::set_device(true);
}

TEST_CASE("a device that cannot be counted is no device that is missing") {
  test::set_device_error("cudaErrorInsufficientDriver");
  for (const auto& command : {std::function<int()>([] { return check({}); }),
                              std::function<int()>([] { return timing({}); }),
                              std::function<int()>([] { return generate({}); })}) {
    const Written out = written(command);
    CHECK(out.status == -1);
    CHECK(out.text == "cudaErrorInsufficientDriver");
  }
  test::set_device_error("");
}

TEST_CASE("a model that the device cannot hold, a shape that there is not") {
  CHECK(written([] { return timing({}); }).text.find("the weights take 15") != std::string::npos);
  CHECK(written([] { return timing({.model = "gpt-5"}); }).text.find("llama-3.1-8b") !=
        std::string::npos);
}
