#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "attention_kernels.cuh"
#include "catch.hpp"
#include "host_device.hpp"
#include "naive/random.hpp"

namespace {

using namespace cuda_decode;
using cuda_decode::test::HostDevice;
using naive::Random;

/// What a decode step's attention is told of: rows that are slots in some order, and padding.
struct Step {
  HeadShape shape{};
  std::uint32_t capacity = 0;
  std::uint32_t splits = 1;
  std::vector<std::uint32_t> lengths{};  ///< of each slot
  std::vector<std::int32_t> rows{};
};

constexpr std::uint32_t layers = 2;
constexpr std::uint32_t layer = 1;

std::vector<float> noise(Random& random, std::size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = random.unit() * 2.0f - 1.0f;
  return values;
}

std::vector<Half> halves(Random& random, std::size_t count) {
  std::vector<Half> values(count);
  for (Half& value : values) narrow(random.unit() * 4.0f - 2.0f, value);
  return values;
}

/// One layer's attention, by the kernels and from their formula.
class Attention {
 public:
  Attention(Random& random, const Step& step)
      : step_(step),
        device_(random.next()),
        shape_{layers, static_cast<std::uint32_t>(step.lengths.size()), step.capacity},
        queries_(noise(random, step.rows.size() * step.shape.heads * step.shape.head_dim)),
        keys_(halves(random, elements())),
        values_(halves(random, elements())) {
    place_state();
    for (std::size_t i = 0; i < step.rows.size(); ++i) {
      weights_.push_back({1.0f + random.unit(), random.chance(30) ? 0.5f : 1.0f});
    }
  }

  void run() {
    buffers_.splits = step_.splits;
    buffers_.split_tokens = (step_.capacity + step_.splits - 1) / step_.splits;
    const std::size_t heads = step_.rows.size() * step_.shape.heads;
    const std::size_t parts = heads * step_.splits;
    buffers_.logits = place(logits_, heads * step_.capacity);
    buffers_.maxima = place(maxima_, parts);
    buffers_.sums = place(sums_, parts);
    buffers_.outputs = place(outputs_, parts * step_.shape.head_dim);
    buffers_.lse = place(lse_, heads);
    place(out_, heads * step_.shape.head_dim);
    if (step_.shape.heads / step_.shape.kv_heads <= 4) {
      attend<4>();
    } else {
      attend<8>();
    }
    const std::vector<std::int32_t>& rows = step_.rows;
    device_.launch(
        MergeSplits<float>{step_.shape, state_, layer, rows.data(), buffers_, out_.data()},
        {step_.shape.heads, count()});
    record();
  }

  /// The largest error of an output or log-sum-exp, beside doubles.
  double error() const {
    double worst = 0;
    for (std::uint32_t row = 0; row < count(); ++row) {
      if (step_.rows[row] < 0) continue;
      for (std::uint32_t head = 0; head < step_.shape.heads; ++head) {
        worst = std::max(worst, error_of(row, head));
      }
    }
    return worst;
  }

  /// Whether the scores are those of lethe::gpu::observe, to the bit, and where nobody attended
  /// untouched.
  bool scores_are_observed() {
    const std::vector<float> mine = scores();
    place_state();
    const lethe::gpu::BatchObservation<lethe::Logits<float>> seen{
        .first = {.data = logits_.data(),
                  .lse = lse_.data(),
                  .heads = step_.shape.heads,
                  .columns = step_.capacity,
                  .head_stride = step_.capacity,
                  .query_stride = step_.capacity,
                  .lse_head_stride = 1},
        .row_stride = std::size_t{step_.shape.heads} * step_.capacity,
        .lse_row_stride = step_.shape.heads};
    for (std::uint32_t row = 0; row < count(); ++row) {
      for (std::uint32_t tile = 0; tile * 32 < step_.capacity; ++tile) {
        lethe::gpu::observe_block(lethe::gpu::HostBlock<32>(), observed(), seen, tile, row);
      }
    }
    const std::vector<float> theirs = scores();
    return std::memcmp(mine.data(), theirs.data(), mine.size() * sizeof(float)) == 0;
  }

  /// Mass that the row's query has given, all tokens together: as much as there are heads.
  double total_mass(std::uint32_t row) const {
    double sum = 0;
    const auto slot = static_cast<std::uint32_t>(step_.rows[row]);
    const float* of_slot = state_.scores + state_.number(layer, slot) * step_.capacity;
    for (std::uint32_t i = 0; i < step_.lengths[slot]; ++i) sum += of_slot[i];
    return sum / static_cast<double>(weights_[row].weight);
  }

 private:
  std::uint32_t count() const { return static_cast<std::uint32_t>(step_.rows.size()); }
  std::size_t elements() const {
    return step_.lengths.size() * step_.shape.kv_heads * step_.capacity * step_.shape.head_dim;
  }
  LayerCache<Half> cache() { return {keys_.data(), values_.data(), step_.capacity}; }
  lethe::gpu::ObservedLayer observed() const {
    return {state_, {step_.rows.data(), count()}, layer, weights_.data()};
  }

  static float* place(std::vector<float>& values, std::size_t count) {
    values.assign(count, -12345.0f);
    return values.data();
  }

  void place_state() {
    std::size_t bytes = 0;
    static_cast<void>(lethe::gpu::place_state(shape_, nullptr, bytes, state_));
    memory_ = device_.allocate(bytes);
    REQUIRE(lethe::gpu::place_state(shape_, memory_.get(), bytes, state_).ok());
    std::memset(static_cast<void*>(state_.scores), 0,
                std::size_t{layers} * shape_.slots * shape_.capacity * sizeof(float));
    for (std::uint32_t slot = 0; slot < shape_.slots; ++slot) {
      state_.lengths[state_.number(0, slot)] = 1;
      state_.lengths[state_.number(layer, slot)] = step_.lengths[slot];
    }
  }

  template <unsigned Heads>
  void attend() {
    const Attend<Half, Heads> kernel{step_.shape,     state_,  layer,   step_.rows.data(),
                                     queries_.data(), cache(), buffers_};
    device_.launch(kernel, kernel.grid(count()));
  }

  void record() {
    const std::uint32_t tiles = (step_.capacity + RecordMass::threads - 1) / RecordMass::threads;
    device_.launch(RecordMass{observed(), logits_.data(), lse_.data(), step_.shape.heads},
                   {tiles, count()});
  }

  std::vector<float> scores() const {
    const std::size_t all = std::size_t{layers} * shape_.slots * shape_.capacity;
    return {state_.scores, state_.scores + all};
  }

  double error_of(std::uint32_t row, std::uint32_t head) const {
    const HeadShape& shape = step_.shape;
    const auto slot = static_cast<std::size_t>(step_.rows[row]);
    const std::size_t kv_head = head / (shape.heads / shape.kv_heads);
    const std::size_t first = (slot * shape.kv_heads + kv_head) * step_.capacity * shape.head_dim;
    const std::size_t out = (std::size_t{row} * shape.heads + head) * shape.head_dim;
    std::vector<double> output(shape.head_dim, 0.0);
    double total = 0;
    for (std::uint32_t token = 0; token < step_.lengths[slot]; ++token) {
      const std::size_t at = first + std::size_t{token} * shape.head_dim;
      double logit = 0;
      for (std::uint32_t i = 0; i < shape.head_dim; ++i)
        logit += double{queries_[out + i]} * double{widened(keys_[at + i])};
      total += std::exp(logit);
      for (std::uint32_t i = 0; i < shape.head_dim; ++i)
        output[i] += std::exp(logit) * double{widened(values_[at + i])};
    }
    double worst = std::abs(std::log(total) - double{lse_[out / shape.head_dim]});
    for (std::uint32_t i = 0; i < shape.head_dim; ++i)
      worst = std::max(worst, std::abs(output[i] / total - double{out_[out + i]}));
    return worst;
  }

  Step step_;
  HostDevice device_;
  lethe::gpu::StateShape shape_;
  lethe::gpu::State state_{};
  HostDevice::Memory memory_;
  std::vector<float> queries_;
  std::vector<Half> keys_, values_;
  std::vector<lethe::gpu::QueryWeight> weights_;
  AttentionBuffers buffers_{};
  std::vector<float> logits_, maxima_, sums_, outputs_, lse_, out_;
};

HeadShape heads(std::uint32_t all, std::uint32_t kv, std::uint32_t channels) {
  return {.heads = all, .kv_heads = kv, .head_dim = channels, .rope_channels = channels};
}

}  // namespace

TEST_CASE("attention and its mass, for every grouping of heads and size of a head") {
  Random random(1);
  const HeadShape shapes[] = {heads(4, 4, 16),  heads(9, 3, 64),  heads(8, 2, 96), heads(7, 1, 128),
                              heads(8, 1, 256), heads(10, 2, 32), heads(9, 1, 40), heads(2, 1, 24)};
  for (const HeadShape& shape : shapes) {
    for (const std::uint32_t splits : {1u, 2u, 5u}) {
      CAPTURE(shape.heads, shape.kv_heads, shape.head_dim, splits);
      const Step step{.shape = shape,
                      .capacity = 150,
                      .splits = splits,
                      .lengths = {150, 1, 64, 65, 31},
                      .rows = {3, -1, 0, 1, 4}};
      Attention attention(random, step);
      attention.run();
      CHECK(attention.error() < 2e-5);
      CHECK(std::abs(attention.total_mass(0) - shape.heads) < 1e-4);
      CHECK(attention.scores_are_observed());
    }
  }
}

TEST_CASE("logits that are far apart neither overflow nor vanish") {
  Random random(2);
  Step step{.shape = heads(4, 1, 256), .capacity = 300, .splits = 3, .lengths = {300}, .rows = {0}};
  for (int turn = 0; turn < 4; ++turn) {
    Attention attention(random, step);
    attention.run();
    CHECK(attention.error() < 5e-5);
  }
}
