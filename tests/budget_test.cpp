#include "lethe/budget.hpp"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "lethe/budget/breakpoint.hpp"
#include "lethe/budget/hoyer.hpp"
#include "lethe/budget/pyramid.hpp"
#include "samples.hpp"

static_assert(lethe::BudgetAllocator<lethe::UniformBudget>);
static_assert(lethe::BudgetAllocator<lethe::TableBudget>);
static_assert(lethe::BudgetAllocator<lethe::PyramidBudget>);
static_assert(lethe::BudgetAllocator<lethe::SegmentBreakpoint>);
static_assert(lethe::GlobalBudgetAllocator<lethe::HoyerBudget>);
static_assert(!lethe::GlobalBudgetAllocator<lethe::UniformBudget>);
static_assert(!lethe::BudgetAllocator<int>);

namespace {

using lethe::Claim;

std::size_t sum_tokens(const std::vector<Claim>& claims) {
  return std::accumulate(claims.begin(), claims.end(), std::size_t{0},
                         [](std::size_t sum, const Claim& c) { return sum + c.tokens; });
}

std::vector<Claim> random_claims(Samples& samples) {
  std::vector<Claim> claims(1 + samples.below(12));
  for (Claim& claim : claims) {
    claim.weight = static_cast<double>(samples.between(0.01f, 100.0f));
    claim.floor = samples.below(30);
    claim.ceiling = claim.floor + samples.below(200);
  }
  return claims;
}

std::vector<std::size_t> tokens_of(std::vector<Claim> claims, std::size_t total) {
  lethe::share_total(claims, total);
  std::vector<std::size_t> tokens;
  for (const Claim& claim : claims) tokens.push_back(claim.tokens);
  return tokens;
}

}  // namespace

TEST_CASE("the sum is exact between the floors and the ceilings") {
  Samples samples(41);
  for (int trace = 0; trace < 1000; ++trace) {
    std::vector<Claim> claims = random_claims(samples);
    std::size_t floors = 0;
    std::size_t ceilings = 0;
    for (const Claim& claim : claims) {
      floors += claim.floor;
      ceilings += claim.ceiling;
    }
    const std::size_t total = samples.below(ceilings + 50);
    lethe::share_total(claims, total);
    REQUIRE(sum_tokens(claims) == std::max(floors, std::min(total, ceilings)));
    for (const Claim& claim : claims) {
      REQUIRE(claim.tokens >= claim.floor);
      REQUIRE(claim.tokens <= claim.ceiling);
    }
  }
}

TEST_CASE("claims that no clamp touches differ from proportion by less than one token") {
  Samples samples(42);
  for (int trace = 0; trace < 300; ++trace) {
    std::vector<Claim> claims(2 + samples.below(10));
    double weights = 0;
    for (Claim& claim : claims) {
      claim = {.weight = static_cast<double>(samples.between(0.5f, 2.0f)), .ceiling = 100000};
      weights += claim.weight;
    }
    const std::size_t total = samples.below(5000);
    lethe::share_total(claims, total);
    REQUIRE(sum_tokens(claims) == total);
    for (const Claim& claim : claims) {
      const double fair = static_cast<double>(total) * claim.weight / weights;
      REQUIRE_THAT(static_cast<double>(claim.tokens), WithinAbs(fair, 1.0));
    }
  }
}

TEST_CASE("a heavy claim gets no more than its share beside many light ones") {
  std::vector<Claim> claims(32, Claim{.weight = 1, .ceiling = 1000});
  claims[0].weight = 31;
  CHECK(tokens_of(claims, 100)[0] == 50);
}

TEST_CASE("what a ceiling or a floor takes is shared by the rest in proportion") {
  const std::vector<Claim> claims{
      {.weight = 1, .ceiling = 10}, {.weight = 1, .ceiling = 1000}, {.weight = 2, .ceiling = 1000}};
  CHECK(tokens_of(claims, 100) == std::vector<std::size_t>{10, 30, 60});
  const std::vector<Claim> floors{{.weight = 1, .floor = 40, .ceiling = 1000},
                                  {.weight = 1, .ceiling = 1000},
                                  {.weight = 2, .ceiling = 1000}};
  CHECK(tokens_of(floors, 100) == std::vector<std::size_t>{40, 20, 40});
}

TEST_CASE("the rest goes to the largest remainder, ties to the lower layer") {
  const std::vector<Claim> equal(3, Claim{.weight = 1, .ceiling = 100});
  CHECK(tokens_of(equal, 10) == std::vector<std::size_t>{4, 3, 3});
  CHECK(tokens_of(equal, 11) == std::vector<std::size_t>{4, 4, 3});
  CHECK(tokens_of(equal, 0) == std::vector<std::size_t>{0, 0, 0});
  CHECK(tokens_of(equal, 300) == std::vector<std::size_t>{100, 100, 100});
  CHECK(tokens_of(equal, 999) == std::vector<std::size_t>{100, 100, 100});
}

TEST_CASE("floors hold even when they exceed the total, and no weight means no more than them") {
  const std::vector<Claim> claims{{.weight = 5, .floor = 20, .ceiling = 30},
                                  {.weight = 0, .floor = 10, .ceiling = 30}};
  CHECK(tokens_of(claims, 5) == std::vector<std::size_t>{20, 10});
  CHECK(tokens_of(claims, 37) == std::vector<std::size_t>{27, 10});
}

TEST_CASE("costs are counted, and what is left is less than any open claim's cost") {
  Samples samples(43);
  for (int trace = 0; trace < 300; ++trace) {
    std::vector<Claim> claims = random_claims(samples);
    std::size_t least = 0;
    for (Claim& claim : claims) {
      claim.cost = 1 + samples.below(700);
      least += claim.floor * claim.cost;
    }
    const std::size_t total = least + samples.below(100000);
    lethe::share_total(claims, total);
    std::size_t used = 0;
    for (const Claim& claim : claims) used += claim.tokens * claim.cost;
    REQUIRE(used <= total);
    for (const Claim& claim : claims) {
      REQUIRE((claim.tokens == claim.ceiling || claim.cost > total - used));
    }
  }
}

TEST_CASE("a uniform budget is its number, or the cap") {
  CHECK(lethe::UniformBudget({.budget = 7}).budget({.limit = 100}).tokens == 7);
  CHECK(lethe::UniformBudget({}).budget({.limit = 100}).tokens == 100);
}

TEST_CASE("a table gives each layer its own, and the last entry to the rest") {
  const lethe::TableBudget table({.budgets = {5, 6}});
  CHECK(table.budget({.layer = 0}).tokens == 5);
  CHECK(table.budget({.layer = 1}).tokens == 6);
  CHECK(table.budget({.layer = 9}).tokens == 6);
  CHECK_THROWS_WITH(lethe::TableBudget({}), Catch::Contains("budgets = 0"));
  CHECK_THROWS_WITH(lethe::TableBudget({.budgets = {3, 0}}), Catch::Contains("budgets = 0"));
  CHECK_THROWS_AS(lethe::TableBudget({}), std::invalid_argument);
}
