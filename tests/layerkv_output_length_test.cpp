// Predicted output lengths: bucketed, conditional, on the low side.
#include "lethe/layerkv/output_length.hpp"

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "naive/random.hpp"

namespace layerkv = lethe::layerkv;
using layerkv::OutputLengths;
using layerkv::OutputLengthsConfig;
using layerkv::PredictedLength;
using naive::Random;

namespace {

/// Counts by bucket; every prediction walks them.
struct NaiveLengths {
  std::vector<std::size_t> edges;
  double quantile;
  std::size_t memory;
  std::vector<std::size_t> counts = std::vector<std::size_t>(edges.size() + 1, 0);

  [[nodiscard]] std::size_t bucket(std::size_t length) const {
    std::size_t i = 0;
    while (i < edges.size() && edges[i] <= length) ++i;
    return i;
  }
  [[nodiscard]] std::size_t total(std::size_t first, std::size_t last) const {
    std::size_t sum = 0;
    for (std::size_t i = first; i <= last; ++i) sum += counts[i];
    return sum;
  }
  void observe(std::size_t length) {
    if (total(0, edges.size()) >= memory) {
      for (std::size_t& count : counts) count /= 2;
    }
    ++counts[bucket(length)];
  }
  [[nodiscard]] PredictedLength predict(std::size_t generated) const {
    const std::size_t first = bucket(generated);
    const std::size_t possible = total(first, edges.size());
    if (possible == 0) return {generated, layerkv::unbounded};
    for (std::size_t i = first;; ++i) {
      const auto share = static_cast<double>(total(first, i)) / static_cast<double>(possible);
      if (share < quantile) continue;
      return {std::max(generated, i == 0 ? 0 : edges[i - 1]),
              i == edges.size() ? layerkv::unbounded : edges[i]};
    }
  }
};

std::string refusal(const OutputLengthsConfig& config) {
  try {
    OutputLengths lengths(config);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("predictions are those of counts walked bucket by bucket") {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    Random random(seed);
    OutputLengthsConfig config;
    for (std::size_t edge = 0, i = random.between(1, 8); i-- != 0;) {
      config.edges.push_back(edge += random.between(1, 20));
    }
    // Quantiles whose products are exact, so that both ways of counting agree at the boundary.
    config.quantile = static_cast<double>(random.between(1, 8)) / 8;
    config.memory = random.between(2 * config.edges.size() + 2, 60);
    OutputLengths lengths(config);
    NaiveLengths naive{config.edges, config.quantile, config.memory};
    INFO("seed " << seed);
    for (int i = 0; i < 100; ++i) {
      const std::size_t generated = random.below(120);
      CHECK(lengths.predict(generated) == naive.predict(generated));
      const std::size_t length = random.chance(50) ? random.below(120) : random.below(20);
      lengths.observe(length);
      naive.observe(length);
      CHECK(lengths.remembered() == naive.total(0, config.edges.size()));
    }
  }
}

TEST_CASE("with no history nothing is promised") {
  const OutputLengths lengths;
  CHECK(lengths.predict(0) == PredictedLength{0, layerkv::unbounded});
  CHECK(lengths.predict(100) == PredictedLength{100, layerkv::unbounded});
}

TEST_CASE("the lower edge of the median's bucket is predicted") {
  OutputLengths lengths;
  for (const std::size_t length : {100u, 120u, 200u, 300u, 5000u}) lengths.observe(length);
  CHECK(lengths.predict(0) == PredictedLength{128, 256});
  // Past an edge, shorter outputs do not count any more.
  CHECK(lengths.predict(64) == PredictedLength{128, 256});
  CHECK(lengths.predict(128) == PredictedLength{256, 512});
  CHECK(lengths.predict(512) == PredictedLength{4096, 8192});
  // Within the bucket itself no more than what is there is promised.
  CHECK(lengths.predict(4500) == PredictedLength{4500, 8192});
  // Longer than any seen.
  CHECK(lengths.predict(9000) == PredictedLength{9000, layerkv::unbounded});
}

TEST_CASE("a smaller quantile is more cautious") {
  std::vector<PredictedLength> predictions;
  for (const double quantile : {0.1, 0.25, 0.5, 1.0}) {
    OutputLengths lengths({.quantile = quantile});
    for (std::size_t length = 1; length <= 2000; ++length) lengths.observe(length);
    predictions.push_back(lengths.predict(0));
  }
  for (std::size_t i = 1; i < predictions.size(); ++i) {
    CHECK(predictions[i - 1].at_least < predictions[i].at_least);
  }
  CHECK(predictions.back() == PredictedLength{1024, 2048});
}

TEST_CASE("the last bucket has no end") {
  OutputLengths lengths({.edges = {10}});
  lengths.observe(layerkv::unbounded);
  CHECK(lengths.predict(3) == PredictedLength{10, layerkv::unbounded});
  CHECK(lengths.predict(50) == PredictedLength{50, layerkv::unbounded});
}

TEST_CASE("the prediction follows the traffic") {
  OutputLengths lengths({.memory = 100});
  for (int i = 0; i < 1000; ++i) lengths.observe(20);
  CHECK(lengths.predict(0).at_least == 16);
  CHECK(lengths.remembered() <= 100);
  for (int i = 0; i < 100; ++i) lengths.observe(1000);
  CHECK(lengths.predict(0).at_least == 512);
}

TEST_CASE("settings that cannot be are refused by name") {
  const auto begins = [](const OutputLengthsConfig& config, const std::string& start) {
    const std::string message = refusal(config);
    CHECK(message.substr(0, start.size()) == start);
  };
  begins({.edges = {0, 4}}, "lethe: edges = 0: ");
  begins({.edges = {4, 4}}, "lethe: edges = 4: ");
  begins({.edges = {8, 4}}, "lethe: edges = 4: ");
  begins({.quantile = 0}, "lethe: quantile = 0.000000: ");
  begins({.quantile = 1.5}, "lethe: quantile = 1.500000: ");
  begins({.edges = {4, 8}, .memory = 5}, "lethe: memory = 5: ");
  CHECK(refusal({.edges = {4, 8}, .memory = 6}).empty());
}
