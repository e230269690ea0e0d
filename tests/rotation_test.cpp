#include "lethe/rotation.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"

namespace {

using lethe::Position;
using lethe::RotaryPairs;
using Row = std::vector<float>;
using Factor = std::complex<double>;

constexpr std::size_t channels = 11;
const std::vector<float> frequencies{1.0f, 0.3f, 0.01f, 0.0004f};

/// A row whose pairs, as complex numbers, are multiplied by a factor of each frequency.
template <class FactorOf>
Row naive(Row row, RotaryPairs layout, FactorOf&& factor_of) {
  for (std::size_t pair = 0; pair < frequencies.size(); ++pair) {
    const bool halves = layout == RotaryPairs::halves;
    float& x = row[halves ? pair : 2 * pair];
    float& y = row[halves ? pair + frequencies.size() : 2 * pair + 1];
    const Factor turned = Factor(x, y) * factor_of(static_cast<double>(frequencies[pair]));
    x = static_cast<float>(turned.real());
    y = static_cast<float>(turned.imag());
  }
  return row;
}

Row naive_turn(const Row& row, RotaryPairs layout, double position) {
  return naive(row, layout, [&](double w) { return std::polar(1.0, w * position); });
}

void require_near(const Row& found, const Row& expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t c = 0; c < found.size(); ++c) {
    REQUIRE_THAT(static_cast<double>(found[c]), WithinAbs(static_cast<double>(expected[c]), 1e-6));
  }
}

double dot(const Row& a, const Row& b) {
  double sum = 0;
  for (std::size_t c = 0; c < a.size(); ++c) {
    sum += static_cast<double>(a[c]) * static_cast<double>(b[c]);
  }
  return sum;
}

}  // namespace

TEST_CASE("a rotation turns pairs by their frequencies, and back") {
  Samples samples(301);
  for (const RotaryPairs layout : {RotaryPairs::neighbours, RotaryPairs::halves}) {
    lethe::Rotation rotation(frequencies, layout);
    for (const Position position : {0u, 1u, 77u, 77u, 4000u, 0u}) {
      const Row plain = samples.row(channels, -1.0f, 1.0f);
      rotation.set_position(position);
      Row row = plain;
      rotation.turn(row);
      require_near(row, naive_turn(plain, layout, position));
      CHECK(std::equal(row.begin() + 8, row.end(), plain.begin() + 8));
      rotation.turn_back(row);
      require_near(row, plain);
    }
  }
}

TEST_CASE("without frequencies rows stay as they are") {
  Samples samples(302);
  const Row plain = samples.row(channels);
  lethe::Rotation rotation({}, RotaryPairs::halves);
  lethe::MeanRotation mean({}, RotaryPairs::halves, std::vector<Position>{1});
  rotation.set_position(9);
  mean.set_newest(9);
  Row row = plain;
  rotation.turn(row);
  mean.turn(row);
  CHECK(row == plain);
}

TEST_CASE("a mean rotation is the mean of the turns of the positions to come") {
  Samples samples(303);
  for (const RotaryPairs layout : {RotaryPairs::neighbours, RotaryPairs::halves}) {
    const std::vector<Position> offsets{1, 2, 3, 8, 500};
    lethe::MeanRotation rotation(frequencies, layout, offsets);
    for (const Position newest : {0u, 12u, 12u, 3000u, 0u}) {
      const Row plain = samples.row(channels, -1.0f, 1.0f);
      rotation.set_newest(newest);
      Row row = plain;
      rotation.turn(row);
      require_near(row, naive(plain, layout, [&](double w) {
                     Factor sum = 0;
                     for (const Position offset : offsets) {
                       sum += std::polar(0.2, w * static_cast<double>(newest + offset));
                     }
                     return sum;
                   }));
      const Row other = samples.row(channels, -1.0f, 1.0f);
      Row back = other;
      rotation.turn_back(back);
      CHECK_THAT(dot(back, plain), WithinAbs(dot(other, row), 1e-5));
    }
  }
}

TEST_CASE("frequencies of more than half a turn turn as their fraction does") {
  const std::vector<float> fast{5.0f, 4.0f};
  lethe::Rotation rotation(fast, RotaryPairs::neighbours);
  rotation.set_position(1000);
  Row row{1.0f, 0.0f, 1.0f, 0.0f};
  rotation.turn(row);
  CHECK_THAT(static_cast<double>(row[0]), WithinAbs(std::cos(5000.0), 1e-6));
  CHECK_THAT(static_cast<double>(row[1]), WithinAbs(std::sin(5000.0), 1e-6));
  CHECK_THAT(static_cast<double>(row[3]), WithinAbs(std::sin(4000.0), 1e-6));
}

TEST_CASE("a frequency that is not finite is refused by name") {
  const std::vector<float> none{1.0f, std::numeric_limits<float>::quiet_NaN()};
  CHECK_THROWS_WITH(lethe::Rotation(none, RotaryPairs::halves),
                    Catch::Contains("frequencies") && Catch::Contains("finite"));
}
