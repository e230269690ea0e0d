#include "lethe/budget/hoyer.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"

namespace {

lethe::LayerScores layer_of(const std::vector<float>& scores) {
  return {.scores = scores, .summary = lethe::summarise(scores)};
}

}  // namespace

TEST_CASE("weights are the inverse of sparsity, bounded for dense layers") {
  const lethe::HoyerBudget allocator({.total = 100});
  const std::vector<float> one{0, 1, 0, 0};
  const std::vector<float> even(4, 1.0f);
  const std::vector<float> between{1, 2, 3, 9};
  CHECK_THAT(allocator.weight(layer_of(one)), WithinAbs(1, 1e-9));
  CHECK_THAT(allocator.weight(layer_of(even)), WithinAbs(100, 1e-9));
  const double sparsity = (2 - 15 / std::sqrt(95.0)) / (2 - 1);
  CHECK_THAT(allocator.weight(layer_of(between)), WithinRel(1 / sparsity, 1e-9));
}

TEST_CASE("a total is shared exactly, within every layer's clamps, dense layers first") {
  Samples samples(51);
  for (int trace = 0; trace < 300; ++trace) {
    const lethe::HoyerBudget allocator({.total = 50 + samples.below(3000)});
    std::vector<lethe::Claim> claims(1 + samples.below(32));
    for (lethe::Claim& claim : claims) {
      const std::vector<float> scores = samples.mass(20 + samples.below(200));
      claim = {.weight = allocator.weight(layer_of(scores)),
               .floor = samples.below(20),
               .ceiling = scores.size()};
    }
    lethe::share_total(claims, allocator.total());
    std::size_t sum = 0;
    std::size_t floors = 0;
    std::size_t ceilings = 0;
    for (const lethe::Claim& claim : claims) {
      REQUIRE(claim.tokens >= claim.floor);
      REQUIRE(claim.tokens <= claim.ceiling);
      sum += claim.tokens;
      floors += claim.floor;
      ceilings += claim.ceiling;
    }
    REQUIRE(sum == std::max(floors, std::min(allocator.total(), ceilings)));
  }
}

TEST_CASE("a layer alone would get the mean") {
  CHECK(lethe::HoyerBudget({.total = 100}).budget({.layers = 4}).tokens == 25);
}

TEST_CASE("a total of nothing is refused by name") {
  CHECK_THROWS_WITH(lethe::HoyerBudget({}), Catch::Contains("total = 0"));
  CHECK_THROWS_AS(lethe::HoyerBudget({}), std::invalid_argument);
}
