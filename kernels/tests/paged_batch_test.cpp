// A paged batch of 64 whose attention is planned from host lengths, while the device prunes.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "catch.hpp"
#include "lethe/gpu/host_lengths.hpp"
#include "lethe/gpu/length_classes.hpp"
#include "lethe/gpu/read_back.hpp"
#include "naive/random.hpp"
#include "simulated_cuda.hpp"

namespace {

using lethe::gpu::HostLengths;
using lethe::gpu::LengthClasses;
using naive::SimulatedCalls;
using Numbers = std::vector<std::uint32_t>;
using Range = std::span<const std::uint32_t>;
using ReadBack = lethe::gpu::ReadBack<SimulatedCalls>;

constexpr std::size_t layers = 32, slots = 64;

/// Stands for the engine: its device holds the true counts, and its attention reads what a plan
/// made on the host covers.
struct Engine {
  Engine() {
    REQUIRE(calls.create_stream(stream) == 0);
    for (std::size_t i = 0; i < slots; ++i) batch.push_back(static_cast<std::int32_t>(i));
    std::rotate(batch.begin(), batch.begin() + 5, batch.end());
    batch[9] = -1;
  }
  /// Every layer of every sequence loses up to half of its tokens.
  void prune() {
    for (std::uint32_t& count : counts) {
      count -= static_cast<std::uint32_t>(random.below(count / 2 + 1));
    }
    outcome = counts;
  }
  void append_tokens() {
    for (std::uint32_t& count : counts) ++count;
  }
  /// indptr as attention libraries take it: pages before each row.
  Numbers plan_attention(const LengthClasses& classes, std::size_t of_class) const {
    Numbers indptr{0};
    for (std::size_t row = 0; row < batch.size(); ++row) {
      indptr.push_back(indptr.back() + classes.pages(of_class, row));
    }
    return indptr;
  }
  /// The plan covers every token that the layer holds.
  void attend(std::size_t layer, const Numbers& indptr) {
    for (std::size_t row = 0; row < batch.size(); ++row) {
      if (batch[row] < 0) continue;
      const std::uint32_t tokens = counts[layer * slots + static_cast<std::size_t>(batch[row])];
      REQUIRE((indptr[row + 1] - indptr[row]) * 16 >= tokens);
    }
    planned += indptr.back();
  }

  naive::Random random{3};
  naive::SimulatedCuda cuda{4};
  SimulatedCalls calls{&cuda};
  std::size_t stream = 0;
  std::vector<std::int32_t> batch;
  Numbers counts = Numbers(layers * slots, 1000);
  /// What the round left in device memory; no later kernel writes it.
  Numbers outcome = counts;
  std::size_t planned = 0;
};

}  // namespace

TEST_CASE("a paged batch of 64 is attended to from host lengths while rounds are under way") {
  Engine engine;
  HostLengths lengths({.layers = layers, .slots = slots});
  LengthClasses classes({.layers = layers, .rows = slots, .classes = 4, .block_tokens = 16});
  ReadBack read_back(layers * slots, engine.calls);
  for (std::size_t slot = 0; slot < slots; ++slot) lengths.open(slot, 1000);
  std::size_t rounds = 0, late = 0;
  for (int step = 1; step <= 300; ++step) {
    const auto stream = engine.stream;
    // [host_lengths_step]
    if (step % 64 == 0 && !lengths.round_under_way()) {
      engine.prune();  // launches the round's graph on the stream; counts stay on the device
      lengths.begin_round();
      const Range counts[] = {engine.outcome};
      if (!read_back.begin(counts, stream).ok()) lengths.lose_round();
    }
    engine.append_tokens();
    for (std::size_t slot = 0; slot < slots; ++slot) lengths.append(slot, 1);
    if (const auto counts = read_back.poll()) lengths.end_round(*counts);
    if (lengths.round_under_way() && !read_back.under_way()) lengths.lose_round();

    classes.assign(lengths, engine.batch);
    std::vector<Numbers> plans;  // one for each class, not for each layer
    for (std::size_t i = 0; i < classes.size(); ++i) {
      plans.push_back(engine.plan_attention(classes, i));
    }
    for (std::size_t layer = 0; layer < layers; ++layer) {
      engine.attend(layer, plans[classes.class_of(layer)]);
    }
    // [host_lengths_step]
    REQUIRE(classes.size() <= 4);
    rounds += step % 64 == 0;
    late += lengths.round_under_way();
  }
  CHECK(rounds == 4);
  CHECK(late > 0);
  // Less than what the layers would be given without pruning.
  CHECK(engine.planned * 16 < std::size_t{300} * layers * 63 * 1100);
}
