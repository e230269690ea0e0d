#include <algorithm>
#include <cmath>
#include <random>
#include <string>

#include "catch.hpp"
#include "cost_fit.hpp"
#include "engine.hpp"
#include "engine_loop.hpp"
#include "machine.hpp"
#include "memory.hpp"
#include "random_work.hpp"
#include "scheduler.hpp"

namespace {

using lethe::layerkv::Resume;
using lethe::layerkv::Tier;
using serving::EngineSettings;
using serving::PreemptionSettings;
using serving::Profile;
using serving::RunResults;
using serving::StepItem;
using serving::Trace;
using serving::test::blocks_of;
using serving::test::machine;
using serving::test::random_settings;
using serving::test::random_trace;

PreemptionSettings swapping(const Profile& profile, const EngineSettings& engine,
                            std::size_t host_blocks) {
  return {.resume = Resume::swap,
          .host_blocks = host_blocks,
          .shape = serving::cache_shape(profile, engine.block_tokens, 0),
          .costs = serving::fit_costs(profile).costs};
}

double copy_seconds(const PreemptionSettings& swap, std::size_t tokens) {
  return swap.costs.copy.seconds(lethe::layerkv::copy_of(swap.shape, swap.shape.layers, tokens));
}

/// A scheduler that looks at its tables at every step, and counts what it computes of each request.
class Watched : public serving::Scheduler {
 public:
  Watched(const EngineSettings& settings, serving::Memory& memory, RunResults& results,
          const PreemptionSettings& preemption)
      : Scheduler(settings, memory, results, preemption), computed(results.requests.size(), 0) {}

  void schedule(double now, std::vector<StepItem>& items) {
    Scheduler::schedule(now, items);
    tables().check();
    // First come, first served: also by who was away meanwhile.
    REQUIRE(std::is_sorted(items.begin(), items.end(), [&](const StepItem& a, const StepItem& b) {
      return live(a.slot).index < live(b.slot).index;
    }));
    for (const StepItem& item : items) {
      const serving::Live& request = live(item.slot);
      computed[request.index] += item.tokens;
      REQUIRE(tables().tier(request.id, 0) == Tier::device);
      REQUIRE_FALSE(tables().busy(request.id, 0));
      REQUIRE(tables().tokens(request.id, 0) >= item.context + item.tokens);
    }
  }

  std::vector<std::size_t> computed;
};

/// What is left when all have ended: every block.
void check_empty(const serving::Memory& memory) {
  memory.tables().check();
  CHECK(memory.available() == memory.size());
  CHECK(memory.tables().free_blocks(Tier::host) == memory.tables().config().host_blocks);
}

/// Little room for some requests, made up.
struct Crowd {
  explicit Crowd(int seed) : random(static_cast<std::uint64_t>(seed)) {
    profile.link_bytes = std::pow(10, 5 + static_cast<double>(random() % 5));
  }
  std::size_t room() {
    std::size_t most = 0;
    for (const auto& request : trace.requests) most = std::max(most, blocks_of(request, engine));
    return most + random() % most;
  }
  std::mt19937_64 random;
  EngineSettings engine = random_settings(random);
  Trace trace = random_trace(random, 50, 150);
  Profile profile = machine(room());
};

/// Two prompts of three blocks of 16; they fill the device, or leave one block of it.
struct Pair {
  explicit Pair(std::size_t blocks, double link_bytes = 1e9) : profile(machine(blocks)) {
    trace.requests.push_back({.arrival = 0, .input = 48, .output = 8});
    trace.requests.push_back({.arrival = 0, .input = 48, .output = 3});
    profile.link_bytes = link_bytes;
    swap = swapping(profile, engine, 100);
  }
  RunResults serve() const { return serving::serve(trace, profile, engine, swap); }

  EngineSettings engine{.has_prefix_cache = false, .schedules_ahead = false};
  Trace trace;
  Profile profile;
  PreemptionSettings swap;
};

void check_equal(const RunResults& one, const RunResults& two) {
  for (std::size_t i = 0; i < one.requests.size(); ++i) {
    INFO("request " << i);
    REQUIRE(one.requests[i].scheduled == two.requests[i].scheduled);
    REQUIRE(one.requests[i].first == two.requests[i].first);
    REQUIRE(one.requests[i].end == two.requests[i].end);
    REQUIRE(one.requests[i].preemptions == two.requests[i].preemptions);
  }
  CHECK(one.makespan == two.makespan);
  CHECK(one.steps == two.steps);
}

}  // namespace

TEST_CASE("a swapped request goes on where it was, after the copies that can be counted by hand") {
  const double link = GENERATE(1e9, 1e6, 1e4);
  INFO("link " << link);
  const Pair pair(7, link);
  const RunResults results = pair.serve();
  CHECK(results.preemptions == 1);
  CHECK(results.swaps == 1);
  const double copy = copy_seconds(pair.swap, 48);
  CHECK_THAT(copy, WithinRel(12 * 5.99e-6 + 4 * 48 * 128 / link, 1e-9));
  // Prefill of both: 1 ms + 96 x 10 us. Then the first alone, seven tokens behind 48 and more.
  const double first = 1.96e-3 + 7 * 1.01e-3 + 4e-9 * (49 + 50 + 51 + 52 + 53 + 54 + 55);
  CHECK_THAT(results.requests[0].end, WithinAbs(first, 1e-12));
  // The second leaves meanwhile, or for longer than that, comes back and decodes two.
  const double back = std::max(first, 1.96e-3 + copy) + copy;
  CHECK_THAT(results.requests[1].end, WithinAbs(back + 2 * 1.01e-3 + 4e-9 * (49 + 50), 1e-9));
  CHECK_THAT(results.link_seconds, WithinRel(2 * copy, 1e-12));
  CHECK(results.link_bytes == 2 * 4 * 48 * 128);
}

TEST_CASE("the blocks that one leaves are free when its copy has ended, not before") {
  const Pair pair(6);
  RunResults results;
  results.requests.resize(2);
  serving::Memory memory(pair.trace, pair.engine, 6, 100, 10);
  serving::Scheduler scheduler(pair.engine, memory, results, pair.swap);
  std::vector<StepItem> items;
  scheduler.arrive(0, pair.trace.requests[0]);
  scheduler.arrive(1, pair.trace.requests[1]);
  scheduler.schedule(0, items);
  REQUIRE(items.size() == 2);
  const double now = scheduler.end_of_step(0, 1, items);
  scheduler.finish(now, items);
  scheduler.schedule(now, items);
  CHECK(items.empty());
  CHECK(results.swaps == 1);
  CHECK(memory.available() == 0);
  CHECK(memory.tables().free_blocks(Tier::host) == 7);
  const double end = scheduler.next_event();
  CHECK(end == now + copy_seconds(pair.swap, 48));
  scheduler.schedule(std::nextafter(end, 0), items);
  CHECK(items.empty());
  CHECK(memory.available() == 0);
  scheduler.schedule(end, items);
  REQUIRE(items.size() == 1);
  CHECK(scheduler.live(items[0].slot).index == 0);
  CHECK(memory.available() == 2);
  memory.tables().check();
}

TEST_CASE("a copy begins when the step that writes to the blocks has ended") {
  Pair pair(6);
  RunResults results;
  results.requests.resize(2);
  serving::Memory memory(pair.trace, pair.engine, 6, 100, 10);
  serving::Scheduler scheduler(pair.engine, memory, results, pair.swap);
  std::vector<StepItem> items, next;
  scheduler.arrive(0, pair.trace.requests[0]);
  scheduler.arrive(1, pair.trace.requests[1]);
  scheduler.schedule(0, items);
  const double end = scheduler.end_of_step(0, 5, items);
  scheduler.schedule(0, next);
  CHECK(results.swaps == 1);
  CHECK(scheduler.next_event() == end + copy_seconds(pair.swap, 48));
}

TEST_CASE("where the host is ample, no token is computed twice and no block is lost") {
  const auto seed = GENERATE(range(1, 21));
  INFO("seed " << seed);
  const Crowd crowd(seed);
  RunResults results;
  results.requests.resize(crowd.trace.requests.size());
  serving::Memory memory(crowd.trace, crowd.engine, crowd.profile.device_blocks, 400, 4000);
  Watched scheduler(crowd.engine, memory, results, swapping(crowd.profile, crowd.engine, 4000));
  serving::EngineLoop(crowd.trace, crowd.profile.times, crowd.engine, scheduler, results).run({});
  check_empty(memory);
  for (std::size_t i = 0; i < crowd.trace.requests.size(); ++i) {
    const auto& request = crowd.trace.requests[i];
    REQUIRE(scheduler.computed[i] == request.input + request.output - 1);
    REQUIRE(results.requests[i].end >= results.requests[i].first);
  }
  CHECK(results.swaps <= results.preemptions);
  CHECK((results.link_seconds > 0) == (results.swaps > 0));
}

TEST_CASE("a host with little room, a prefix cache and a choice by cost lose nothing either") {
  const auto seed = GENERATE(range(1, 21));
  INFO("seed " << seed);
  Crowd crowd(seed);
  crowd.engine.has_prefix_cache = crowd.random() % 2 == 0;
  const std::size_t host_blocks = crowd.random() % 100;
  PreemptionSettings settings = swapping(crowd.profile, crowd.engine, host_blocks);
  if (crowd.random() % 2 == 0) settings.resume = std::nullopt;
  RunResults results;
  results.requests.resize(crowd.trace.requests.size());
  serving::Memory memory(crowd.trace, crowd.engine, crowd.profile.device_blocks, 400, host_blocks);
  Watched scheduler(crowd.engine, memory, results, settings);
  serving::EngineLoop(crowd.trace, crowd.profile.times, crowd.engine, scheduler, results).run({});
  check_empty(memory);
  for (std::size_t i = 0; i < crowd.trace.requests.size(); ++i)
    REQUIRE(results.requests[i].end >= results.requests[i].first);
}

TEST_CASE("where the host lacks the blocks, a run is that of recomputation, bit for bit") {
  const auto seed = GENERATE(range(1, 11));
  INFO("seed " << seed);
  const Crowd crowd(seed);
  const RunResults recomputed = serving::serve(crowd.trace, crowd.profile, crowd.engine);
  const RunResults results = serving::serve(crowd.trace, crowd.profile, crowd.engine,
                                            swapping(crowd.profile, crowd.engine, 0));
  CHECK(results.swaps == 0);
  CHECK(results.link_bytes == 0);
  check_equal(results, recomputed);
  Pair pair(7);
  pair.swap.host_blocks = 2;
  const RunResults small = pair.serve();
  CHECK(small.preemptions == 1);
  CHECK(small.swaps == 0);
  check_equal(small, serving::serve(pair.trace, pair.profile, pair.engine));
  pair.swap.host_blocks = 3;
  CHECK(pair.serve().swaps == 1);
}

TEST_CASE("the cheaper way is a copy over a fast link, and computing again over a slow one") {
  for (const double link : {1e9, 1e4}) {
    INFO("link " << link);
    Pair pair(7, link);
    pair.swap.resume = std::nullopt;
    const RunResults results = pair.serve();
    CHECK(results.preemptions == 1);
    CHECK(results.swaps == (link > 1e6 ? 1 : 0));
    if (results.swaps == 0)
      check_equal(results, serving::serve(pair.trace, pair.profile, pair.engine));
  }
}
