#include "lethe/attention.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"

namespace {

/// mass[query][group][column], as the sink receives it.
struct Received {
  Received(std::size_t queries, std::size_t groups_in, std::size_t columns_in)
      : groups(groups_in), columns(columns_in), mass(queries * groups_in * columns_in, 0.0) {}

  void operator()(std::size_t query, std::size_t group, std::size_t first,
                  std::span<const float> tile) {
    for (std::size_t i = 0; i < tile.size(); ++i) {
      at(query, group, first + i) += static_cast<double>(tile[i]);
    }
  }
  double& at(std::size_t query, std::size_t group, std::size_t column) {
    return mass.at((query * groups + group) * columns + column);
  }

  std::size_t groups;
  std::size_t columns;
  std::vector<double> mass;
};

/// One layer's step: heads x queries rows over `columns` tokens, `base` of which were there before.
struct Step {
  std::size_t heads = 8;
  std::size_t queries = 3;
  std::size_t base = 0;
  std::size_t columns = 0;

  std::size_t limit(std::size_t query) const { return std::min(columns, base + query + 1); }
};

constexpr Step short_step{.heads = 8, .queries = 3, .base = 37, .columns = 40};
// Columns beyond one internal tile of 1,024.
constexpr Step long_step{.heads = 6, .queries = 2, .base = 2100, .columns = 2102};
// In two groups, heads that are taken by eights, by twos and alone.
constexpr Step wide_step{.heads = 38, .queries = 2, .base = 36, .columns = 38};

/// Rows with NaN wherever nothing may be read: between strides and beyond the causal limit.
struct Matrix {
  Matrix(const Step& step, Samples& samples, std::size_t column_stride_in = 1, std::size_t gap = 0)
      : column_stride(column_stride_in),
        query_stride(step.columns * column_stride_in + gap),
        head_stride(step.queries * query_stride + gap),
        data(step.heads * head_stride, not_a_number) {
    for (std::size_t h = 0; h < step.heads; ++h) {
      for (std::size_t q = 0; q < step.queries; ++q) {
        for (std::size_t c = 0; c < step.limit(q); ++c) at(h, q, c) = samples.uniform();
      }
    }
  }
  float& at(std::size_t head, std::size_t query, std::size_t column) {
    return data[head * head_stride + query * query_stride + column * column_stride];
  }

  std::size_t column_stride;
  std::size_t query_stride;
  std::size_t head_stride;
  std::vector<float> data;
};

lethe::Probabilities<float> probabilities(const Step& step, const Matrix& matrix) {
  return {.data = matrix.data.data(),
          .heads = step.heads,
          .queries = step.queries,
          .columns = step.columns,
          .head_stride = matrix.head_stride,
          .query_stride = matrix.query_stride,
          .column_stride = matrix.column_stride};
}

template <class Observation>
Received receive(const Step& step, const Observation& seen, std::size_t groups) {
  Received received(step.queries, groups, step.columns);
  lethe::for_each_mass_tile(seen, groups, step.base, received);
  return received;
}

/// Sums a group's heads one number at a time.
Received naive_mass(const Step& step, Matrix& matrix, std::size_t groups) {
  Received expected(step.queries, groups, step.columns);
  for (std::size_t h = 0; h < step.heads; ++h) {
    for (std::size_t q = 0; q < step.queries; ++q) {
      for (std::size_t c = 0; c < step.limit(q); ++c) {
        expected.at(q, h * groups / step.heads, c) += static_cast<double>(matrix.at(h, q, c));
      }
    }
  }
  return expected;
}

void require_same(const Received& found, const Received& expected, double tolerance = 1e-5) {
  REQUIRE(found.mass.size() == expected.mass.size());
  for (std::size_t i = 0; i < found.mass.size(); ++i) {
    REQUIRE_THAT(found.mass[i], WithinAbs(expected.mass[i], tolerance));
  }
}

/// Logits with the probabilities they stand for.
struct Scored {
  Matrix logits;
  Matrix probabilities;
  std::vector<float> lse;
};

double capped(double logit, const lethe::Logits<float>& how) {
  const double x = logit * static_cast<double>(how.scale);
  const auto cap = static_cast<double>(how.softcap);
  return cap == 0 ? x : cap * std::tanh(x / cap);
}

Scored score(const Step& step, Samples& samples, const lethe::Logits<float>& how) {
  Scored scored{Matrix(step, samples), Matrix(step, samples), {}};
  for (std::size_t h = 0; h < step.heads; ++h) {
    for (std::size_t q = 0; q < step.queries; ++q) {
      double sum = 0;
      for (std::size_t c = 0; c < step.limit(q); ++c) {
        scored.logits.at(h, q, c) = samples.between(-20, 20);
        sum += std::exp(capped(static_cast<double>(scored.logits.at(h, q, c)), how));
      }
      for (std::size_t c = 0; c < step.limit(q); ++c) {
        const double logit = static_cast<double>(scored.logits.at(h, q, c));
        scored.probabilities.at(h, q, c) = static_cast<float>(std::exp(capped(logit, how)) / sum);
      }
      const double lse = how.base == lethe::LogBase::two ? std::log2(sum) : std::log(sum);
      scored.lse.push_back(static_cast<float>(lse));
    }
  }
  return scored;
}

lethe::Logits<float> with_rows(const Step& step, const Scored& scored, lethe::Logits<float> how) {
  how.data = scored.logits.data.data();
  how.heads = step.heads;
  how.queries = step.queries;
  how.columns = step.columns;
  return how;
}

}  // namespace

TEST_CASE("heads are summed into groups, and nothing beyond a causal limit is read") {
  for (const Step& step : {short_step, long_step, wide_step}) {
    for (const std::size_t groups : {std::size_t{1}, std::size_t{2}, step.heads}) {
      Samples samples(61);
      Matrix matrix(step, samples);
      require_same(receive(step, probabilities(step, matrix), groups),
                   naive_mass(step, matrix, groups));
    }
  }
}

TEST_CASE("explicit strides are obeyed, and gaps between rows are not read") {
  for (const std::size_t column_stride : {1u, 3u}) {
    for (const std::size_t gap : {0u, 5u}) {
      Samples samples(62);
      Matrix matrix(short_step, samples, column_stride, gap);
      require_same(receive(short_step, probabilities(short_step, matrix), 2),
                   naive_mass(short_step, matrix, 2));
    }
  }
}

TEST_CASE("zero strides mean densely packed") {
  Samples samples(63);
  Matrix matrix(short_step, samples);
  lethe::Probabilities<float> seen = probabilities(short_step, matrix);
  seen.head_stride = 0;
  seen.query_stride = 0;
  require_same(receive(short_step, seen, 4), naive_mass(short_step, matrix, 4));
}

TEST_CASE("chunks of heads and of queries add up to the whole") {
  Samples samples(64);
  Matrix matrix(short_step, samples);
  for (const std::size_t groups : {1u, 4u}) {
    Received found(short_step.queries, groups, short_step.columns);
    for (std::size_t head = 0; head < short_step.heads; head += 2) {
      for (std::size_t query = 0; query < short_step.queries; ++query) {
        lethe::Probabilities<float> seen = probabilities(short_step, matrix);
        seen.data = &matrix.at(head, query, 0);
        seen.heads = 2;
        seen.queries = 1;
        seen.first_query = query;
        seen.first_group = groups == 1 ? 0 : head / 2;
        seen.group_count = 1;
        lethe::for_each_mass_tile(seen, groups, short_step.base, found);
      }
    }
    require_same(found, naive_mass(short_step, matrix, groups));
  }
}

TEST_CASE("columns short of the causal limit end the row") {
  Samples samples(65);
  const Step window{.heads = 2, .queries = 1, .base = 500, .columns = 30};
  Matrix matrix(window, samples);
  require_same(receive(window, probabilities(window, matrix), 1), naive_mass(window, matrix, 1));
}

TEST_CASE("halves and bfloat16 count for what they hold") {
  Samples samples(66);
  Matrix matrix(short_step, samples);
  std::vector<lethe::BFloat16> narrow;
  for (float& value : matrix.data) {
    const auto bits = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
    narrow.push_back({bits});
    value = lethe::to_float(narrow.back());
  }
  const lethe::Probabilities<lethe::BFloat16> seen{.data = narrow.data(),
                                                   .heads = short_step.heads,
                                                   .queries = short_step.queries,
                                                   .columns = short_step.columns};
  require_same(receive(short_step, seen, 2), naive_mass(short_step, matrix, 2));

  const std::vector<lethe::Half> halves{{0x3C00}, {0x3800}, {0x0001}, {0x7C01}};
  const Step tiny{.heads = 1, .queries = 1, .base = 2, .columns = 4};
  Received found =
      receive(tiny, lethe::Probabilities<lethe::Half>{.data = halves.data(), .columns = 4}, 1);
  CHECK(found.mass == std::vector<double>{1.0, 0.5, std::ldexp(1.0, -24), 0.0});
}

TEST_CASE("logits equal the probabilities they stand for") {
  using lethe::LogBase;
  for (const lethe::Logits<float>& how :
       {lethe::Logits<float>{}, lethe::Logits<float>{.scale = 0.125f},
        lethe::Logits<float>{.scale = 0.5f, .softcap = 5.0f},
        lethe::Logits<float>{.scale = 0.5f, .softcap = 5.0f, .base = LogBase::two},
        lethe::Logits<float>{.base = LogBase::two}}) {
    for (const Step& step : {short_step, long_step}) {
      Samples samples(67);
      Scored scored = score(step, samples, how);
      const Received expected = naive_mass(step, scored.probabilities, 2);
      lethe::Logits<float> seen = with_rows(step, scored, how);
      require_same(receive(step, seen, 2), expected);
      seen.lse = scored.lse.data();
      require_same(receive(step, seen, 2), expected);
    }
  }
}

TEST_CASE("log-sum-exps may lie a stride apart") {
  Samples samples(68);
  const Scored scored = score(short_step, samples, {});
  std::vector<float> spaced(short_step.heads * 10, not_a_number);
  for (std::size_t h = 0; h < short_step.heads; ++h) {
    for (std::size_t q = 0; q < short_step.queries; ++q) {
      spaced[h * 10 + q] = scored.lse[h * short_step.queries + q];
    }
  }
  lethe::Logits<float> seen = with_rows(short_step, scored, {});
  seen.lse = scored.lse.data();
  const Received packed = receive(short_step, seen, 1);
  seen.lse = spaced.data();
  seen.lse_head_stride = 10;
  CHECK(receive(short_step, seen, 1).mass == packed.mass);
}

TEST_CASE("log-sum-exps may lie token by token") {
  Samples samples(70);
  const Scored scored = score(short_step, samples, {});
  std::vector<float> by_token(scored.lse.size());
  for (std::size_t h = 0; h < short_step.heads; ++h) {
    for (std::size_t q = 0; q < short_step.queries; ++q) {
      by_token[q * short_step.heads + h] = scored.lse[h * short_step.queries + q];
    }
  }
  lethe::Logits<float> seen = with_rows(short_step, scored, {});
  seen.lse = scored.lse.data();
  const Received packed = receive(short_step, seen, 1);
  seen.lse = by_token.data();
  seen.lse_head_stride = 1;
  seen.lse_query_stride = short_step.heads;
  CHECK(receive(short_step, seen, 1).mass == packed.mass);
}

TEST_CASE("masked logits receive nothing, a row masked throughout included") {
  std::vector<float> logits(3000, -infinity);
  const Step step{.heads = 1, .queries = 1, .base = 2999, .columns = 3000};
  const lethe::Logits<float> seen{.data = logits.data(), .columns = 3000};
  CHECK(receive(step, seen, 1).mass == std::vector<double>(3000, 0.0));
  logits[2500] = -50.0f;
  Received found = receive(step, seen, 1);
  CHECK_THAT(found.at(0, 0, 2500), WithinAbs(1, 1e-6));
  CHECK(found.at(0, 0, 0) == 0);
}

TEST_CASE("logits of more heads in a group than are taken are refused, probabilities are not") {
  Samples samples(69);
  const Step step{.heads = 600, .queries = 1, .base = 4, .columns = 5};
  Scored scored = score(step, samples, {});
  CHECK_THROWS_AS(receive(step, with_rows(step, scored, {}), 1), std::invalid_argument);
  CHECK_THROWS_WITH(receive(step, with_rows(step, scored, {}), 1), Catch::Contains("heads = 600"));
  require_same(receive(step, with_rows(step, scored, {}), 3),
               naive_mass(step, scored.probabilities, 3), 1e-3);
  require_same(receive(step, probabilities(step, scored.probabilities), 1),
               naive_mass(step, scored.probabilities, 1), 1e-3);
}

TEST_CASE("ready mass is taken row by row, strides, limits and storage as for probabilities") {
  Samples samples(70);
  Matrix matrix(short_step, samples, 1, 7);
  lethe::Mass<float> seen{.data = matrix.data.data(),
                          .groups = short_step.heads,
                          .queries = short_step.queries,
                          .columns = short_step.columns,
                          .group_stride = matrix.head_stride,
                          .query_stride = matrix.query_stride};
  const Received expected = naive_mass(short_step, matrix, short_step.heads);
  require_same(receive(short_step, seen, short_step.heads), expected, 0.0);

  std::vector<lethe::BFloat16> narrow;
  for (const float value : matrix.data) {
    narrow.push_back({static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16)});
  }
  const lethe::Mass<lethe::BFloat16> stored{.data = narrow.data(),
                                            .groups = seen.groups,
                                            .queries = seen.queries,
                                            .columns = seen.columns,
                                            .group_stride = seen.group_stride,
                                            .query_stride = seen.query_stride};
  require_same(receive(short_step, stored, short_step.heads), expected, 0.005);
}

TEST_CASE("NaN and infinity in what is read come out as such") {
  for (const float bad : {not_a_number, infinity}) {
    Samples samples(71);
    Matrix matrix(short_step, samples);
    matrix.at(5, 1, 11) = bad;
    Received found = receive(short_step, probabilities(short_step, matrix), 1);
    CHECK_FALSE(std::isfinite(found.at(1, 0, 11)));
    CHECK(std::isfinite(found.at(1, 0, 12)));
    CHECK(std::isfinite(found.at(0, 0, 11)));
  }
}
