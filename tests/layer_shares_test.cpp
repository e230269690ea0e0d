#include "lethe/budget/layer_shares.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"

namespace {

using Tokens = std::vector<std::size_t>;

const lethe::ReasonAllocConfig published;

Tokens shares_of(const std::vector<double>& demands, std::size_t total,
                 const lethe::ReasonAllocConfig& config = {}) {
  return lethe::reason_alloc_shares(demands, total, config).budgets;
}

std::size_t sum_of(const Tokens& tokens) {
  return std::accumulate(tokens.begin(), tokens.end(), std::size_t{0});
}

/// The published rule in real numbers: shares by demand^power, clipped around the mean, and what
/// the clip gave or took shared again among the layers that it leaves alone.
std::vector<double> naive_shares(const std::vector<double>& demands, double total,
                                 const lethe::ReasonAllocConfig& config) {
  const double mean = total / static_cast<double>(demands.size());
  std::vector<double> shares(demands.size());
  double level = 0;
  double high = 1e9;
  for (int step = 0; step < 400; ++step) {
    const double middle = (level + high) / 2;
    double sum = 0;
    for (std::size_t i = 0; i < demands.size(); ++i) {
      const double wanted = middle * std::pow(demands[i], config.power);
      shares[i] = std::clamp(wanted, config.least * mean, config.most * mean);
      sum += shares[i];
    }
    (sum <= total ? level : high) = middle;
  }
  return shares;
}

/// The shares above, clipped to whole tokens and cut to them; the rest by largest remainder.
Tokens naive_tokens(const std::vector<double>& demands, std::size_t total,
                    const lethe::ReasonAllocConfig& config) {
  const double mean = static_cast<double>(total) / static_cast<double>(demands.size());
  const double least = std::min(std::ceil(config.least * mean), std::floor(mean));
  const double most = std::max(std::floor(config.most * mean), std::ceil(mean));
  const lethe::ReasonAllocConfig whole{
      .power = config.power, .least = std::max(least, 1.0) / mean, .most = most / mean};
  const std::vector<double> shares = naive_shares(demands, static_cast<double>(total), whole);
  Tokens tokens;
  for (const double share : shares) tokens.push_back(static_cast<std::size_t>(share + 1e-9));
  while (sum_of(tokens) < total) {
    std::size_t next = demands.size();
    double largest = -1;
    for (std::size_t i = 0; i < demands.size(); ++i) {
      const double remainder = shares[i] - static_cast<double>(tokens[i]);
      if (static_cast<double>(tokens[i]) >= most || remainder <= largest + 1e-9) continue;
      largest = remainder;
      next = i;
    }
    ++tokens[next];
  }
  return tokens;
}

std::vector<double> random_demands(Samples& samples) {
  std::vector<double> demands(1 + samples.below(60));
  for (double& demand : demands) {
    demand = static_cast<double>(samples.between(1.0f, samples.below(3) == 0 ? 4000.0f : 200.0f));
  }
  return demands;
}

lethe::ReasonAllocConfig random_config(Samples& samples) {
  return {.power = static_cast<double>(samples.uniform()),
          .least = static_cast<double>(samples.uniform()),
          .most = static_cast<double>(samples.between(1.0f, 4.0f))};
}

}  // namespace

TEST_CASE("shares are the clipped power of the demand, and sum up exactly") {
  Samples samples(101);
  int clipped = 0;
  for (int trace = 0; trace < 300; ++trace) {
    const std::vector<double> demands = random_demands(samples);
    const std::size_t total = demands.size() * (4 + samples.below(100)) + samples.below(50);
    const lethe::ReasonAllocConfig config = trace % 2 == 0 ? published : random_config(samples);
    const Tokens found = shares_of(demands, total, config);
    REQUIRE(found.size() == demands.size());
    REQUIRE(sum_of(found) == total);
    REQUIRE(found == naive_tokens(demands, total, config));
    const std::vector<double> exact = naive_shares(demands, static_cast<double>(total), config);
    const double mean = static_cast<double>(total) / static_cast<double>(demands.size());
    const auto is_clipped = [&](double share) {
      return share <= config.least * mean || share >= config.most * mean;
    };
    double open = 0;
    for (const double share : exact) open += is_clipped(share) ? 0 : share;
    for (std::size_t i = 0; i < found.size(); ++i) {
      // Every layer's rounding, a token at most, is borne in proportion by those not clipped.
      const double most = 1 + static_cast<double>(demands.size()) * exact[i] / open;
      REQUIRE_THAT(static_cast<double>(found[i]), WithinAbs(exact[i], most));
      clipped += is_clipped(exact[i]) ? 1 : 0;
    }
  }
  CHECK(clipped > 300);
}

TEST_CASE("with the published settings every share lies within the clip") {
  Samples samples(102);
  for (int trace = 0; trace < 1000; ++trace) {
    const std::vector<double> demands = random_demands(samples);
    const std::size_t total = demands.size() + samples.below(20 * demands.size());
    const double mean = static_cast<double>(total) / static_cast<double>(demands.size());
    const Tokens found = shares_of(demands, total);
    REQUIRE(sum_of(found) == total);
    for (const std::size_t tokens : found) {
      REQUIRE(tokens >= 1);
      REQUIRE(static_cast<double>(tokens) >= 0.25 * mean);
      REQUIRE(static_cast<double>(tokens) <= 2.0 * mean);
    }
  }
}

TEST_CASE("four times the demand is twice the share") {
  CHECK(shares_of({100, 400, 100, 400}, 600) == Tokens{100, 200, 100, 200});
  CHECK(shares_of({7, 7, 7}, 100) == Tokens{34, 33, 33});
  CHECK(shares_of({100, 300}, 400, {.power = 1.0}) == Tokens{100, 300});
  CHECK(shares_of({1, 900}, 400, {.power = 0.0}) == Tokens{200, 200});
}

TEST_CASE("a clip at either end is made good by the others") {
  // Unclipped 10, 100 and 190 of a mean of 100; the first is raised to 25.
  CHECK(shares_of({100, 10000, 36100}, 300) == Tokens{25, 95, 180});
  // One layer wants nearly all: it gets twice the mean.
  CHECK(shares_of({1e8, 1, 1, 1}, 400) == Tokens{200, 67, 67, 66});
}

TEST_CASE("the table is a budget") {
  const std::vector<double> demands{100, 400};
  const lethe::TableBudget table(lethe::reason_alloc_shares(demands, 300));
  CHECK(table.budget({.layer = 0}).tokens == 100);
  CHECK(table.budget({.layer = 1}).tokens == 200);
}

TEST_CASE("demands are counted by mass_quantile") {
  const std::vector<float> scores{50, 1, 40, 3, 6};
  std::vector<float> scratch(5);
  CHECK(lethe::mass_quantile(scores, 0.93, scratch) == 3);
}

TEST_CASE("demands, totals and clips that cannot be are refused by name") {
  CHECK_THROWS_WITH(shares_of({}, 10), Catch::Contains("demands = 0"));
  CHECK_THROWS_WITH(shares_of({3, 0}, 10), Catch::Contains("demands = 0.0"));
  CHECK_THROWS_WITH(shares_of({3, std::nan("")}, 10), Catch::Contains("demands = "));
  CHECK_THROWS_WITH(shares_of({3, double(infinity)}, 10), Catch::Contains("demands = "));
  CHECK_THROWS_WITH(shares_of({3, 4, 5}, 2), Catch::Contains("total = 2"));
  CHECK_THROWS_WITH(shares_of({3}, 2, {.power = 2}), Catch::Contains("power = 2"));
  CHECK_THROWS_WITH(shares_of({3}, 2, {.least = 1.5}), Catch::Contains("least = 1.5"));
  CHECK_THROWS_WITH(shares_of({3}, 2, {.most = 0.5}), Catch::Contains("most = 0.5"));
  CHECK_THROWS_AS(shares_of({}, 10), std::invalid_argument);
}
