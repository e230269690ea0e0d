#include "statistics.hpp"

#include <cmath>
#include <utility>
#include <vector>

#include "../catch.hpp"

using accuracy::ClusteredShare;
using accuracy::Interval;
using accuracy::Share;

TEST_CASE("a share has Wilson's interval") {
  // 8 of 10: 0.4902 to 0.9433 (Wilson 1927, as any table gives it).
  const Interval interval = Share{.hits = 8, .count = 10}.interval();
  CHECK_THAT(interval.low, WithinAbs(0.4902, 1e-4));
  CHECK_THAT(interval.high, WithinAbs(0.9433, 1e-4));
  // 0 of n: from 0 to z^2 / (n + z^2), and the mirror of it.
  const double z = 1.959964;
  CHECK_THAT((Share{.hits = 0, .count = 4}.interval().low), WithinAbs(0, 1e-12));
  CHECK_THAT((Share{.hits = 0, .count = 4}.interval().high), WithinRel(z * z / (4 + z * z), 1e-12));
  CHECK_THAT((Share{.hits = 4, .count = 4}.interval().low), WithinRel(4 / (4 + z * z), 1e-12));
  CHECK((Share{.hits = 4, .count = 4}.interval().high) <= 1);
  CHECK(Share{}.interval().high == 0);
  CHECK(Share{}.value() == 0);
}

TEST_CASE("clusters that fall together count as one trial each") {
  ClusteredShare together;
  for (int i = 0; i < 10; ++i) together.add(i < 5 ? 10 : 0, 10);
  // The variance of ten coins, each estimated with one degree of freedom less.
  const Interval interval = together.interval(), nine = accuracy::wilson(0.5, 9);
  CHECK_THAT(interval.low, WithinRel(nine.low, 1e-9));
  CHECK_THAT(interval.high, WithinRel(nine.high, 1e-9));
}

TEST_CASE("a clustered interval follows the variance of a ratio of sums") {
  const std::vector<std::pair<double, double>> clusters{{3, 10}, {9, 12}, {1, 7}, {11, 11}, {4, 9}};
  ClusteredShare share;
  double hits = 0, count = 0, squares = 0;
  for (const auto& [h, n] : clusters) {
    share.add(static_cast<std::size_t>(h), static_cast<std::size_t>(n));
    hits += h;
    count += n;
  }
  const double p = hits / count;
  for (const auto& [h, n] : clusters) squares += (h - p * n) * (h - p * n);
  const double variance = squares * 5 / 4 / (count * count);
  const Interval expected = accuracy::wilson(p, p * (1 - p) / variance);
  CHECK_THAT(share.value(), WithinRel(p, 1e-12));
  CHECK_THAT(share.interval().low, WithinRel(expected.low, 1e-9));
  CHECK_THAT(share.interval().high, WithinRel(expected.high, 1e-9));
}

TEST_CASE("a clustered interval is never narrower than that of independent trials") {
  ClusteredShare even;
  for (int i = 0; i < 8; ++i) even.add(5, 10);
  CHECK_THAT(even.interval().low, WithinRel(accuracy::wilson(0.5, 80).low, 1e-12));
  ClusteredShare right;
  for (int i = 0; i < 8; ++i) right.add(10, 10);
  CHECK_THAT(right.interval().low, WithinRel(accuracy::wilson(1, 80).low, 1e-12));
  CHECK(ClusteredShare{}.interval().high == 0);
}

TEST_CASE("the exact p of the sign test") {
  // Sums of binomials over powers of two, computed with whole numbers of any size.
  CHECK_THAT(accuracy::sign_test(1, 9), WithinRel(0.021484375, 1e-9));
  CHECK_THAT(accuracy::sign_test(9, 1), WithinRel(0.021484375, 1e-9));
  CHECK_THAT(accuracy::sign_test(0, 5), WithinRel(0.0625, 1e-9));
  CHECK_THAT(accuracy::sign_test(59, 86), WithinRel(0.030481814649487633, 1e-9));
  CHECK_THAT(accuracy::sign_test(2000, 2400), WithinRel(1.753122444980596e-09, 1e-7));
  CHECK_THAT(accuracy::sign_test(0, 1), WithinRel(1.0, 1e-12));
  CHECK(accuracy::sign_test(5, 5) == 1);
  CHECK_THAT(accuracy::sign_test(0, 0), WithinRel(1.0, 1e-12));
}

TEST_CASE("Holm's correction") {
  // Smallest times 4, next times 3, never below one before: worked by hand.
  const std::vector<double> corrected = accuracy::holm({0.01, 0.04, 0.03, 0.005});
  REQUIRE(corrected.size() == 4);
  CHECK_THAT(corrected[0], WithinRel(0.03, 1e-12));
  CHECK_THAT(corrected[1], WithinRel(0.06, 1e-12));
  CHECK_THAT(corrected[2], WithinRel(0.06, 1e-12));
  CHECK_THAT(corrected[3], WithinRel(0.02, 1e-12));
  CHECK(accuracy::holm({0.6, 0.7}) == std::vector<double>{1, 1});
  CHECK(accuracy::holm({}).empty());
}
