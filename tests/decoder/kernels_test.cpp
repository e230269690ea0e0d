#include "kernels.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "catch.hpp"
#include "half.hpp"
#include "instruction_sets.hpp"
#include "products.hpp"
#include "random_values.hpp"
#include "tiny_model.hpp"

namespace {

using namespace decoder;
using gguf::TensorType;
using test::for_each_instruction_set;
using test::random_values;

constexpr std::array types{TensorType::F32,  TensorType::F16,  TensorType::BF16, TensorType::Q8_0,
                           TensorType::Q4_0, TensorType::Q4_1, TensorType::Q4_K, TensorType::Q6_K};

// A tensor with its data, and what the decoder packs it into.
struct Packed {
  Packed(TensorType type, std::size_t columns, std::size_t rows)
      : bytes(test::random_tensor("some.weight", columns * rows, type)) {
    tensor.type = type;
    tensor.shape = {columns, rows};
    tensor.data = bytes.data();
    matrix = describe(tensor);
    memory.resize(matrix.bytes() + 64);
    void* data = memory.data();
    std::size_t space = memory.size();
    std::align(64, matrix.bytes(), data, space);
    pack(tensor, matrix, 0, matrix.panels(), static_cast<std::byte*>(data));
    matrix.data = static_cast<std::byte*>(data);
  }

  std::vector<std::byte> bytes;
  gguf::Tensor tensor;
  std::vector<std::byte> memory;
  Matrix matrix;
};

ProductInput input_of(const std::vector<float>& values, std::size_t tokens, std::size_t columns) {
  ProductInput input;
  input.resize(tokens, columns);
  for (std::size_t t = 0; t < tokens; ++t) {
    std::copy_n(&values[t * columns], columns, input.row(t));
    input.quantise(t);
  }
  return input;
}

void check_products(const Packed& packed, const std::vector<float>& x, std::size_t tokens,
                    std::span<const float> out) {
  const std::size_t columns = packed.matrix.columns;
  std::vector<float> weights(columns);
  for (std::size_t r = 0; r < packed.matrix.rows; ++r) {
    dequantise_row(packed.tensor, r, weights.data());
    for (std::size_t t = 0; t < tokens; ++t) {
      double sum = 0, magnitude = 0;
      for (std::size_t c = 0; c < columns; ++c) {
        const double product = double{weights[c]} * double{x[t * columns + c]};
        sum += product;
        magnitude += std::abs(product);
      }
      const double allowed = 1e-4 * magnitude;  // 16-bit activations
      CHECK_THAT(double{out[t * packed.matrix.rows + r]}, WithinAbs(sum, allowed));
    }
  }
}

TEST_CASE("a product is the sum over the dequantised weights, on every instruction set") {
  constexpr std::size_t tokens = 15;  // tiles of 8, 4, 2 and 1
  for (const TensorType type : types) {
    const Packed packed(type, 512, 37);  // a last panel that is not full
    const std::vector<float> x = random_values(tokens * 512, 3);
    const ProductInput input = input_of(x, tokens, 512);
    for_each_instruction_set([&] {
      INFO(gguf::type_name(type));
      std::vector<float> out(tokens * 37);
      kernels::multiply(packed.matrix, input.view(), 0, packed.matrix.panels(), out.data(), 37);
      check_products(packed, x, tokens, out);
    });
  }
}

TEST_CASE("a float matrix may have any number of columns") {
  const Packed packed(TensorType::F16, 31, 5);
  const std::vector<float> x = random_values(3 * 31, 4);
  for_each_instruction_set([&] {
    std::vector<float> out(3 * 5);
    kernels::multiply(packed.matrix, input_of(x, 3, 31).view(), 0, 1, out.data(), 5);
    check_products(packed, x, 3, out);
  });
}

TEST_CASE("a token's products depend neither on the other tokens nor on the split of the rows") {
  constexpr std::size_t tokens = 11;
  for (const TensorType type : types) {
    const Packed packed(type, 256, 48);
    const std::vector<float> x = random_values(tokens * 256, 5);
    for_each_instruction_set([&] {
      INFO(gguf::type_name(type));
      std::vector<float> all(tokens * 48);
      kernels::multiply(packed.matrix, input_of(x, tokens, 256).view(), 0, 3, all.data(), 48);
      for (std::size_t t = 0; t < tokens; ++t) {
        const std::vector<float> one(&x[t * 256], &x[t * 256] + 256);
        const ProductInput alone = input_of(one, 1, 256);
        std::vector<float> out(48);
        kernels::multiply(packed.matrix, alone.view(), 0, 1, out.data(), 48);
        kernels::multiply(packed.matrix, alone.view(), 1, 3, out.data(), 48);
        CHECK(std::equal(out.begin(), out.end(), &all[t * 48]));
      }
    });
  }
}

TEST_CASE("activations are rounded to 16 bits of their block's largest") {
  std::vector<float> x = random_values(96, 6);
  std::fill_n(x.begin() + 32, 32, 0.0f);
  x[70] = -900.0f;
  for_each_instruction_set([&] {
    const ProductInput input = input_of(x, 1, 96);
    const kernels::Activations in = input.view();
    for (std::size_t block = 0; block < 3; ++block) {
      double sum = 0;
      const std::int8_t* bytes = in.bytes + block * 64;
      for (std::size_t i = 0; i < 32; ++i) {
        const int word = 256 * bytes[i] + bytes[i + 32];
        sum += word;
        const double got = double{in.scales[block]} * word;
        const double step = double{in.scales[block]};
        CHECK_THAT(got, WithinAbs(double{x[block * 32 + i]}, 0.51 * step));
        if (i == 15) CHECK(double{in.first_sums[block]} == sum);
      }
      CHECK(double{in.sums[block]} == sum);
    }
    CHECK(in.scales[1] == 0.0f);
  });
}

TEST_CASE("rows of any length: norm, gate, sums") {
  for (const std::size_t count : {1u, 15u, 16u, 100u, 576u}) {
    const std::vector<float> x = random_values(count, 7);
    const std::vector<float> y = random_values(count, 8);
    double squares = 0;
    for (const float value : x) squares += double{value} * double{value};
    const double rms = std::sqrt(squares / static_cast<double>(count) + 1e-5);
    for_each_instruction_set([&] {
      std::vector<float> normed(count), gate = x, scaled = x, sum = x;
      kernels::rms_norm(x.data(), y.data(), count, 1e-5f, normed.data());
      kernels::silu_multiply(gate.data(), y.data(), count);
      kernels::scale(scaled.data(), count, 0.3f);
      kernels::add_scaled(sum.data(), y.data(), count, 0.7f);
      for (std::size_t i = 0; i < count; ++i) {
        const double a = double{x[i]}, b = double{y[i]};
        CHECK_THAT(double{normed[i]}, WithinAbs(a / rms * b, 1e-5));
        CHECK_THAT(double{gate[i]}, WithinAbs(a / (1 + std::exp(-a)) * b, 1e-5));
        CHECK_THAT(double{scaled[i]}, WithinAbs(a * 0.3, 1e-6));
        CHECK_THAT(double{sum[i]}, WithinAbs(a + 0.7 * b, 1e-5));
      }
    });
  }
}

// What a stored row holds.
std::vector<double> stored(CacheType type, const std::vector<float>& values) {
  std::vector<double> out(values.begin(), values.end());
  if (type == CacheType::f16) {
    for (double& x : out) x = double{half_to_float(float_to_half(static_cast<float>(x)))};
  }
  for (std::size_t i = 0; type == CacheType::q8_0 && i < out.size(); i += 32) {
    double largest = 0;
    for (std::size_t j = i; j < i + 32; ++j) largest = std::max(largest, std::abs(out[j]));
    for (std::size_t j = i; j < i + 32; ++j) {
      out[j] = std::nearbyint(out[j] / largest * 127) * largest / 127;
    }
  }
  return out;
}

// Rows of a cache strip, and what they hold.
struct Strip {
  Strip(CacheType type, std::size_t rows, std::size_t channels, unsigned seed)
      : row_bytes(decoder::row_bytes(type, channels)), bytes(rows * row_bytes) {
    const std::vector<float> all = random_values(rows * channels, seed);
    for (std::size_t r = 0; r < rows; ++r) {
      const std::vector<float> row(&all[r * channels], &all[r * channels] + channels);
      kernels::store_row(type, row.data(), channels, &bytes[r * row_bytes]);
      values.push_back(stored(type, row));
    }
  }

  std::size_t row_bytes;
  std::vector<std::byte> bytes;
  std::vector<std::vector<double>> values;
};

struct Expected {
  double maximum = -std::numeric_limits<double>::infinity();
  std::vector<double> probabilities;
  std::vector<double> output;
};

Expected attend_slowly(const Strip& keys, const Strip& values, const float* query,
                       std::size_t visible) {
  const std::size_t channels = values.values[0].size();
  Expected out{.probabilities = std::vector<double>(keys.values.size()),
               .output = std::vector<double>(channels)};
  for (std::size_t i = 0; i < visible; ++i) {
    for (std::size_t c = 0; c < channels; ++c) {
      out.probabilities[i] += keys.values[i][c] * double{query[c]};
    }
    out.maximum = std::max(out.maximum, out.probabilities[i]);
  }
  for (std::size_t i = 0; i < visible; ++i) {
    out.probabilities[i] = std::exp(out.probabilities[i] - out.maximum);
    for (std::size_t c = 0; c < channels; ++c) {
      out.output[c] += out.probabilities[i] * values.values[i][c];
    }
  }
  return out;
}

void check_row(const kernels::AttentionRow& row, const Expected& expected, double tolerance) {
  double sum = 0;
  for (std::size_t i = 0; i < expected.probabilities.size(); ++i) {
    CHECK_THAT(double{row.probabilities[i]}, WithinAbs(expected.probabilities[i], tolerance));
    sum += expected.probabilities[i];
  }
  CHECK_THAT(double{row.sum}, WithinAbs(sum, tolerance * (1 + sum)));
  for (std::size_t c = 0; c < expected.output.size(); ++c) {
    CHECK_THAT(double{row.output[c]}, WithinAbs(expected.output[c], tolerance * (1 + sum)));
  }
}

void check_attention(CacheType type, std::size_t columns, std::size_t channels, std::size_t count) {
  const Strip keys(type, columns, channels, 11);
  const Strip values(type, columns, channels, 12);
  std::vector<float> queries = random_values(count * channels, 13);
  kernels::scale(queries.data(), queries.size(), 1.0f / std::sqrt(static_cast<float>(channels)));
  const std::size_t stride = (columns + 15) / 16 * 16;
  std::vector<float> probabilities(count * stride), outputs(count * channels);
  std::vector<kernels::AttentionRow> rows(count);
  for (std::size_t r = 0; r < count; ++r) {
    rows[r].query = &queries[r * channels];
    rows[r].probabilities = &probabilities[r * stride];
    rows[r].output = &outputs[r * channels];
    rows[r].visible = columns - std::min(columns, r);  // the last rows see less, or nothing
  }
  const kernels::AttentionChunk chunk{.type = type,
                                      .keys = keys.bytes.data(),
                                      .values = values.bytes.data(),
                                      .row_bytes = keys.row_bytes,
                                      .columns = columns,
                                      .channels = channels};
  kernels::attend(chunk, rows);
  for (const kernels::AttentionRow& row : rows) {
    const double tolerance = type == CacheType::q8_0 ? 2e-3 : 2e-5;  // q8_0: half-precision scales
    check_row(row, attend_slowly(keys, values, row.query, row.visible), tolerance);
    if (row.visible == 0) CHECK(row.maximum == -std::numeric_limits<float>::infinity());
  }
}

TEST_CASE("attention to a chunk agrees with double arithmetic, on every instruction set") {
  for_each_instruction_set([] {
    for (const CacheType type : {CacheType::f32, CacheType::f16, CacheType::q8_0}) {
      for (const std::size_t columns : {1u, 3u, 18u, 128u}) {
        INFO(name(type) << ", " << columns << " columns");
        check_attention(type, columns, 32, 1);
        check_attention(type, columns, 64, 3);
        check_attention(type, columns, 256, 9);
      }
    }
  });
}

TEST_CASE("a stored row is read back, as many channels as asked for, on every instruction set") {
  for (const CacheType type : {CacheType::f32, CacheType::f16, CacheType::q8_0}) {
    const Strip strip(type, 2, 96, 7);
    for_each_instruction_set([&] {
      for (const std::size_t count :
           {std::size_t{1}, std::size_t{33}, std::size_t{80}, std::size_t{96}}) {
        CAPTURE(name(type), count);
        std::vector<float> out(97, -100.0f);
        kernels::load_row(type, &strip.bytes[strip.row_bytes], 96, std::span(out).first(count));
        // The scales of q8_0 are halves.
        const double tolerance = type == CacheType::q8_0 ? 5e-3 : 0.0;
        for (std::size_t c = 0; c < count; ++c) {
          REQUIRE(std::abs(double{out[c]} - strip.values[1][c]) <= tolerance);
        }
        REQUIRE(std::all_of(out.begin() + static_cast<std::ptrdiff_t>(count), out.end(),
                            [](float untouched) { return untouched == -100.0f; }));
      }
    });
  }
}

TEST_CASE("half precision: every number survives, and rounding is to the nearest") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = half_to_float(half);
    if (!std::isnan(value)) CHECK(float_to_half(value) == half);
  }
  for (std::uint16_t half = 0; half < 0x7BFF; ++half) {
    const float low = half_to_float(half);
    const float high = half_to_float(static_cast<std::uint16_t>(half + 1));
    const float middle = low + (high - low) / 2;
    CHECK(float_to_half(middle) == half + half % 2);
    CHECK(float_to_half(std::nextafter(middle, 0.0f)) == half);
    CHECK(float_to_half(std::nextafter(middle, high)) == half + 1);
  }
  CHECK(float_to_half(65520.0f) == 0x7C00);
  CHECK(float_to_half(65519.0f) == 0x7BFF);
  CHECK(float_to_half(-1e30f) == 0xFC00);
  CHECK(std::isnan(half_to_float(float_to_half(std::numeric_limits<float>::quiet_NaN()))));
}

}  // namespace
