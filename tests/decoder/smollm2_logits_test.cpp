#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "catch.hpp"
#include "decoder.hpp"
#include "tokenizer.hpp"

namespace {

using namespace decoder;

double log_sum_exp(std::span<const float> row) {
  const double most = double{*std::max_element(row.begin(), row.end())};
  double sum = 0;
  for (const float value : row) sum += std::exp(double{value} - most);
  return most + std::log(sum);
}

/// Root mean square distance of the kept logits from the reference's.
double distance(std::span<const float> rows, std::size_t vocabulary, const nlohmann::json& golden) {
  double squares = 0;
  std::size_t count = 0;
  for (std::size_t p = 0; p < golden["positions"].size(); ++p) {
    const auto row =
        rows.subspan(golden["positions"][p].get<std::size_t>() * vocabulary, vocabulary);
    for (std::size_t i = 0; i < golden["ids"].size(); ++i, ++count) {
      const double difference =
          double{row[golden["ids"][i].get<std::size_t>()]} - golden["logits"][p][i].get<double>();
      squares += difference * difference;
    }
  }
  return std::sqrt(squares / static_cast<double>(count));
}

}  // namespace

TEST_CASE("SmolLM2 gives the reference's logits") {
  if (!std::filesystem::exists(LETHE_MODEL_FILE)) {
    WARN("skipped: no model at " LETHE_MODEL_FILE "; scripts/test.sh fetches it");
    return;
  }
  std::ifstream in(LETHE_GOLDEN_FOLDER "/smollm2_logits.json");
  const auto golden = nlohmann::json::parse(in);
  const auto tokens = golden["tokens"].get<std::vector<std::int32_t>>();
  const Model model(gguf::File::open(LETHE_MODEL_FILE));
  const std::size_t vocabulary = model.config().vocabulary;
  Decoder decoder(model, 2);
  Sequence sequence{KVCache(model.config(), CacheType::f32, tokens.size()), Pruner(), 0};
  const std::span<const float> rows = decoder.prefill(sequence, tokens, LogitsOf::all);
  REQUIRE(rows.size() == tokens.size() * vocabulary);

  // Rounding moves the logits by 0.0013 in the root mean square, where they spread by 2 to 4 at a
  // position; activations of eight bits alone would move them by 0.24.
  CHECK(distance(rows, vocabulary, golden) < 0.01);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto row = rows.subspan(i * vocabulary, vocabulary);
    INFO("position " << i);
    CHECK_THAT(log_sum_exp(row), WithinAbs(golden["log_sum_exp"][i].get<double>(), 0.03));
    const auto best = std::max_element(row.begin(), row.end()) - row.begin();
    if (golden["lead"][i].get<double>() > 0.05)
      CHECK(best == golden["argmax"][i].get<std::ptrdiff_t>());
  }
}
