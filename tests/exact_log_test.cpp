#include "lethe/exact_log.hpp"

#include <bit>
#include <cmath>
#include <cstdint>

#include "catch.hpp"

TEST_CASE("exact_log stays within 3e-7 of the true value over all normal numbers") {
  double worst = 0;
  // Every exponent, and a stride through the digits that meets both ends of each.
  for (std::uint64_t bits = 0x00800000u; bits < 0x7F800000u; bits += 2011) {
    const float x = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    const double truth = std::log(static_cast<double>(x));
    if (truth == 0) continue;
    worst = std::max(worst, std::abs(static_cast<double>(lethe::exact_log(x)) / truth - 1));
  }
  CHECK(worst < 3e-7);
}

TEST_CASE("exact_log keeps its accuracy next to 1 and to where its series changes") {
  double worst = 0;
  for (const std::uint32_t centre : {0x3F800000u, 0x3F3504F3u, 0x3FB504F3u}) {
    for (std::uint32_t bits = centre - 3000; bits < centre + 3000; ++bits) {
      const float x = std::bit_cast<float>(bits);
      const double truth = std::log(static_cast<double>(x));
      if (truth == 0) continue;
      worst = std::max(worst, std::abs(static_cast<double>(lethe::exact_log(x)) / truth - 1));
    }
  }
  CHECK(worst < 3e-7);
  CHECK(lethe::exact_log(1.0f) == 0.0f);
}

TEST_CASE("logarithms have the same bits on every compiler") {
  std::uint64_t digest = 0;
  for (std::uint64_t bits = 0x00800000u; bits < 0x7F800000u; bits += 40009) {
    const float found = lethe::exact_log(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
    digest = lethe::detail::mix(digest ^ std::bit_cast<std::uint32_t>(found));
  }
  CHECK(digest == 0xA3E04FFAB0055659u);
}
