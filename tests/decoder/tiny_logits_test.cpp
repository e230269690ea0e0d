#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "decoder.hpp"
#include "quant.hpp"
#include "tiny_model.hpp"

namespace {

using namespace decoder;
using gguf::TensorType;

constexpr std::array types{TensorType::F32,  TensorType::F16,  TensorType::BF16, TensorType::Q8_0,
                           TensorType::Q4_0, TensorType::Q4_1, TensorType::Q4_K, TensorType::Q6_K};

const nlohmann::json& golden() {
  static const auto parsed = [] {
    std::ifstream in(LETHE_GOLDEN_FOLDER "/tiny_models.json");
    return nlohmann::json::parse(in);
  }();
  return parsed;
}

/// Largest and root mean square distance from the reference, in standard deviations of its logits.
struct Distance {
  double most = 0;
  double typical = 0;
};

Distance distance(std::span<const float> rows, const nlohmann::json& expected,
                  std::span<const int> positions) {
  double squares = 0, differences = 0, most = 0;
  std::size_t count = 0;
  for (std::size_t p = 0; p < positions.size(); ++p) {
    const auto row = expected[p].get<std::vector<double>>();
    for (std::size_t i = 0; i < row.size(); ++i, ++count) {
      const double got = double{rows[static_cast<std::size_t>(positions[p]) * row.size() + i]};
      REQUIRE(std::isfinite(got));
      squares += row[i] * row[i];
      differences += (got - row[i]) * (got - row[i]);
      most = std::max(most, std::abs(got - row[i]));
    }
  }
  const double deviation = std::sqrt(squares / static_cast<double>(count));
  return {most / deviation, std::sqrt(differences / static_cast<double>(count)) / deviation};
}

Sequence sequence_of(const Model& model, CacheType type) {
  return {KVCache(model.config(), type, 64), Pruner(), 0};
}

/// Logits at every golden token, [tokens][vocabulary], the prompt given at once or token by token.
std::vector<float> logits_of(const Model& model, CacheType type, bool at_once) {
  const auto tokens = golden()["tokens"].get<std::vector<std::int32_t>>();
  Decoder decoder(model, 2);
  Sequence sequence = sequence_of(model, type);
  std::vector<float> all;
  if (at_once) {
    const auto rows = decoder.prefill(sequence, tokens, LogitsOf::all);
    all.assign(rows.begin(), rows.end());
  } else {
    for (const std::int32_t token : tokens) {
      const auto row = decoder.step(sequence, token);
      all.insert(all.end(), row.begin(), row.end());
    }
  }
  REQUIRE(all.size() == tokens.size() * model.config().vocabulary);
  return all;
}

/// Allowed root mean square distance, several times what is measured: rounding of sums for plain
/// types, of activations to sixteen bits for quantised ones. Wrong weights move them by all.
double tolerance(TensorType type) {
  switch (type) {
    case TensorType::F32:
    case TensorType::F16:
    case TensorType::BF16:
      return 2e-5;
    case TensorType::Q4_0:
    case TensorType::Q4_1:
      return 1e-4;
    case TensorType::Q4_K:
    case TensorType::Q6_K:
    case TensorType::Q8_0:
      return 5e-4;
  }
  return 0;
}

}  // namespace

TEST_CASE("tiny random models give the reference's logits in every architecture and tensor type") {
  const auto positions = golden()["positions"].get<std::vector<int>>();
  for (const std::string architecture : {"llama", "qwen2", "qwen3"}) {
    for (const TensorType type : types) {
      const std::string name = architecture + " " + gguf::type_name(type);
      const Model model(
          test::open_bytes(test::tiny_model({.architecture = architecture, .type = type})), 1);
      const auto& expected = golden()["models"][name];
      REQUIRE(expected.size() == positions.size());
      for (const bool at_once : {true, false}) {
        const Distance found =
            distance(logits_of(model, CacheType::f32, at_once), expected, positions);
        INFO(name << (at_once ? ", prefill" : ", steps") << ": most " << found.most << ", typical "
                  << found.typical);
        CHECK(found.typical < tolerance(type));
        CHECK(found.most < 5 * tolerance(type));
      }
    }
  }
}

TEST_CASE("weights of every tensor type have the reference's values") {
  for (const auto& item : golden()["rows"].items()) {
    const std::string& name = item.key();
    const auto& expected = item.value();
    const auto type = *std::find_if(types.begin(), types.end(), [&](TensorType candidate) {
      return gguf::type_name(candidate) == name;
    });
    const auto file = test::open_bytes(test::tiny_model({.architecture = "llama", .type = type}));
    std::vector<float> row(expected.size());
    dequantise_row(file.require("blk.0.attn_k.weight", {row.size(), 128}), 0, row.data());
    INFO(name);
    for (std::size_t i = 0; i < row.size(); ++i) {
      CHECK_THAT(double{row[i]}, WithinAbs(expected[i].get<double>(), 1e-7));
    }
  }
}

TEST_CASE("caches of fewer bits stay close to the reference's logits") {
  const auto positions = golden()["positions"].get<std::vector<int>>();
  for (const std::string architecture : {"llama", "qwen2", "qwen3"}) {
    const Model model(test::open_bytes(test::tiny_model({.architecture = architecture})), 1);
    for (const auto& [type, tolerated] :
         {std::pair(CacheType::f16, 0.002), std::pair(CacheType::q8_0, 0.02)}) {
      const Distance found = distance(logits_of(model, type, true),
                                      golden()["models"][architecture + " F32"], positions);
      INFO(architecture << ": most " << found.most << ", typical " << found.typical);
      CHECK(found.typical < tolerated);
      CHECK(found.most < 5 * tolerated);
    }
  }
}
