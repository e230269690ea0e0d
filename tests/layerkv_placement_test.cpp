// Which layers stay: how many must, how many may, which, and what a decode step then takes.
#include "lethe/layerkv/placement.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "naive/random.hpp"

namespace layerkv = lethe::layerkv;
using layerkv::CacheShape;
using layerkv::Costs;
using layerkv::LayerChoice;
using naive::Random;

namespace {

/// Llama-3.1-8B in bf16.
constexpr CacheShape llama{.layers = 32, .token_bytes = 4096};
/// About an H100.
const Costs h100{.prefill = {2.2e-3, 1.6e-5, 1.2e-9}};

std::size_t up(std::size_t value, std::size_t by) { return (value + by - 1) / by; }

/// Seconds of copying so many layers of so many tokens, fragment by fragment.
double copy_seconds(const Costs& costs, const CacheShape& shape, std::size_t layers,
                    std::size_t tokens, double share) {
  const std::size_t fragment =
      shape.fragment_bytes != 0 ? shape.fragment_bytes : shape.block_tokens * shape.token_bytes;
  const std::size_t call = std::max(shape.copy_bytes, fragment);
  const std::size_t bytes = tokens * shape.token_bytes;
  const double link = costs.copy.per_byte * double(layers * bytes) +
                      costs.copy.per_fragment * double(layers * up(bytes, fragment));
  if (layers * bytes == 0) return 0;
  return costs.copy.per_copy * double(layers * up(bytes, call)) +
         (share > 0 ? link / share : layerkv::never);
}

/// The fewest layers by trying all, chunk by chunk.
std::size_t naive_retained(const Costs& costs, const CacheShape& shape,
                           const layerkv::PrefillSchedule& schedule) {
  const std::size_t tokens = schedule.work.tokens;
  const std::size_t chunk = schedule.chunk == 0 ? std::max<std::size_t>(1, tokens) : schedule.chunk;
  for (std::size_t x = 0; x <= shape.layers; ++x) {
    bool hides = true;
    double brought = 0;
    for (std::size_t done = 0; done < tokens; done += chunk) {
      const std::size_t now = std::min(chunk, tokens - done);
      const double out = copy_seconds(costs, shape, shape.layers - x, now, schedule.link_share);
      const double pass = costs.prefill.seconds({now, schedule.work.context + done});
      if (out + (schedule.fetches_chunks ? brought : 0) > pass * (1 + 1e-12)) hides = false;
      brought += out;
    }
    if (hides) return x;
  }
  return shape.layers + 1;
}

CacheShape random_shape(Random& random) {
  CacheShape shape{.layers = random.between(1, 80),
                   .token_bytes = std::size_t{64} << random.below(8),
                   .block_tokens = std::size_t{1} << random.below(7)};
  if (random.chance(50)) shape.fragment_bytes = random.between(100, 1 << 21);
  if (random.chance(50)) shape.copy_bytes = shape.fragment_bytes * random.between(1, 64);
  return shape;
}

Costs random_costs(Random& random) {
  const auto number = [&](double most) { return most * static_cast<double>(random.unit()); };
  return {.prefill = {number(1e-2), number(5e-5), number(5e-9)},
          .copy = {number(1e-5), number(1e-5), number(1e-10)}};
}

std::vector<std::uint32_t> staying(std::size_t layers, std::size_t retained,
                                   LayerChoice choice = LayerChoice::interleaved) {
  std::vector<std::uint32_t> out(retained);
  const auto written = layerkv::layers_that_stay(layers, retained, out, choice);
  return {written.begin(), written.end()};
}

std::string refusal(const CacheShape& shape) {
  try {
    layerkv::detail::check(shape);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("the fewest layers are those that trying all finds, in one pass or in chunks") {
  std::size_t between = 0;
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    Random random(seed);
    const CacheShape shape = random_shape(random);
    const Costs costs = random_costs(random);
    layerkv::PrefillSchedule schedule{
        .work = {random.below(5000), random.chance(50) ? 0 : random.below(20000)}};
    if (random.chance(60)) schedule.chunk = random.between(50, 2048);
    schedule.fetches_chunks = random.chance(50);
    if (random.chance(30)) schedule.link_share = static_cast<double>(random.unit());
    const std::size_t retained = layerkv::retained_layers(costs, shape, schedule);
    INFO("seed " << seed);
    CHECK(retained == naive_retained(costs, shape, schedule));
    if (retained != 0 && retained != shape.layers) ++between;
  }
  CHECK(between > 500);
}

TEST_CASE("a copy that takes exactly the time there is hides, and not an instant less") {
  for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
    Random random(seed);
    const layerkv::CopyCost cost = random_costs(random).copy;
    const layerkv::CopyWork layer =
        layerkv::copy_of(random_shape(random), 1, 1 + random.below(999));
    const std::size_t layers = random.between(1, 80);
    const std::size_t some = random.between(1, layers);
    const double exact = cost.seconds(layerkv::detail::times(layer, some));
    const auto within = [&](double seconds) {
      return layerkv::detail::layers_within(cost, layer, layers, seconds, 1);
    };
    INFO("seed " << seed);
    CHECK(within(exact) == some);
    CHECK(within(std::nextafter(exact, 0)) == some - 1);
  }
}

TEST_CASE("more link keeps fewer layers, and none keeps them all") {
  const layerkv::PrefillSchedule prompt{.work = {4096, 0}};
  const std::size_t alone = layerkv::retained_layers(h100, llama, prompt);
  std::size_t last = llama.layers;
  for (const double share : {0.0, 0.05, 0.1, 0.2, 0.5, 1.0}) {
    layerkv::PrefillSchedule shared = prompt;
    shared.link_share = share;
    const std::size_t retained = layerkv::retained_layers(h100, llama, shared);
    CHECK(retained <= last);
    last = retained;
    if (share == 0) CHECK(retained == llama.layers);
  }
  CHECK(last == alone);
  CHECK(layerkv::retained_layers(h100, llama, {.work = {0, 100}}) == 0);
  const Costs free_copies{.prefill = h100.prefill, .copy = {0, 0, 0}};
  CHECK(layerkv::retained_layers(free_copies, llama, prompt) == 0);
  const Costs free_prefill{};
  CHECK(layerkv::retained_layers(free_prefill, llama, prompt) == llama.layers);
}

TEST_CASE("coalesced copies hide more layers than blocks one by one") {
  CacheShape coalesced = llama;
  coalesced.fragment_bytes = 2 << 20;
  const layerkv::PrefillSchedule prompt{.work = {2048, 0}, .link_share = 0.5};
  CHECK(layerkv::retained_layers(h100, coalesced, prompt) == 0);
  CHECK(layerkv::retained_layers(h100, llama, prompt) > 8);
}

TEST_CASE("a length near the end of numbers does not wrap round") {
  constexpr std::size_t most = static_cast<std::size_t>(-1);
  CHECK(layerkv::blocks_of(llama, most) == (std::size_t{1} << 28));
  CHECK(layerkv::copy_of(llama, 32, most).bytes == 32 * 4096 * 0xFFFFFFFFull);
  for (const double share : {1.0, 0.03}) {
    for (const std::size_t chunk : {std::size_t{0}, std::size_t{2048}, std::size_t{100000}}) {
      layerkv::PrefillSchedule longest{{0xFFFFFFFFu, 0}, chunk, true, share};
      const std::size_t retained = layerkv::retained_layers(h100, llama, longest);
      longest.work.tokens = most;
      CHECK(layerkv::retained_layers(h100, llama, longest) == retained);
    }
  }
  CHECK_FALSE(layerkv::layers_that_fit(llama, 0, most, {1000, 1000}));
}

TEST_CASE("the layers that fit are those that trying all finds") {
  for (std::uint64_t seed = 1; seed <= 5000; ++seed) {
    Random random(seed);
    const CacheShape shape{.layers = random.between(1, 12), .token_bytes = 2};
    const std::size_t staging = random.between(1, shape.layers);
    const std::size_t needed = random.below(shape.layers + 1);
    const std::size_t blocks = random.below(6);
    const layerkv::FreeBlocks free{random.below(60), random.below(60)};
    std::optional<layerkv::LayerRange> expected;
    for (std::size_t x = needed; x <= shape.layers; ++x) {
      const std::size_t away = shape.layers - x;
      const std::size_t device = (x + std::min(staging, away)) * blocks;
      CHECK(layerkv::device_blocks(shape, x, blocks, staging) == device);
      if (device > free.device || away * blocks > free.host) continue;
      if (!expected) expected = layerkv::LayerRange{x, x};
      expected->most = x;
    }
    INFO("seed " << seed);
    CHECK(layerkv::layers_that_fit(shape, needed, blocks, free, staging) == expected);
  }
}

TEST_CASE("layers stay as published: 1, 3, 5, 7 of 8") {
  using Layers = std::vector<std::uint32_t>;
  CHECK(staying(8, 4) == Layers{1, 3, 5, 7});
  CHECK(staying(8, 0).empty());
  CHECK(staying(8, 8) == Layers{0, 1, 2, 3, 4, 5, 6, 7});
  CHECK(staying(8, 3, LayerChoice::last) == Layers{5, 6, 7});
  CHECK(staying(8, 0, LayerChoice::last).empty());
}

TEST_CASE("any number of layers is spread evenly, in ascending order") {
  for (std::size_t layers = 1; layers <= 64; ++layers) {
    for (std::size_t retained = 1; retained <= layers; ++retained) {
      const auto kept = staying(layers, retained);
      REQUIRE(kept.size() == retained);
      // Round and round: the gap from the last to the first counts too.
      std::size_t smallest = layers;
      std::size_t widest = 0;
      for (std::size_t i = 0; i < retained; ++i) {
        const std::size_t next = i + 1 < retained ? kept[i + 1] : kept[0] + layers;
        smallest = std::min(smallest, next - kept[i]);
        widest = std::max(widest, next - kept[i]);
        CHECK(layerkv::stays(kept[i], layers, retained));
      }
      CHECK(smallest == layers / retained);
      CHECK(widest == up(layers, retained));
    }
  }
}

TEST_CASE("of equal layers the lowest moves") {
  const auto all = [](std::size_t) { return true; };
  const auto none = [](std::size_t) { return false; };
  const auto ends = [](std::size_t layer) { return layer == 0 || layer == 5; };
  CHECK(layerkv::next_to_offload(6, all) == std::size_t{0});
  CHECK(layerkv::next_to_return(6, none) == std::size_t{0});
  CHECK(layerkv::next_to_return(6, ends) == std::size_t{2});
}

TEST_CASE("layers leave and return one by one, evenly") {
  for (std::size_t layers = 1; layers <= 40; ++layers) {
    std::vector<char> on(layers, 1);
    const auto on_device = [&](std::size_t layer) { return on[layer] != 0; };
    const auto widest_gap = [&] {
      std::size_t widest = 0;
      std::size_t gap = 0;
      for (std::size_t i = 0; i < 2 * layers; ++i) {
        gap = on[i % layers] != 0 ? 0 : gap + 1;
        widest = std::max(widest, gap);
      }
      return std::min(widest, layers);
    };
    for (std::size_t left = layers; left-- != 0;) {
      const auto layer = layerkv::next_to_offload(layers, on_device);
      REQUIRE(layer);
      REQUIRE(on_device(*layer));
      on[*layer] = 0;
      if (layers == 8 && left == 4) CHECK(on == std::vector<char>{0, 1, 0, 1, 0, 1, 0, 1});
      // Never more than twice as long a gap as the best that so many layers allow.
      if (left != 0) CHECK(widest_gap() <= 2 * (up(layers, left) - 1));
    }
    CHECK_FALSE(layerkv::next_to_offload(layers, on_device));
    for (std::size_t there = 1; there <= layers; ++there) {
      const auto layer = layerkv::next_to_return(layers, on_device);
      REQUIRE(layer);
      REQUIRE_FALSE(on_device(*layer));
      on[*layer] = 1;
      CHECK(widest_gap() <= 2 * (up(layers, there) - 1));
    }
    CHECK_FALSE(layerkv::next_to_return(layers, on_device));
  }
}

namespace {

/// The same pipeline, event by event, over many steps: when each fetch and each layer is done.
double naive_decode(const std::vector<char>& on, double compute, double fetch) {
  const std::size_t layers = on.size();
  constexpr std::size_t steps = 40;
  std::vector<double> computed;      // by layer, over all steps
  std::vector<std::size_t> fetched;  // which of these were fetched
  std::vector<double> arrived;       // when
  for (std::size_t i = 0; i < steps * layers; ++i) {
    double ready = computed.empty() ? 0 : computed.back();
    if (on[i % layers] == 0) {
      const std::size_t n = fetched.size();
      double begin = n == 0 ? 0 : arrived[n - 1];
      if (n >= 2) begin = std::max(begin, computed[fetched[n - 2]]);
      arrived.push_back(begin + fetch);
      fetched.push_back(i);
      ready = std::max(ready, arrived.back());
    }
    computed.push_back(ready + compute);
  }
  return computed.back() - computed[(steps - 1) * layers - 1];
}

}  // namespace

TEST_CASE("a decode step takes what the pipeline takes event by event") {
  for (std::uint64_t seed = 1; seed <= 1000; ++seed) {
    Random random(seed);
    std::vector<char> on(random.between(2, 40));
    const std::size_t share = random.below(101);
    for (char& layer : on) layer = random.chance(share) ? 1 : 0;
    const double fetch = 4 * static_cast<double>(random.unit());
    const auto there = [&](std::size_t layer) { return on[layer] != 0; };
    INFO("seed " << seed);
    CHECK_THAT(layerkv::decode_seconds(on.size(), 1, fetch, there),
               WithinRel(naive_decode(on, 1, fetch), 1e-9));
  }
}

TEST_CASE("interleaved layers return behind their neighbours' work, adjacent ones do not") {
  const auto time = [](LayerChoice choice) {
    return layerkv::decode_seconds(
        32, 1, 2, [choice](std::size_t layer) { return layerkv::stays(layer, 32, 16, choice); });
  };
  CHECK_THAT(time(LayerChoice::interleaved), WithinRel(32.0, 1e-12));
  CHECK(time(LayerChoice::last) > 40);
}

TEST_CASE("shapes that cannot be are refused by name") {
  const auto begins = [](const CacheShape& shape, const std::string& start) {
    const std::string message = refusal(shape);
    CHECK(message.substr(0, start.size()) == start);
  };
  CHECK(refusal(llama).empty());
  begins({.layers = 0, .token_bytes = 1}, "lethe: layers = 0: ");
  begins({.layers = 65537, .token_bytes = 1}, "lethe: layers = 65537: ");
  begins({.layers = 1, .token_bytes = 0}, "lethe: token_bytes = 0: ");
  begins({.layers = 32, .token_bytes = 1 << 27}, "lethe: token_bytes = 134217728: ");
  begins({.layers = 1, .token_bytes = 1, .block_tokens = 0}, "lethe: block_tokens = 0: ");
  begins({.layers = 1, .token_bytes = 1, .block_tokens = 65537}, "lethe: block_tokens = 65537: ");
  begins({.layers = 1, .token_bytes = 1, .fragment_bytes = 9, .copy_bytes = 8},
         "lethe: copy_bytes = 8: ");
}
