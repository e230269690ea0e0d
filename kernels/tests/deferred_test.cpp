#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "catch.hpp"
#include "deferred_cases.hpp"
#include "deferred_emulation.hpp"
#include "toy_attention.hpp"

namespace {

using gpu_test::DeferredCase;
using gpu_test::KeyLayout;
using lethe::BFloat16;
using lethe::Half;
using lethe::gpu::QueryWeight;

template <class Element>
void decodes_as_the_host(std::uint64_t seed, const DeferredCase& given, std::size_t steps = 120) {
  gpu_test::DeferredDecode<Element, gpu_test::DeferredEmulation<Element>> decode(seed, given);
  CHECK(decode.run(steps) == "");
  CHECK(decode.pruned > 3);
}

template <class Element>
Element narrowed(float value) {
  if constexpr (std::is_same_v<Element, float>) {
    return value;
  } else {
    return {static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16)};
  }
}

/// One layer of one sequence that has attended as a ToyAttention did, its last queries waiting.
template <class Element, class Key = Element>
class ToyRing {
 public:
  ToyRing(const ToyAttention& drawn, std::uint32_t queries)
      : toy(drawn),
        emulation({1, 1, static_cast<std::uint32_t>(toy.tokens)}, 9),
        host({1, 1, static_cast<std::uint32_t>(toy.tokens)},
             {.queries = queries,
              .heads = static_cast<std::uint32_t>(toy.heads),
              .kv_heads = static_cast<std::uint32_t>(toy.kv_heads),
              .head_dimension = static_cast<std::uint32_t>(toy.dimension)}) {
    narrow<Key>(toy.keys);
    narrow<Element>(toy.queries);
    // Chunks of 16 bytes need keys so aligned, as device memory is.
    const std::size_t bytes = toy.keys.size() * sizeof(Key);
    memory_ = gpu_test::poisoned_memory((bytes + 255) / 256 * 256);
    keys = static_cast<Key*>(memory_.get());
    for (std::size_t i = 0; i < toy.keys.size(); ++i) keys[i] = narrowed<Key>(toy.keys[i]);
    emulation.start({0}, 0);
    lethe::gpu::start_rings_block(emulation.block(), host.ring, {nullptr, 1}, 0);
    emulation.append({0}, static_cast<std::uint32_t>(toy.tokens) - queries);
  }

  /// The queries of the next `count` tokens.
  void push(std::size_t count) {
    const std::size_t first = emulation.read().state.lengths[0];
    emulation.append({0}, static_cast<std::uint32_t>(count));
    std::vector<Element> data;
    std::vector<float> lse;
    for (std::size_t head = 0; head < toy.heads; ++head) {
      for (std::size_t q = first; q < first + count; ++q) {
        for (std::size_t c = 0; c < toy.dimension; ++c) {
          data.push_back(narrowed<Element>(toy.query(head, q)[c]));
        }
        lse.push_back(toy.lse(head, q));
      }
    }
    std::vector<QueryWeight> of_step;
    for (std::size_t q = 0; q < count; ++q) of_step.push_back(rasr_.of(q));
    rasr_.commit(count);
    weights.insert(weights.end(), of_step.begin(), of_step.end());
    gpu_test::run_push<Element>(
        emulation, {emulation.read().state, {nullptr, 1}, 0, of_step.data()}, host.ring,
        {.first = {.data = data.data(),
                   .lse = lse.data(),
                   .heads = toy.heads,
                   .queries = count,
                   .head_dimension = toy.dimension,
                   .scale = toy.scale,
                   .softcap = toy.softcap,
                   .base = toy.base}});
  }

  [[nodiscard]] lethe::gpu::Flush<Element, Key> flush() {
    const auto row = static_cast<std::uint32_t>(toy.dimension * sizeof(Key));
    return {.state = emulation.read().state,
            .batch = {nullptr, 1},
            .ring = host.ring,
            .strips = {.base = reinterpret_cast<std::byte*>(keys),
                       .row_bytes = row,
                       .heads = static_cast<std::uint32_t>(toy.kv_heads),
                       .token_stride = row,
                       .head_stride = row * toy.tokens}};
  }

  [[nodiscard]] std::span<float> scores() const { return emulation.read().scores(0, 0); }

  /// The scores by the book: each query's attention times its weight.
  [[nodiscard]] std::vector<double> expected() const {
    std::vector<double> sums(toy.tokens, 0.0);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const std::size_t query = toy.tokens - weights.size() + i;
      const std::vector<double> mass = toy.mass(query, 0, 1);
      for (std::size_t t = 0; t < mass.size(); ++t) {
        sums[t] += mass[t] * static_cast<double>(weights[i].weight);
      }
    }
    return sums;
  }

  ToyAttention toy;
  gpu_test::Emulation emulation;
  gpu_test::HostRing<Element> host;
  Key* keys = nullptr;
  std::vector<QueryWeight> weights;

 private:
  template <class To>
  static void narrow(std::vector<float>& values) {
    for (float& value : values) value = lethe::to_float(narrowed<To>(value));
  }

  gpu_test::Memory memory_;
  lethe::gpu::RasrWeights rasr_{{.decay = 0.9f}};
};

ToyAttention drawn_toy(std::uint64_t seed, std::size_t tokens, std::size_t dimension = 16,
                       float softcap = 0.0f) {
  ToyAttention toy{.dimension = dimension, .tokens = tokens, .softcap = softcap};
  Samples samples(seed);
  toy.draw(samples);
  return toy;
}

template <class Element, class Key = Element>
void scores_as_attention_did(const ToyAttention& toy, bool exact) {
  ToyRing<Element, Key> ring(toy, 16);
  for (const std::size_t step : {3u, 1u, 7u, 5u}) ring.push(step);
  auto flush = ring.flush();
  flush.exact = exact;
  gpu_test::run_flush(ring.emulation, flush);
  const std::vector<double> expected = ring.expected();
  REQUIRE(ring.scores().size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double tolerance = 1e-6 * 16 * 6 + 2e-4 * expected[i];
    CHECK_THAT(static_cast<double>(ring.scores()[i]), WithinAbs(expected[i], tolerance));
  }
}

std::string field(const lethe::gpu::Status& status) {
  const std::string remedy = status.remedy;
  return status.ok() ? "" : remedy.substr(0, remedy.find(':'));
}

}  // namespace

TEST_CASE("an exact flush makes the bits of the host library's deferred scores") {
  decodes_as_the_host<float>(1, {.exact = true});
  decodes_as_the_host<BFloat16>(2, {.layout = KeyLayout::pages, .exact = true});
  DeferredCase given{.layout = KeyLayout::heads, .base = lethe::LogBase::two, .exact = true};
  decodes_as_the_host<Half>(3, given);
  // More queries than a tile has rows, one head a KV head, and channels staged in two parts.
  given = {.ring = {.queries = 37, .heads = 2, .kv_heads = 2, .head_dimension = 265},
           .exact = true};
  decodes_as_the_host<float>(4, given, 90);
  // Scales are renewed every 60 queries; a ring that holds 3 is flushed nearly every step.
  given = {.ring = {.queries = 16, .heads = 5, .kv_heads = 1, .head_dimension = 7},
           .decay = 0.5f,
           .exact = true};
  decodes_as_the_host<float>(5, given);
  given.ring.queries = 3;
  given.decay = 1.0f;
  decodes_as_the_host<BFloat16>(6, given);
  given.softcap = 3.0f;
  decodes_as_the_host<float>(7, given);
}

TEST_CASE("a flush by tiles makes the host library's deferred scores to rounding") {
  decodes_as_the_host<BFloat16>(11, {});
  decodes_as_the_host<Half>(12, {.layout = KeyLayout::pages});
  DeferredCase given{.layout = KeyLayout::heads, .softcap = 2.0f, .base = lethe::LogBase::two};
  decodes_as_the_host<Half>(13, given);
  given = {.ring = {.queries = 37, .heads = 2, .kv_heads = 2, .head_dimension = 104},
           .decay = 0.5f};
  decodes_as_the_host<BFloat16>(14, given, 90);
  given = {.ring = {.queries = 5, .heads = 3, .kv_heads = 1, .head_dimension = 200},
           .layout = KeyLayout::pages};
  decodes_as_the_host<BFloat16>(15, given, 90);
}

TEST_CASE("deferred scores are those of the attention itself, whatever the element") {
  for (const bool exact : {false, true}) {
    scores_as_attention_did<BFloat16>(drawn_toy(21, 70), exact);
    scores_as_attention_did<BFloat16>(drawn_toy(22, 150, 64, 3.0f), exact);
  }
  scores_as_attention_did<float>(drawn_toy(23, 40, 33), false);
  scores_as_attention_did<float, BFloat16>(drawn_toy(24, 40), false);
}

TEST_CASE("tiles are for 16-bit keys that lie at multiples of 16 bytes") {
  ToyRing<BFloat16> ring(drawn_toy(31, 30), 4);
  auto flush = ring.flush();
  CHECK(lethe::gpu::scores_in_tiles(flush));
  flush.exact = true;
  CHECK_FALSE(lethe::gpu::scores_in_tiles(flush));
  flush = ring.flush();
  flush.strips.token_stride += 2;
  CHECK_FALSE(lethe::gpu::scores_in_tiles(flush));
  CHECK(lethe::gpu::check(flush).ok());
  CHECK_FALSE(lethe::gpu::scores_in_tiles(ToyRing<float>(drawn_toy(32, 30), 4).flush()));
  CHECK_FALSE(lethe::gpu::scores_in_tiles(ToyRing<BFloat16>(drawn_toy(33, 30, 20), 4).flush()));
  CHECK_FALSE(lethe::gpu::scores_in_tiles(ToyRing<BFloat16>(drawn_toy(34, 30, 264), 4).flush()));
}

TEST_CASE("a key that is no number spoils the score of its token alone") {
  for (const bool exact : {false, true}) {
    ToyRing<BFloat16> ring(drawn_toy(41, 60), 16);
    ring.push(16);
    ring.keys[37 * 16 + 5] = narrowed<BFloat16>(not_a_number);
    auto flush = ring.flush();
    flush.exact = exact;
    gpu_test::run_flush(ring.emulation, flush);
    for (std::size_t i = 0; i < 60; ++i) CHECK(lethe::is_finite(ring.scores()[i]) == (i != 37));
  }
}

TEST_CASE("table entries behind the last token are not read") {
  for (const bool exact : {false, true}) {
    ToyRing<BFloat16> ring(drawn_toy(45, 70), 16);
    ring.push(16);
    auto flush = ring.flush();
    flush.exact = exact;
    // The same memory as blocks of 10 tokens, the last three of a table without a block.
    const std::uint32_t row = flush.strips.row_bytes;
    std::vector<std::uint32_t> table{0, 1, 2, 3, 4, 5, 6, ~0u, ~0u, ~0u};
    flush.pages = {flush.strips.base, row, 2, row, flush.strips.head_stride, 10u * row, 0};
    flush.strips = {};
    flush.tables = {.tables = table.data(), .capacity = 10, .block_tokens = 10};
    gpu_test::run_flush(ring.emulation, flush);
    const std::vector<double> expected = ring.expected();
    for (std::size_t i = 0; i < 70; ++i) {
      CHECK_THAT(static_cast<double>(ring.scores()[i]), WithinAbs(expected[i], 1e-4));
    }
  }
}

TEST_CASE("only rings without room, and those of due layers, are flushed") {
  ToyRing<float> ring(drawn_toy(51, 40), 8);
  ring.push(6);
  const std::uint32_t& waiting = ring.host.ring.counts[0];
  auto flush = ring.flush();
  flush.step_queries = 2;
  const auto run = [&] {
    gpu_test::run_flush(ring.emulation, flush);
    return waiting == 0;
  };
  CHECK_FALSE(run());
  CHECK(ring.scores()[3] == 0.0f);
  flush.before_round = true;
  flush.settings.capacity = 40;
  flush.settings.step_tokens = 2;
  CHECK_FALSE(run());
  flush.settings.step_tokens = 3;
  CHECK(run());
  CHECK(ring.scores()[3] > 0.0f);
  flush.before_round = false;
  ring.push(2);
  flush.step_queries = 6;
  CHECK_FALSE(run());
  flush.step_queries = 7;
  CHECK(run());
}

TEST_CASE("queries that find no room are counted, and leave those that wait alone") {
  ToyRing<float> ring(drawn_toy(61, 40), 8);
  ring.push(6);
  ring.push(2);
  CHECK(ring.host.ring.lost[0] == 0);
  const std::vector<float> full(ring.host.ring.channels, ring.host.ring.channels + 8 * 6 * 16);
  const gpu_test::StepAttention<float> attention = [] {
    Samples samples(62);
    return gpu_test::StepAttention<float>(
        samples, {.ring = {.queries = 8, .heads = 6, .kv_heads = 2, .head_dimension = 16}}, 1, 3);
  }();
  const std::vector<QueryWeight> weights(3);
  gpu_test::run_push(ring.emulation, {ring.emulation.read().state, {nullptr, 1}, 0, weights.data()},
                     ring.host.ring, attention.seen);
  CHECK(ring.host.ring.lost[0] == 3);
  CHECK(ring.host.ring.counts[0] == 8);
  CHECK(std::memcmp(full.data(), ring.host.ring.channels, full.size() * sizeof(float)) == 0);
  lethe::gpu::start_rings_block(ring.emulation.block(), ring.host.ring, {nullptr, 1}, 0);
  CHECK(ring.host.ring.lost[0] == 0);
  CHECK(ring.host.ring.counts[0] == 0);
}

TEST_CASE("a layer is flushed alone where layers lie in memories of their own") {
  const gpu_test::HostRing<float> host({2, 1, 8}, {.heads = 1, .kv_heads = 1, .head_dimension = 1});
  gpu_test::Emulation emulation({2, 1, 8}, 1);
  emulation.start({0}, 0);
  lethe::gpu::start_rings_block(emulation.block(), host.ring, {nullptr, 1}, 0);
  emulation.append({0}, 8);
  const float query = 1.0f, lse = 2.0f;
  const QueryWeight weight{1.0f, 1.0f};
  for (const std::uint32_t layer : {0u, 1u}) {
    gpu_test::run_push<float>(
        emulation, {emulation.read().state, {nullptr, 1}, layer, &weight}, host.ring,
        {.first = {.data = &query, .lse = &lse, .heads = 1, .head_dimension = 1}});
  }
  std::vector<float> keys{0.0f, 1.0f, 2.0f, 1.0f, 0.0f, -1.0f, -2.0f, 0.5f};
  lethe::gpu::Flush<float> flush{.state = emulation.read().state,
                                 .batch = {nullptr, 1},
                                 .ring = host.ring,
                                 .strips = {.base = reinterpret_cast<std::byte*>(keys.data()),
                                            .row_bytes = 4,
                                            .token_stride = 4},
                                 .layer = 1};
  gpu_test::run_flush(emulation, flush);
  CHECK(host.ring.counts[0] == 1);
  CHECK(host.ring.counts[1] == 0);
  for (std::size_t i = 0; i < 8; ++i) {
    CHECK(emulation.read().scores(0, 0)[i] == 0.0f);
    CHECK(emulation.read().scores(1, 0)[i] == lethe::exact_exp(keys[i] - lse));
  }
}

TEST_CASE("a flush that cannot be is refused by name before any launch") {
  ToyRing<float> ring(drawn_toy(71, 30), 4);
  const auto refusal = [&](auto change) {
    auto flush = ring.flush();
    change(flush);
    return field(lethe::gpu::check(flush));
  };
  CHECK(refusal([](auto&) {}).empty());
  CHECK(refusal([](auto& flush) { flush.state = {}; }) == "layers");
  CHECK(refusal([](auto& flush) { flush.batch.rows = 2; }) == "slot_of_row");
  CHECK(refusal([](auto& flush) { flush.ring.channels = nullptr; }) == "ring");
  CHECK(refusal([](auto& flush) { flush.ring.slots = 2; }) == "ring");
  CHECK(refusal([](auto& flush) { flush.state.shape.window = 8; }) == "window");
  CHECK(refusal([](auto& flush) { flush.state.shape.scores = false; }) == "scores");
  CHECK(refusal([](auto& flush) { flush.state.shape.groups = 2; }) == "groups");
  CHECK(refusal([](auto& flush) { flush.layer = 1; }) == "layer");
  CHECK(refusal([](auto& flush) { flush.strips.base = nullptr; }) == "base");
  CHECK(refusal([](auto& flush) { flush.pages.base = flush.strips.base; }) == "base");
  CHECK(refusal([](auto& flush) { flush.strips.token_stride += 2; }) == "base");
  CHECK(refusal([](auto& flush) { flush.strips.heads = 1; }) == "heads");
  CHECK(refusal([](auto& flush) { flush.strips.row_bytes = 32; }) == "row_bytes");
  std::uint32_t table = 0;
  const auto paged = [&](auto change) {
    return refusal([&](auto& flush) {
      flush.pages = {flush.strips.base, flush.strips.row_bytes, 2, 64, 64, 64, 0};
      flush.strips.base = nullptr;
      flush.tables = {.tables = &table, .capacity = 1, .block_tokens = 1};
      change(flush);
    });
  };
  CHECK(paged([](auto&) {}).empty());
  CHECK(paged([](auto& flush) { flush.pages.heads = 3; }) == "heads");
  CHECK(paged([](auto& flush) { flush.tables.tables = nullptr; }) == "tables");
  CHECK(paged([](auto& flush) { flush.tables.block_tokens = 0; }) == "block_tokens");
  CHECK(paged([](auto& flush) { flush.tables.capacity = 0; }) == "capacity");
}

TEST_CASE("a round behind a flush is refused where either is, or where layers would be left out") {
  ToyRing<float> ring(drawn_toy(72, 30), 4);
  const gpu_test::HostState& host = ring.emulation.read();
  lethe::gpu::Round round{.state = host.state, .batch = {nullptr, 1}, .plans = host.plans};
  round.settings.capacity = 30;
  auto flush = ring.flush();
  // The round's own state and batch count.
  flush.state = {};
  flush.batch.rows = 99;
  CHECK(lethe::gpu::check(round, flush).ok());
  flush.layer = 0;
  CHECK(field(lethe::gpu::check(round, flush)) == "layer");
  flush.layer = lethe::gpu::every_layer;
  const float before_the_flush = 0;
  round.scores = &before_the_flush;
  CHECK(field(lethe::gpu::check(round, flush)) == "scores");
  round.scores = nullptr;
  flush.strips.heads = 1;
  CHECK(field(lethe::gpu::check(round, flush)) == "heads");
  round.settings.capacity = 31;
  CHECK(field(lethe::gpu::check(round, flush)) == "capacity");
}

TEST_CASE("queries that a ring cannot keep are refused by name before any launch") {
  ToyRing<float> ring(drawn_toy(81, 30), 4);
  const float number = 0;
  const QueryWeight weight{};
  const auto refusal = [&](auto change) {
    lethe::gpu::ObservedLayer layer{ring.emulation.read().state, {nullptr, 1}, 0, &weight};
    lethe::Queries<float> seen{.data = &number, .lse = &number, .heads = 6, .head_dimension = 16};
    change(layer, seen);
    return field(lethe::gpu::check(layer, ring.host.ring,
                                   lethe::gpu::BatchObservation<lethe::Queries<float>>{seen}));
  };
  CHECK(refusal([](auto&, auto&) {}).empty());
  CHECK(refusal([](auto& layer, auto&) { layer.layer = 1; }) == "layer");
  CHECK(refusal([](auto& layer, auto&) { layer.weights = nullptr; }) == "weights");
  CHECK(refusal([](auto&, auto& seen) { seen.data = nullptr; }) == "data");
  CHECK(refusal([](auto&, auto& seen) { seen.lse = nullptr; }) == "lse");
  CHECK(refusal([](auto&, auto& seen) { seen.heads = 2; }) == "heads");
  CHECK(refusal([](auto&, auto& seen) { seen.head_dimension = 8; }) == "head_dimension");
  CHECK(refusal([](auto&, auto& seen) { seen.queries = 5; }) == "queries");
  CHECK(refusal([](auto&, auto& seen) { seen.queries = 0; }) == "queries");
  CHECK(refusal([](auto&, auto& seen) { seen.first_query = 1; }) == "first_query");
  CHECK(field(lethe::gpu::check(lethe::gpu::QueryRing<float>{}, {nullptr, 0})) == "ring");
  CHECK(field(lethe::gpu::check(ring.host.ring, {nullptr, 2})) == "slot_of_row");
}

TEST_CASE("rings are sized by a query, and shapes that cannot be are refused by name") {
  std::size_t bytes = 0;
  lethe::gpu::QueryRing<BFloat16> ring;
  const lethe::gpu::StateShape state{2, 3, 100};
  const auto refusal = [&](const lethe::gpu::RingShape& shape) {
    return field(lethe::gpu::place_ring(state, shape, nullptr, bytes, ring));
  };
  CHECK(refusal({.queries = 16, .heads = 8, .kv_heads = 2, .head_dimension = 64}).empty());
  CHECK(bytes >= std::size_t{2 * 3 * 16 * 8} * (64 * 2 + 4));
  CHECK(ring.channels == nullptr);
  CHECK(refusal({.queries = 257, .heads = 8, .kv_heads = 2, .head_dimension = 64}) == "queries");
  CHECK(refusal({.heads = 0, .kv_heads = 1, .head_dimension = 64}) == "heads");
  CHECK(refusal({.heads = 8, .kv_heads = 3, .head_dimension = 64}) == "kv_heads");
  CHECK(refusal({.heads = 8, .kv_heads = 2}) == "head_dimension");
  CHECK(refusal({.heads = 8, .kv_heads = 2, .head_dimension = 1u << 24}) == "head_dimension");
}
