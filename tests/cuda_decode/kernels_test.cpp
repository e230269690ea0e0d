#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "fill_kernels.cuh"
#include "head_kernels.cuh"
#include "host_device.hpp"
#include "model_config.hpp"
#include "naive/random.hpp"
#include "rope.hpp"
#include "row_kernels.cuh"

namespace {

using namespace cuda_decode;
using cuda_decode::test::HostDevice;
using naive::Random;

std::vector<float> noise(Random& random, std::size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = random.unit() * 2.0f - 1.0f;
  return values;
}

std::vector<std::int32_t> likeliest(const std::vector<float>& logits, std::uint32_t vocabulary,
                                    std::uint32_t drawn) {
  HostDevice device(5);
  const auto rows = static_cast<std::uint32_t>(logits.size() / vocabulary);
  std::vector<std::int32_t> slots(rows);
  for (std::uint32_t i = 0; i < rows; ++i) slots[i] = static_cast<std::int32_t>(rows - 1 - i);
  std::vector<std::int32_t> tokens(rows, -7);
  std::vector<std::int32_t> of_slot(rows, -7);
  device.launch(
      Likeliest{logits.data(), slots.data(), tokens.data(), of_slot.data(), vocabulary, drawn},
      {rows});
  for (std::uint32_t i = 0; i < rows; ++i) CHECK(of_slot[rows - 1 - i] == tokens[i]);
  return tokens;
}

/// A state of one layer whose slots hold so many tokens.
struct Lengths {
  explicit Lengths(std::vector<std::uint32_t> given) : lengths(std::move(given)) {
    state.shape = {1, static_cast<std::uint32_t>(lengths.size()), 8};
    state.lengths = lengths.data();
  }
  std::vector<std::uint32_t> lengths;
  lethe::gpu::State state{};
};

}  // namespace

TEST_CASE("bfloat16 is rounded to the nearest, ties to even") {
  const auto rounded = [](float value) {
    BFloat16 out;
    narrow(value, out);
    return out.bits;
  };
  CHECK(rounded(1.0f) == 0x3F80);
  CHECK(rounded(std::bit_cast<float>(0x3F808000u)) == 0x3F80);
  CHECK(rounded(std::bit_cast<float>(0x3F808001u)) == 0x3F81);
  CHECK(rounded(std::bit_cast<float>(0x3F818000u)) == 0x3F82);
  CHECK(rounded(-std::numeric_limits<float>::infinity()) == 0xFF80);
  CHECK(rounded(std::numeric_limits<float>::max()) == 0x7F80);
  CHECK(std::isnan(widened(BFloat16{rounded(std::numeric_limits<float>::quiet_NaN())})));
}

TEST_CASE("the likeliest token: the lower of equals, among those that may be drawn") {
  std::vector<float> logits(3 * 2000, -3.0f);
  logits[1500] = logits[700] = 2.0f;
  logits[1999] = 9.0f;
  logits[2000 + 0] = -1.0f;
  logits[4000 + 5] = std::numeric_limits<float>::quiet_NaN();
  CHECK(likeliest(logits, 2000, 1999) == std::vector<std::int32_t>{700, 0, -1});
  CHECK(likeliest(logits, 2000, 2000) == std::vector<std::int32_t>{1999, 0, -1});
  // What may not be drawn is not looked at.
  CHECK(likeliest(logits, 2000, 5) == std::vector<std::int32_t>{0, 0, 0});
}

TEST_CASE("the likeliest of fewer tokens than lanes") {
  CHECK(likeliest({-5.0f, -4.0f, -6.0f}, 3, 3) == std::vector<std::int32_t>{1});
}

TEST_CASE("a norm's rows have a mean square of one before the weights") {
  Random random(3);
  const std::uint32_t width = 300;
  const std::vector<float> in = noise(random, 2 * width);
  const std::vector<float> weights = noise(random, width);
  std::vector<float> out(2 * width);
  HostDevice device(9);
  device.launch(NormRows<float>{in.data(), weights.data(), out.data(), width, 1e-5f}, {2});
  for (std::size_t row = 0; row < 2; ++row) {
    double sum = 0;
    for (std::size_t i = 0; i < width; ++i)
      sum += double{in[row * width + i]} * in[row * width + i];
    const double scale = 1 / std::sqrt(sum / width + 1e-5);
    for (std::size_t i = 0; i < width; ++i) {
      const double expected = in[row * width + i] * scale * weights[i];
      CHECK(std::abs(out[row * width + i] - expected) < 1e-5);
    }
  }
}

TEST_CASE("gates of every sign, and rows longer than a block") {
  const std::uint32_t inner = 700;
  std::vector<float> rows(2 * 2 * inner);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i % 41) - 20.0f;
  std::vector<float> out(2 * inner);
  HostDevice device(2);
  const GateRows<float> kernel{rows.data(), out.data(), inner};
  device.launch(kernel, kernel.grid(2));
  for (std::size_t row = 0; row < 2; ++row) {
    for (std::size_t i = 0; i < inner; ++i) {
      const double gate = rows[row * 2 * inner + i];
      const double expected = gate / (1 + std::exp(-gate)) * rows[row * 2 * inner + inner + i];
      CHECK(std::abs(out[row * inner + i] - expected) < 1e-4);
    }
  }
}

TEST_CASE("heads are biased, normed and rotated as on the CPU, and land behind the slot's tokens") {
  for (const bool is_halves : {false, true}) {
    for (const bool has_norm : {false, true}) {
      Random random(4);
      const HeadShape shape{
          .heads = 3, .kv_heads = 1, .head_dim = 160, .rope_channels = 96, .is_halves = is_halves};
      const std::size_t channels = shape.head_dim;
      const std::vector<float> projected = noise(random, 3 * shape.all() * channels);
      const std::vector<float> bias = noise(random, shape.all() * channels);
      const std::vector<float> norms = noise(random, 2 * channels);
      const std::vector<float> frequencies = noise(random, 48);
      const std::vector<std::int32_t> slots{1, -1, 0};
      const Lengths lengths({3, 8});
      const std::vector<lethe::Position> next{40, 77};
      std::vector<float> cosines(3 * 48), sines(3 * 48), queries(3 * 3 * channels, -9.0f);
      std::vector<Half> keys(2 * 8 * channels), values(2 * 8 * channels);
      HostDevice device(6);
      device.launch(
          Angles{next.data(), slots.data(), frequencies.data(), cosines.data(), sines.data(), 48},
          {3});
      device.launch(FinishHeads<Half>{.shape = shape,
                                      .state = lengths.state,
                                      .slots = slots.data(),
                                      .projected = projected.data(),
                                      .bias = bias.data(),
                                      .query_norm = has_norm ? norms.data() : nullptr,
                                      .key_norm = has_norm ? norms.data() + channels : nullptr,
                                      .epsilon = 1e-5f,
                                      .cosines = cosines.data(),
                                      .sines = sines.data(),
                                      .queries = queries.data(),
                                      .cache = {keys.data(), values.data(), 8}},
                    {shape.all(), 3});
      decoder::Rope rope;
      const std::vector<std::size_t> positions{76, 0, 39};
      rope.set_positions(frequencies, positions);
      const auto head_of = [&](std::size_t row, std::size_t head, const float* norm) {
        std::vector<float> out(channels);
        double square = 0;
        for (std::size_t i = 0; i < channels; ++i) {
          out[i] = projected[(row * shape.all() + head) * channels + i] + bias[head * channels + i];
          square += double{out[i]} * out[i];
        }
        const double scale = 1 / std::sqrt(square / static_cast<double>(channels) + 1e-5);
        for (std::size_t i = 0; norm != nullptr && i < channels; ++i)
          out[i] = static_cast<float>(out[i] * scale * norm[i]);
        return out;
      };
      const auto pairs = is_halves ? decoder::RopePairs::halves : decoder::RopePairs::neighbours;
      for (const std::size_t row : {std::size_t{0}, std::size_t{2}}) {
        std::vector<float> query = head_of(row, 2, has_norm ? norms.data() : nullptr);
        rope.rotate(row, pairs, query.data());
        std::vector<float> key = head_of(row, 3, has_norm ? norms.data() + channels : nullptr);
        rope.rotate(row, pairs, key.data());
        const std::vector<float> value = head_of(row, 4, nullptr);
        const std::size_t token = row == 0 ? 8 + 7 : 2;  // the last of slot 1, or of slot 0
        for (std::size_t i = 0; i < channels; ++i) {
          const double scaled = query[i] / std::sqrt(double{160});
          CHECK(std::abs(queries[(row * 3 + 2) * channels + i] - scaled) < 1e-5);
          CHECK(std::abs(widened(keys[token * channels + i]) - key[i]) < 2e-3);
          CHECK(std::abs(widened(values[token * channels + i]) - value[i]) < 2e-3);
        }
      }
      CHECK(queries[3 * channels] == -9.0f);  // padding
    }
  }
}

TEST_CASE("rows are taken as given, or as the slot's likeliest token") {
  TakeRows kernel{.count = 3};
  kernel.rows[0] = {1, -1, {2.0f, 0.5f}};
  kernel.rows[1] = {-1, 0, {}};
  kernel.rows[2] = {0, 17, {}};
  const std::vector<std::int32_t> of_slot{5, 6};
  std::vector<std::int32_t> slots(3), tokens(3);
  std::vector<lethe::gpu::QueryWeight> weights(3);
  kernel.likeliest = of_slot.data();
  kernel.slots = slots.data();
  kernel.tokens = tokens.data();
  kernel.weights = weights.data();
  HostDevice device(8);
  device.launch(kernel, {});
  CHECK(slots == std::vector<std::int32_t>{1, -1, 0});
  CHECK(tokens == std::vector<std::int32_t>{6, 0, 17});
  CHECK(weights[0].weight == 2.0f);
  CHECK(weights[0].factor == 0.5f);
}

TEST_CASE("random weights are spread evenly, and the same however many blocks draw them") {
  HostDevice device(1);
  std::vector<float> drawn(5000, 9.0f);
  const Fill<float> fill{.to = drawn.data(), .count = drawn.size(), .scale = 2.0f, .seed = 3};
  device.launch(fill, {fill.blocks()});
  double sum = 0, square = 0;
  for (const float value : drawn) {
    CHECK(std::abs(value) <= 2.0f);
    sum += value;
    square += double{value} * value;
  }
  CHECK(std::abs(sum / 5000) < 0.1);
  CHECK(std::abs(square / 5000 - 4.0 / 3) < 0.1);
}

TEST_CASE("what times the memory reads all of it, in its unrolled turns and behind them") {
  constexpr std::size_t step = std::size_t{ReadMemory::blocks} * ReadMemory::threads;
  // The first hundred lanes have all of an unrolled turn; one octet more is behind it.
  std::vector<Octet> memory(3 * step + 100);
  HostDevice device(1);
  std::uint32_t found = 0;
  const ReadMemory read{.from = memory.data(), .octets = memory.size(), .found = &found};
  for (const std::size_t place : {2 * step + 7, memory.size() - 1, step + 100}) {
    CAPTURE(place);
    memory[place].words[place % 4] = 1;
    found = 0;
    device.launch(read, {ReadMemory::blocks});
    CHECK(found == 1);
    memory[place] = {};
  }
  found = 0;
  device.launch(read, {ReadMemory::blocks});
  CHECK(found == 0);
}
