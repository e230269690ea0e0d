#include "fidelity.hpp"

#include "catch.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

namespace {

std::vector<float> random_row(std::mt19937& random, std::size_t size, float spread) {
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> row(size);
  for (float& value : row) value = normal(random);
  return row;
}

std::vector<long double> naive_softmax(const std::vector<float>& row) {
  std::vector<long double> probabilities(row.size());
  long double sum = 0;
  for (std::size_t i = 0; i < row.size(); ++i)
    sum += probabilities[i] = std::exp(static_cast<long double>(row[i]));
  for (long double& p : probabilities) p /= sum;
  return probabilities;
}

double naive_divergence(const std::vector<float>& full, const std::vector<float>& pruned) {
  const auto p = naive_softmax(full);
  const auto q = naive_softmax(pruned);
  long double divergence = 0;
  for (std::size_t i = 0; i < p.size(); ++i) divergence += p[i] * std::log(p[i] / q[i]);
  return static_cast<double>(divergence);
}

bool naive_long_gap(const std::vector<std::int32_t>& text, std::size_t at, std::size_t gap) {
  if (at < 3) return false;
  for (std::size_t end = at; end-- > 3;) {
    bool equal = true;
    for (std::size_t i = 0; i < 4; ++i) equal = equal && text[end - i] == text[at - i];
    if (equal) return at - end > gap;
  }
  return false;
}

}  // namespace

TEST_CASE("divergence and losses equal the naive formulas", "[fidelity]") {
  std::mt19937 random(1);
  for (int trial = 0; trial < 200; ++trial) {
    const auto full = random_row(random, 301, 3.0F);
    const auto pruned = random_row(random, 301, 2.0F);
    const auto target = static_cast<std::int32_t>(random() % 301);
    const auto token = decoder::compare_logits(full, pruned, target);
    const auto at = static_cast<std::size_t>(target);
    CHECK(std::abs(token.divergence - naive_divergence(full, pruned)) < 1e-12);
    CHECK(std::abs(token.full_loss + std::log(static_cast<double>(naive_softmax(full)[at]))) <
          1e-12);
    CHECK(std::abs(token.pruned_loss + std::log(static_cast<double>(naive_softmax(pruned)[at]))) <
          1e-12);
    CHECK(token.agrees == (decoder::argmax(full) == decoder::argmax(pruned)));
  }
}

TEST_CASE("divergence ignores a shift of the logits, however large", "[fidelity]") {
  std::mt19937 random(2);
  auto full = random_row(random, 64, 2.0F);
  // Multiples of 1/64 stay exact after the shift.
  for (float& value : full) value = std::round(value * 64.0F) / 64.0F;
  auto pruned = full;
  for (float& value : pruned) value += 4096.0F;
  CHECK(decoder::compare_logits(full, pruned, 5).divergence < 1e-12);
  CHECK(decoder::compare_logits(full, full, 5).divergence == 0.0);
}

TEST_CASE("small divergences keep their digits", "[fidelity]") {
  // KL of (1/2, 1/2) from softmax(0, e) is log cosh(e / 2), about e * e / 8.
  const std::vector<float> full{0.0F, 0.0F};
  const std::vector<float> pruned{0.0F, 0.0009765625F};
  const double half = 0.0009765625 / 2;
  const double exact = std::log1p(2 * std::pow(std::sinh(half / 2), 2));
  const double found = decoder::compare_logits(full, pruned, 0).divergence;
  CHECK(std::abs(found - exact) < 1e-15);
}

TEST_CASE("extreme and masked logits give finite figures", "[fidelity]") {
  const float masked = -std::numeric_limits<float>::infinity();
  const std::vector<float> full{1e30F, 0.0F, masked};
  const std::vector<float> pruned{1e30F, 5.0F, masked};
  const auto token = decoder::compare_logits(full, pruned, 0);
  CHECK(token.divergence == 0.0);
  CHECK(token.full_loss == 0.0);
  CHECK(token.agrees);
}

TEST_CASE("rows that cannot be compared are refused", "[fidelity]") {
  const std::vector<float> three{0.0F, 1.0F, 2.0F};
  const std::vector<float> two{0.0F, 1.0F};
  const std::vector<float> broken(3, std::numeric_limits<float>::quiet_NaN());
  CHECK_THROWS_AS(decoder::compare_logits(three, two, 0), std::invalid_argument);
  CHECK_THROWS_AS(decoder::compare_logits(three, three, 3), std::invalid_argument);
  CHECK_THROWS_AS(decoder::compare_logits(three, three, -1), std::invalid_argument);
  CHECK_THROWS_AS(decoder::compare_logits({}, {}, 0), std::invalid_argument);
  CHECK_THROWS_AS(decoder::compare_logits(three, broken, 0), std::invalid_argument);
}

TEST_CASE("totals are means over tokens", "[fidelity]") {
  decoder::FidelityTotals totals;
  CHECK(totals.mean_divergence() == 0.0);
  CHECK(totals.agreement() == 1.0);
  CHECK(totals.perplexity_ratio() == 1.0);
  totals.add({.divergence = 0.5, .agrees = true, .full_loss = 1.0, .pruned_loss = 2.0});
  totals.add({.divergence = 0.1, .agrees = false, .full_loss = 3.0, .pruned_loss = 3.0});
  CHECK(totals.tokens() == 2);
  CHECK(std::abs(totals.mean_divergence() - 0.3) < 1e-15);
  CHECK(totals.largest_divergence() == 0.5);
  CHECK(totals.agreement() == 0.5);
  CHECK(std::abs(totals.full_perplexity() - std::exp(2.0)) < 1e-12);
  CHECK(std::abs(totals.pruned_perplexity() - std::exp(2.5)) < 1e-12);
  CHECK(std::abs(totals.perplexity_ratio() - std::exp(0.5)) < 1e-12);
}

TEST_CASE("long-gap tokens equal a search through the whole text", "[fidelity]") {
  std::mt19937 random(3);
  for (const std::size_t gap : {0U, 1U, 7U, 40U}) {
    std::vector<std::int32_t> text(600);
    for (auto& token : text) token = static_cast<std::int32_t>(random() % 3);
    decoder::LongGapDetector detector(gap);
    std::size_t found = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const bool is_long_gap = detector.push(text[i]);
      REQUIRE(is_long_gap == naive_long_gap(text, i, gap));
      found += is_long_gap ? 1U : 0U;
    }
    CHECK(found > 0);
    CHECK(found < text.size());
  }
}

TEST_CASE("a gap of exactly the limit is not long", "[fidelity]") {
  const auto is_long_at = [](std::size_t distance) {
    decoder::LongGapDetector detector(256);
    std::int32_t filler = 1000;
    for (std::int32_t i = 0; i < 4; ++i) detector.push(i);
    for (std::size_t i = 4; i < distance; ++i) detector.push(filler++);
    bool last = false;
    for (std::int32_t i = 0; i < 4; ++i) last = detector.push(i);
    return last;
  };
  CHECK_FALSE(is_long_at(256));
  CHECK(is_long_at(257));
}
