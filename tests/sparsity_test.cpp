#include "lethe/sparsity.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"

namespace {

double naive_hoyer(const std::vector<float>& scores) {
  double one = 0;
  double two = 0;
  for (const float score : scores) {
    one += std::abs(static_cast<double>(score));
    two += static_cast<double>(score) * static_cast<double>(score);
  }
  const double root = std::sqrt(static_cast<double>(scores.size()));
  return (root - one / std::sqrt(two)) / (root - 1);
}

double hoyer(const std::vector<float>& scores) {
  return lethe::hoyer_sparsity(lethe::summarise(scores));
}

std::size_t quantile(const std::vector<float>& scores, double fraction) {
  std::vector<float> scratch(scores.size());
  return lethe::mass_quantile(scores, fraction, scratch);
}

}  // namespace

TEST_CASE("a summary equals plain sums at every length around the lanes") {
  Samples samples(1);
  for (std::size_t count = 1; count < 40; ++count) {
    const std::vector<float> scores = samples.row(count, -1.0f, 1.0f);
    const lethe::MassSummary summary = lethe::summarise(scores);
    double sum = 0;
    double square = 0;
    for (const float score : scores) {
      sum += std::abs(static_cast<double>(score));
      square += static_cast<double>(score) * static_cast<double>(score);
    }
    CHECK(summary.count == count);
    CHECK(summary.finite);
    CHECK_THAT(summary.sum, WithinRel(sum, 1e-12));
    CHECK_THAT(summary.square_sum, WithinRel(square, 1e-12));
    CHECK(summary.maximum == *std::max_element(scores.begin(), scores.end()));
  }
}

TEST_CASE("one value that is not finite, wherever it stands, is found") {
  for (const float bad : {infinity, -infinity, not_a_number, -not_a_number}) {
    for (std::size_t place = 0; place < 19; ++place) {
      std::vector<float> scores(19, 0.25f);
      scores[place] = bad;
      CHECK_FALSE(lethe::summarise(scores).finite);
    }
  }
  CHECK(lethe::summarise({}).finite);
}

TEST_CASE("Hoyer sparsity is 0 for equal scores, 1 for one, and the paper's formula between") {
  CHECK_THAT(hoyer(std::vector<float>(16, 0.5f)), WithinAbs(0, 1e-12));
  std::vector<float> one(16, 0.0f);
  one[3] = 2.0f;
  CHECK_THAT(hoyer(one), WithinAbs(1, 1e-12));
  CHECK_THAT(hoyer({3.0f, 4.0f}), WithinAbs((std::sqrt(2.0) - 1.4) / (std::sqrt(2.0) - 1), 1e-12));

  Samples samples(2);
  for (int i = 0; i < 100; ++i) {
    const std::vector<float> scores = samples.mass(2 + samples.below(500));
    CHECK_THAT(hoyer(scores), WithinAbs(naive_hoyer(scores), 1e-9));
  }
}

TEST_CASE("Hoyer sparsity is defined without mass, for one token and for none") {
  CHECK(hoyer({}) == 0);
  CHECK(hoyer({0.0f, 0.0f, 0.0f}) == 0);
  CHECK(hoyer({0.7f}) == 1);
}

TEST_CASE("effective tokens count those that share the mass") {
  CHECK_THAT(lethe::effective_tokens(lethe::summarise(std::vector<float>(10, 3.0f))),
             WithinAbs(10, 1e-9));
  CHECK_THAT(lethe::effective_tokens(lethe::summarise(std::vector<float>{0, 5, 0, 0})),
             WithinAbs(1, 1e-9));
  CHECK(lethe::effective_tokens(lethe::summarise(std::vector<float>{0, 0})) == 0);
}

TEST_CASE("normalised entropy is 1 for equal scores, 0 for one") {
  CHECK_THAT(lethe::normalised_entropy(std::vector<float>(12, 0.3f)), WithinAbs(1, 1e-12));
  CHECK_THAT(lethe::normalised_entropy(std::vector<float>{0, 1, 0}), WithinAbs(0, 1e-12));
  CHECK_THAT(lethe::normalised_entropy(std::vector<float>{1, 1, 0, 0}), WithinAbs(0.5, 1e-12));
  CHECK(lethe::normalised_entropy(std::vector<float>{5}) == 0);
  CHECK(lethe::normalised_entropy(std::vector<float>{0, 0}) == 0);
}

TEST_CASE("the mass quantile is the smallest set that holds the fraction") {
  const std::vector<float> scores{1, 4, 2, 3};
  CHECK(quantile(scores, 0.0) == 0);
  CHECK(quantile(scores, 0.4) == 1);
  CHECK(quantile(scores, 0.41) == 2);
  CHECK(quantile(scores, 0.7) == 2);
  CHECK(quantile(scores, 0.9) == 3);
  CHECK(quantile(scores, 1.0) == 4);
  CHECK(quantile({0, 0}, 0.5) == 0);
}

TEST_CASE("count_at_least counts over its blocks and the rest") {
  Samples samples(4);
  for (const std::size_t count : {0u, 1u, 4095u, 4096u, 4097u, 9000u}) {
    const std::vector<float> scores = samples.mass(count);
    const auto expected =
        std::count_if(scores.begin(), scores.end(), [](float s) { return s >= 0.125f; });
    CHECK(lethe::count_at_least(scores, 0.125f) == static_cast<std::size_t>(expected));
  }
}
