// What the host knows of lengths, beside a device that decides them and tells late.
#include "lethe/gpu/host_lengths.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "catch.hpp"
#include "lethe/gpu/length_classes.hpp"
#include "lethe/gpu/read_back.hpp"
#include "naive/random.hpp"
#include "simulated_cuda.hpp"

namespace {

using lethe::gpu::HostLengths;
using lethe::gpu::LengthClasses;
using naive::Random;
using naive::SimulatedCalls;
using naive::SimulatedCuda;
using Numbers = std::vector<std::uint32_t>;
using Range = std::span<const std::uint32_t>;
using ReadBack = lethe::gpu::ReadBack<SimulatedCalls>;

constexpr std::size_t layers = 3, slots = 5;

/// A device's true counts, changed in the order of what is enqueued on its stream, and the host's.
struct Engine {
  explicit Engine(std::uint64_t seed) : random(seed), cuda(seed) {
    REQUIRE(calls.create_stream(stream) == 0);
  }
  void each_layer(std::size_t slot, std::int64_t tokens) {
    for (std::size_t layer = 0; layer < layers; ++layer) {
      auto& count = counts[layer * slots + slot];
      count = static_cast<std::uint32_t>(count + tokens);
    }
  }
  /// Work of the device is done in order, so a count can be changed when it is enqueued.
  void step() {
    const std::size_t slot = random.below(slots);
    const auto tokens = static_cast<std::uint32_t>(random.between(1, 9));
    switch (random.below(6)) {
      case 0:
        for (std::size_t layer = 0; layer < layers; ++layer) counts[layer * slots + slot] = tokens;
        lengths.open(slot, tokens);
        break;
      case 1:
        each_layer(slot, 9);
        lengths.append(slot, 9);
        each_layer(slot, -std::int64_t{tokens});
        lengths.drop(slot, tokens);
        break;
      case 2:
        prune();
        break;
      default:
        each_layer(slot, tokens);
        lengths.append(slot, tokens);
    }
    if (const auto read = read_back.poll()) lengths.end_round(*read);
  }
  /// Layers are shortened unequally; the outcome is read as it is then.
  void prune() {
    if (lengths.round_under_way()) return;
    for (std::uint32_t& count : counts) {
      if (random.chance(60)) count = static_cast<std::uint32_t>(random.below(count + 1));
    }
    outcomes.push_back(counts);
    lengths.begin_round();
    const Range ranges[] = {Range(outcomes.back()).first(4), {}, Range(outcomes.back()).subspan(4)};
    REQUIRE(read_back.begin(ranges, stream).ok());
  }

  Random random;
  SimulatedCuda cuda;
  SimulatedCalls calls{&cuda};
  std::size_t stream = 0;
  /// Device memory, which outlives what reads it.
  std::vector<Numbers> outcomes;
  ReadBack read_back{layers * slots, calls};
  HostLengths lengths{{.layers = layers, .slots = slots}};
  Numbers counts = Numbers(layers * slots, 0);
};

/// Lengths at random, some of a sequence's layers much shorter than others.
HostLengths random_lengths(Random& random, std::size_t depth, std::size_t width) {
  HostLengths lengths({.layers = depth, .slots = width});
  Numbers counts(depth * width);
  for (std::uint32_t& count : counts) {
    count = static_cast<std::uint32_t>(random.chance(10) ? 0 : random.below(5000));
  }
  lengths.begin_round();
  lengths.end_round(counts);
  return lengths;
}

std::vector<std::int32_t> random_batch(Random& random, std::size_t width) {
  std::vector<std::int32_t> batch;
  for (std::size_t slot = 0; slot < width; ++slot) {
    if (random.chance(70)) batch.push_back(static_cast<std::int32_t>(slot));
    if (random.chance(20)) batch.push_back(-1);
  }
  return batch;
}

}  // namespace

TEST_CASE("bounds are never below the device's counts, and equal them between rounds") {
  std::size_t rounds = 0, exact = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Engine engine(seed);
    engine.outcomes.reserve(400);
    for (int steps = 0; steps < 400; ++steps) {
      engine.step();
      const bool under_way = engine.lengths.round_under_way();
      exact += !under_way;
      for (std::size_t i = 0; i < engine.counts.size(); ++i) {
        const std::uint32_t bound = engine.lengths.bound(i / slots, i % slots);
        REQUIRE(bound >= engine.counts[i]);
        if (!under_way) REQUIRE(bound == engine.counts[i]);
      }
    }
    rounds += engine.outcomes.size();
  }
  CHECK(rounds > 400);
  CHECK(exact > 1000);
}

TEST_CASE("a round whose outcome is lost leaves the bounds as they were") {
  HostLengths lengths({.layers = 2, .slots = 1});
  lengths.open(0, 10);
  lengths.begin_round();
  lengths.append(0, 1);
  lengths.lose_round();
  CHECK_FALSE(lengths.round_under_way());
  CHECK(lengths.bound(1, 0) == 11);
}

TEST_CASE("a read-back is begun behind what it reads, and one at a time") {
  SimulatedCuda cuda;
  SimulatedCalls calls{&cuda};
  std::size_t stream = 0;
  REQUIRE(calls.create_stream(stream) == 0);
  Numbers device{1, 2, 3, 4, 5};
  ReadBack read_back(4, calls);
  const Range all[] = {device};
  CHECK(std::string(read_back.begin(all, stream).call) == "read_back");
  const Range some[] = {Range(device).first(1), Range(device).subspan(3)};
  REQUIRE(cuda.enqueue(stream, [&] { return device[0] = 9, true; }) == 0);
  REQUIRE(read_back.begin(some, stream).ok());
  CHECK(std::string(read_back.begin(some, stream).call) == "read_back");
  std::optional<Range> read;
  while (!read) read = read_back.poll();
  CHECK(Numbers(read->begin(), read->end()) == Numbers{9, 4, 5});
  CHECK_FALSE(read_back.poll());
  CHECK(read_back.begin(some, stream).ok());
}

TEST_CASE("a read-back that failed gives no numbers, and another can follow") {
  SimulatedCuda cuda;
  SimulatedCalls calls{&cuda};
  std::size_t stream = 0;
  REQUIRE(calls.create_stream(stream) == 0);
  const Numbers device{1, 2};
  const Range ranges[] = {Range(device).first(1), Range(device).subspan(1)};
  ReadBack read_back(2, calls);
  for (std::size_t failing = 1; failing <= 3; ++failing) {
    std::size_t count = 0;
    cuda.on_enqueue = [&] { return ++count == failing; };
    const std::string call = read_back.begin(ranges, stream).call;
    CHECK(call == (failing == 3 ? "cudaEventRecord" : "cudaMemcpyAsync"));
    for (int polls = 0; polls < 50; ++polls) CHECK_FALSE(read_back.poll());
    CHECK_FALSE(read_back.under_way());
  }
  cuda.on_enqueue = nullptr;
  CHECK(read_back.begin(ranges, stream).ok());
  cuda.creations = 0;
  ReadBack none(2, calls);
  CHECK(none.status().code == SimulatedCuda::out_of_memory);
  CHECK_FALSE(none.begin(ranges, stream).ok());
}

TEST_CASE("a read-back that goes waits for its copies, and gives back what it had") {
  SimulatedCuda cuda;
  SimulatedCalls calls{&cuda};
  std::size_t stream = 0;
  REQUIRE(calls.create_stream(stream) == 0);
  const Numbers device{1, 2};
  {
    ReadBack read_back(2, calls);
    const Range all[] = {device};
    REQUIRE(read_back.begin(all, stream).ok());
    cuda.refuse_percent = 30;
  }
  CHECK(cuda.idle());
  CHECK(cuda.memory_alive == 0);
  CHECK(cuda.events_alive == 0);
}

TEST_CASE("few classes whose lengths cover every layer, and none more than need be") {
  Random random(7);
  std::set<std::size_t> sizes;
  for (int turn = 0; turn < 300; ++turn) {
    const std::size_t depth = random.between(1, 12), width = random.between(1, 8);
    const std::size_t classes = random.between(1, 5), page = random.between(1, 20);
    const HostLengths lengths = random_lengths(random, depth, width);
    const auto batch = random_batch(random, width);
    LengthClasses groups({.layers = depth, .rows = 16, .classes = classes, .block_tokens = page});
    // What it held before is forgotten.
    groups.assign(random_lengths(random, depth, width), random_batch(random, width));
    groups.assign(lengths, batch);
    REQUIRE(groups.size() >= 1);
    REQUIRE(groups.size() <= classes);
    sizes.insert(groups.size());
    for (std::size_t row = 0; row < batch.size(); ++row) {
      Numbers most(groups.size(), 0);
      for (std::size_t layer = 0; layer < depth; ++layer) {
        REQUIRE(groups.class_of(layer) < groups.size());
        if (batch[row] < 0) continue;
        std::uint32_t& longest = most[groups.class_of(layer)];
        longest = std::max(longest, lengths.bound(layer, static_cast<std::size_t>(batch[row])));
      }
      for (std::size_t i = 0; i < groups.size(); ++i) {
        REQUIRE(groups.tokens(i, row) == (most[i] + page - 1) / page * page);
        REQUIRE(groups.pages(i, row) * page == groups.tokens(i, row));
      }
    }
  }
  CHECK(sizes.size() == 5);
}

TEST_CASE("layers of a quarter, a half and all of the longest are classes of their own") {
  HostLengths lengths({.layers = 4, .slots = 2});
  lengths.begin_round();
  lengths.end_round(Numbers{1000, 4000, 250, 1000, 500, 2000, 251, 1000});
  const std::vector<std::int32_t> batch{1, -1, 0};
  LengthClasses groups({.layers = 4, .rows = 3, .classes = 4, .block_tokens = 16});
  groups.assign(lengths, batch);
  REQUIRE(groups.size() == 3);
  CHECK(groups.class_of(0) == 2);
  CHECK(groups.class_of(1) == 0);
  CHECK(groups.class_of(2) == 1);
  CHECK(groups.class_of(3) == 1);
  CHECK(groups.tokens(0, 0) == 1008);
  CHECK(groups.tokens(0, 1) == 0);
  CHECK(groups.tokens(0, 2) == 256);
  CHECK(groups.tokens(2, 2) == 1008);
}

TEST_CASE("settings of lengths that cannot be are refused by name") {
  CHECK_THROWS_WITH(HostLengths({.layers = 0, .slots = 1}), Catch::Contains("layers = 0"));
  CHECK_THROWS_WITH(HostLengths({.layers = 1, .slots = 0}), Catch::Contains("slots = 0"));
  const auto refuses = [](auto change, const char* field) {
    lethe::gpu::LengthClassesConfig config{.layers = 1, .rows = 1};
    change(config);
    CHECK_THROWS_WITH(LengthClasses(config), Catch::Contains(field));
  };
  refuses([](auto& c) { c.layers = 0; }, "layers = 0");
  refuses([](auto& c) { c.rows = 0; }, "rows = 0");
  refuses([](auto& c) { c.classes = 0; }, "classes = 0");
  refuses([](auto& c) { c.block_tokens = 0; }, "block_tokens = 0");
}
