#include "lethe/exact_turn.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "catch.hpp"
#include "lethe/numeric.hpp"

namespace {

constexpr double two_pi = 6.283185307179586;

double worst_error(double turns) {
  const lethe::Turn turn = lethe::exact_turn(turns);
  const double angle = two_pi * std::remainder(turns, 1.0);
  return std::max(std::abs(static_cast<double>(turn.cosine) - std::cos(angle)),
                  std::abs(static_cast<double>(turn.sine) - std::sin(angle)));
}

}  // namespace

TEST_CASE("exact_turn stays within 2e-7 of the true values, however many turns") {
  double worst = 0;
  for (int i = -300000; i <= 300000; ++i) worst = std::max(worst, worst_error(i * 1.7e-5));
  for (double turns = 1e-9; turns < 0x1p31; turns *= 1.003) {
    worst = std::max({worst, worst_error(turns), worst_error(-turns)});
  }
  CHECK(worst < 2e-7);
}

TEST_CASE("whole quarters are exact") {
  for (int quarters = -9; quarters <= 9; ++quarters) {
    const lethe::Turn turn = lethe::exact_turn(quarters / 4.0);
    const int rest = ((quarters % 4) + 4) % 4;
    CHECK(turn.cosine == (rest == 0 ? 1.0f : rest == 2 ? -1.0f : 0.0f));
    CHECK(turn.sine == (rest == 1 ? 1.0f : rest == 3 ? -1.0f : 0.0f));
  }
}

TEST_CASE("turns have the same bits on every compiler") {
  std::uint64_t digest = 0;
  for (int i = -20000; i <= 20000; ++i) {
    const lethe::Turn turn = lethe::exact_turn(i * 0.00137);
    digest = lethe::detail::mix(digest ^ std::bit_cast<std::uint32_t>(turn.cosine));
    digest = lethe::detail::mix(digest ^ std::bit_cast<std::uint32_t>(turn.sine));
  }
  CHECK(digest == 0x026A539D175431B4u);
}
