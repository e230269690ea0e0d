#include "lethe/numeric.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "catch.hpp"
#include "samples.hpp"

namespace {

/// A half's value from its fields, in double.
double half_value(std::uint16_t bits) {
  const double sign = (bits & 0x8000u) != 0 ? -1 : 1;
  const int exponent = (bits >> 10) & 0x1F;
  const int fraction = bits & 0x3FF;
  if (exponent == 31 && fraction != 0) return std::numeric_limits<double>::quiet_NaN();
  if (exponent == 31) return sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

}  // namespace

TEST_CASE("every half converts exactly, subnormals, infinities and NaN included") {
  int wrong = 0;
  for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const double expected = half_value(static_cast<std::uint16_t>(bits));
    const float found = lethe::to_float(lethe::Half{static_cast<std::uint16_t>(bits)});
    const bool equal = std::isnan(expected) ? std::isnan(found)
                                            : static_cast<double>(found) == expected &&
                                                  std::signbit(found) == std::signbit(expected);
    wrong += equal ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("every bfloat16 is the upper half of its float") {
  int wrong = 0;
  for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const float found = lethe::to_float(lethe::BFloat16{static_cast<std::uint16_t>(bits)});
    wrong += std::bit_cast<std::uint32_t>(found) == bits << 16 ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("is_finite agrees with the standard library on every kind of float") {
  for (const float value : {0.0f, -0.0f, 1.0f, -1e-45f, 3.4e38f, -3.4e38f}) {
    CHECK(lethe::is_finite(value));
  }
  for (const float value : {infinity, -infinity, not_a_number, -not_a_number}) {
    CHECK_FALSE(lethe::is_finite(value));
  }
}

TEST_CASE("and on every kind of double") {
  using Limits = std::numeric_limits<double>;
  for (const double value :
       {0.0, -0.0, 1.0, Limits::max(), Limits::lowest(), Limits::min(), Limits::denorm_min()}) {
    CHECK(lethe::is_finite_double(value));
  }
  for (const double value :
       {Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN(), Limits::signaling_NaN()}) {
    CHECK_FALSE(lethe::is_finite_double(value));
  }
}

TEST_CASE("keys order as floats do and never reach the key of protected tokens") {
  const float ascending[] = {-3.4e38f, -1.0f, -1e-45f, 0.0f, 1e-45f, 0.5f, 1.0f, 3.4e38f};
  for (std::size_t i = 1; i < std::size(ascending); ++i) {
    CHECK(lethe::ordered_key(ascending[i - 1]) < lethe::ordered_key(ascending[i]));
  }
  CHECK(lethe::ordered_key(-0.0f) == lethe::ordered_key(0.0f));
  CHECK(lethe::ordered_key(std::numeric_limits<float>::max()) < 0xFFFFFFFFu);

  Samples samples(3);
  int wrong = 0;
  for (int i = 0; i < 20000; ++i) {
    const float a = std::ldexp(samples.between(-1, 1), static_cast<int>(samples.below(200)) - 100);
    const float b = std::ldexp(samples.between(-1, 1), static_cast<int>(samples.below(200)) - 100);
    wrong += (a < b) == (lethe::ordered_key(a) < lethe::ordered_key(b)) ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("exact_exp stays within 3e-7 of the true value from -87 to 88") {
  double worst = 0;
  for (int i = -8700 * 16; i <= 8800 * 16; ++i) {
    const float x = static_cast<float>(i) / 1600.0f;
    const double truth = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::abs(static_cast<double>(lethe::exact_exp(x)) / truth - 1));
  }
  CHECK(worst < 3e-7);
}

TEST_CASE("exact_exp is defined at its ends") {
  CHECK(lethe::exact_exp(0.0f) == 1.0f);
  CHECK(lethe::exact_exp(-87.01f) == 0.0f);
  CHECK(lethe::exact_exp(-infinity) == 0.0f);
  CHECK(lethe::exact_exp(1000.0f) == lethe::exact_exp(88.0f));
  CHECK(lethe::is_finite(lethe::exact_exp(infinity)));
  CHECK(std::isnan(lethe::exact_exp(not_a_number)));
  CHECK(std::isnan(lethe::exact_exp(-not_a_number)));
}

TEST_CASE("powers of scaled numbers neither overflow nor drift") {
  using lethe::detail::normalised;
  using lethe::detail::power;
  for (const double base : {0.5, 0.98, 1.0, 1.0 / 0.98, 2.0, 1e30}) {
    for (const std::uint64_t exponent : {0u, 1u, 2u, 3u, 64u, 2048u, 1000000u}) {
      const auto found = power(normalised(base, 0), exponent);
      const double log2_found = std::log2(found.mantissa) + static_cast<double>(found.exponent);
      const double log2_true = std::log2(base) * static_cast<double>(exponent);
      CHECK(found.mantissa >= 0.5);
      CHECK(found.mantissa < 1.0);
      CHECK_THAT(log2_found, WithinAbs(log2_true, 1e-9 * (1 + std::abs(log2_true))));
    }
  }
}
