#include "lethe/wide_vectors.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "lethe/cache/contiguous.hpp"
#include "lethe/newer_keys.hpp"
#include "lethe/short_keys.hpp"
#include "samples.hpp"

namespace {

using lethe::detail::Vectors;

LETHE_EXACT float near_of(std::int64_t sum, float share) {
  LETHE_EXACT_BODY
  return 0.5f + LETHE_PRODUCT(static_cast<float>(sum), share);
}

bool processor_is_wide() { return lethe::detail::widest_vectors() == Vectors::wide; }

/// One shape of a cache, and random numbers of any size in it, infinities and NaN among them.
template <class Element>
struct Layer {
  std::size_t heads = 1;
  std::size_t dimension = 1;
  std::size_t stride = 1;
  std::size_t tokens = 1;
  std::vector<Element> keys{};

  static constexpr float infinity = std::numeric_limits<float>::infinity();
  static constexpr float nan = std::numeric_limits<float>::quiet_NaN();

  void draw(Samples& samples) {
    keys.resize(tokens * heads * dimension * stride);
    for (Element& key : keys) {
      const float number = samples.uniform() - 0.5f;
      const auto bits = std::bit_cast<std::uint32_t>(number);
      if constexpr (sizeof(Element) == 4) {
        key = number;
        if (samples.below(40) == 0) key = samples.below(2) == 0 ? infinity : nan;
      } else {
        key.bits = static_cast<std::uint16_t>(samples.below(40) == 0 ? samples.below(1u << 16)
                                                                     : (bits >> 16) & 0xBFFFu);
      }
    }
  }

  [[nodiscard]] lethe::ContiguousCache<Element> cache() {
    return lethe::ContiguousCache<Element>({{.keys = keys.data(),
                                             .heads = heads,
                                             .dimension = dimension,
                                             .key_strides = {.token = heads * dimension * stride,
                                                             .head = dimension * stride,
                                                             .channel = stride},
                                             .capacity = tokens}});
  }
};

/// What is read of a layer, and how near its tokens come to those from `first_new` on.
struct Outcome {
  std::vector<std::int16_t> rows;
  std::vector<float> nearest;

  bool operator==(const Outcome&) const = default;
};

std::vector<lethe::Position> positions_of(std::size_t tokens) {
  std::vector<lethe::Position> positions;
  // Every third is out of order.
  for (std::size_t i = 0; i < tokens; ++i) {
    positions.push_back(static_cast<lethe::Position>(i * 7 + (i % 3 == 0 ? 30 : 0)));
  }
  return positions;
}

template <class Cache>
Outcome outcome_of(const Cache& cache, const lethe::KeyShape& shape, float share,
                   std::size_t tokens, Vectors vectors) {
  lethe::ShortKeys keys(shape, share, shape.kv_heads, tokens);
  const std::vector<lethe::Position> positions = positions_of(tokens);
  keys.read(cache, 0, 0, positions, vectors);
  Outcome outcome;
  outcome.rows.assign(keys.row(0), keys.row(tokens));
  outcome.nearest.assign(tokens, 0.0f);
  std::vector<lethe::Slot> fresh;
  for (std::size_t i = tokens / 3; i < tokens; ++i) fresh.push_back(static_cast<lethe::Slot>(i));
  lethe::NewerKeys(keys, positions).raise(fresh, outcome.nearest, vectors);
  return outcome;
}

lethe::KeyShape draw_shape(Samples& samples) {
  lethe::KeyShape shape;
  shape.kv_heads = 1 + samples.below(4);
  shape.head_dimension = 1 + samples.below(90);
  shape.frequencies.resize(samples.below(shape.head_dimension / 2 + 1));
  for (std::size_t i = 0; i < shape.frequencies.size(); ++i) {
    shape.frequencies[i] = std::pow(0.8f, static_cast<float>(i));
  }
  if (samples.below(3) == 0) std::reverse(shape.frequencies.begin(), shape.frequencies.end());
  shape.pairs = samples.below(2) == 0 ? lethe::RotaryPairs::neighbours : lethe::RotaryPairs::halves;
  return shape;
}

template <class Element>
void require_same(std::size_t seed) {
  Samples samples(seed);
  for (int round = 0; round < 60; ++round) {
    const lethe::KeyShape shape = draw_shape(samples);
    Layer<Element> layer{.heads = shape.kv_heads,
                         .dimension = shape.head_dimension,
                         .stride = 1 + samples.below(2),
                         .tokens = 1 + samples.below(45)};
    layer.draw(samples);
    const float share = 0.1f + 0.9f * samples.uniform();
    const auto outcome = [&](Vectors vectors) {
      return outcome_of(layer.cache(), shape, share, layer.tokens, vectors);
    };
    INFO("seed " << seed << ", round " << round);
    REQUIRE(outcome(Vectors::wide) == outcome(Vectors::plain));
  }
}

/// All numbers that 16 bits hold.
template <class Element>
void require_same_rows(std::size_t stride) {
  std::vector<Element> numbers(65536 * stride);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    numbers[i].bits = static_cast<std::uint16_t>(i / stride);
  }
  const auto read = [&](Vectors vectors) {
    std::vector<float> out(65536 - 3);
    lethe::detail::run(vectors, [&]() LETHE_VECTOR_BODY {
      lethe::detail::read_row(numbers.data() + stride, stride, std::span(out));
    });
    return out;
  };
  const std::vector<float> wide = read(Vectors::wide);
  const std::vector<float> plain = read(Vectors::plain);
  for (std::size_t i = 0; i < wide.size(); ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(plain[i]);
    REQUIRE(std::bit_cast<std::uint32_t>(wide[i]) == bits);
    REQUIRE(bits == std::bit_cast<std::uint32_t>(lethe::to_float(numbers[(i + 1) * stride])));
  }
}

}  // namespace

TEST_CASE("keys are read and compared with the same bits in wide vectors") {
  if (!processor_is_wide()) {
    WARN("the processor, or the build, has no wider vectors");
    return;
  }
  require_same<float>(51);
  require_same<lethe::Half>(52);
  require_same<lethe::BFloat16>(53);
}

TEST_CASE("16-bit numbers become floats with the same bits in wide vectors") {
  if (!processor_is_wide()) {
    WARN("the processor, or the build, has no wider vectors");
    return;
  }
  for (const std::size_t stride : {std::size_t{1}, std::size_t{3}}) {
    require_same_rows<lethe::Half>(stride);
    require_same_rows<lethe::BFloat16>(stride);
  }
}

TEST_CASE("a token is as near as the nearest newer one, in plain vectors and in wide ones") {
  const Vectors all[] = {Vectors::plain, lethe::detail::widest_vectors()};
  for (const Vectors vectors : all) {
    Samples samples(54);
    for (int round = 0; round < 40; ++round) {
      const lethe::KeyShape shape = draw_shape(samples);
      Layer<float> layer{.heads = shape.kv_heads,
                         .dimension = shape.head_dimension,
                         .tokens = 1 + samples.below(45)};
      layer.draw(samples);
      const Outcome found = outcome_of(layer.cache(), shape, 1.0f, layer.tokens, vectors);
      const std::vector<lethe::Position> positions = positions_of(layer.tokens);
      const std::size_t width = found.rows.size() / layer.tokens;
      const float share = 0.5f * lethe::ShortKeys(shape, 1.0f, shape.kv_heads, 1).cosine_share();
      for (std::size_t old = 0; old < layer.tokens; ++old) {
        float nearest = 0;
        for (std::size_t newer = layer.tokens / 3; newer < layer.tokens; ++newer) {
          if (positions[newer] <= positions[old]) continue;
          std::int64_t sum = 0;
          for (std::size_t c = 0; c < width; ++c) {
            sum += found.rows[old * width + c] * found.rows[newer * width + c];
          }
          nearest = std::max(nearest, near_of(sum, share));
        }
        REQUIRE(found.nearest[old] == nearest);
      }
    }
  }
}
