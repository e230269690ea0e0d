#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "catch.hpp"
#include "tokenizer.hpp"

using namespace decoder;

TEST_CASE("SmolLM2's tokenizer agrees with the reference on 1,000 strings") {
  if (!std::filesystem::exists(LETHE_MODEL_FILE)) {
    WARN("skipped: no model at " LETHE_MODEL_FILE "; scripts/test.sh fetches it");
    return;
  }
  const Tokenizer tokenizer(gguf::File::open(LETHE_MODEL_FILE));
  std::ifstream in(LETHE_GOLDEN_FOLDER "/tokenizer_smollm2.json");
  const auto cases = nlohmann::json::parse(in);
  REQUIRE(cases.size() == 1000);
  std::size_t returned = 0;
  for (const auto& one : cases) {
    const auto text = one[0].get<std::string>();
    const auto expected = one[1].get<std::vector<std::int32_t>>();
    INFO("text: " << one[0].dump());
    CHECK(tokenizer.encode(text, true) == expected);
    returned += tokenizer.decode(expected) == text ? 1 : 0;
  }
  // The vocabulary lacks 21 bytes, among them some control characters the strings hold.
  CHECK(returned >= 900);
}
