#include <algorithm>
#include <cmath>
#include <random>

#include "catch.hpp"
#include "cost_fit.hpp"
#include "engine_loop.hpp"
#include "error.hpp"
#include "layered_scheduler.hpp"
#include "link.hpp"
#include "machine.hpp"
#include "metrics.hpp"
#include "policy.hpp"
#include "random_work.hpp"

namespace {

using lethe::layerkv::Tier;
using serving::LayeredSettings;
using serving::Profile;
using serving::RunResults;
using serving::StepItem;
using serving::Trace;
using serving::test::blocks_of;
using serving::test::machine;
using serving::test::random_settings;
using serving::test::random_trace;

LayeredSettings layered(const Profile& profile, const serving::EngineSettings& engine) {
  LayeredSettings settings;
  settings.engine = engine;
  settings.shape = serving::cache_shape(profile, engine.block_tokens, 0);
  settings.costs = serving::fit_costs(profile).costs;
  settings.device_blocks = profile.device_blocks * profile.model.layers;
  settings.host_blocks = 8 * settings.device_blocks;
  settings.longest = 400;
  return settings;
}

/// A scheduler that looks at its tables now and then.
class Watched : public serving::LayeredScheduler {
 public:
  Watched(const LayeredSettings& settings, RunResults& results)
      : LayeredScheduler(settings, results), bounds_(settings.bounds) {}

  void schedule(double now, std::vector<StepItem>& items) {
    LayeredScheduler::schedule(now, items);
    if (++calls_ % 40 != 0) return;
    tables().check();
    for (lethe::layerkv::RequestId id = 0; id < tables().config().requests; ++id)
      for (std::size_t layer = 0; layer < bounds_.size(); ++layer)
        if (tables().is_open(id)) REQUIRE(tables().tokens(id, layer) <= bounds_[layer]);
  }

 private:
  std::vector<std::uint32_t> bounds_;
  std::size_t calls_ = 0;
};

/// Serves the trace; nothing may be lost on the way or left at the end.
RunResults run_watched(const Trace& trace, const Profile& profile,
                       const LayeredSettings& settings) {
  RunResults results;
  results.requests.resize(trace.requests.size());
  Watched scheduler(settings, results);
  serving::EngineLoop(trace, profile.times, settings.engine, scheduler, results).run({});
  std::vector<StepItem> none;
  scheduler.schedule(1e18, none);
  scheduler.tables().check();
  CHECK(none.empty());
  CHECK(scheduler.tables().free_blocks(Tier::device) == settings.device_blocks);
  CHECK(scheduler.tables().free_blocks(Tier::host) == scheduler.tables().config().host_blocks);
  return results;
}

}  // namespace

TEST_CASE("where memory is ample, layers make no difference") {
  const auto seed = GENERATE(range(1, 11));
  const bool offloads = GENERATE(false, true);
  INFO("seed " << seed << ", offloads " << offloads);
  std::mt19937_64 random(static_cast<std::uint64_t>(seed));
  const auto engine = random_settings(random);
  const Trace trace = random_trace(random, 60, 100);
  const Profile profile = machine(4000);
  LayeredSettings settings = layered(profile, engine);
  settings.offloads = offloads;
  settings.minds_slack = false;
  const RunResults whole = serving::serve(trace, profile, engine);
  const RunResults by_layer = serving::serve_layered(trace, profile, settings);
  for (std::size_t i = 0; i < trace.requests.size(); ++i) {
    INFO("request " << i);
    REQUIRE(by_layer.requests[i].scheduled == whole.requests[i].scheduled);
    REQUIRE(by_layer.requests[i].first == whole.requests[i].first);
    REQUIRE(by_layer.requests[i].end == whole.requests[i].end);
  }
  CHECK(by_layer.link_bytes == 0);
}

TEST_CASE("where memory is short, every request ends and every block comes back") {
  const auto seed = GENERATE(range(1, 61));
  INFO("seed " << seed);
  std::mt19937_64 random(static_cast<std::uint64_t>(seed));
  const auto engine = random_settings(random);
  const Trace trace = random_trace(random, 50, 150);
  std::size_t most = 0;
  for (const auto& request : trace.requests) most = std::max(most, blocks_of(request, engine));
  Profile profile = machine(most + random() % most);
  profile.link_bytes = std::pow(10, 5 + static_cast<double>(random() % 5));
  LayeredSettings settings = layered(profile, engine);
  settings.offloads = random() % 4 != 0;
  settings.minds_slack = random() % 2 == 0;
  settings.heeds_missed = random() % 2 == 0;
  settings.hides_fetches = random() % 2 == 0;
  settings.interleaves = random() % 2 == 0;
  settings.each_token = 0.01;
  settings.host_blocks = random() % 3 * settings.device_blocks;
  if (random() % 2 == 0) {
    for (std::size_t layer = 0; layer < 4; ++layer)
      settings.bounds.push_back(static_cast<std::uint32_t>(8 + random() % 100));
  }
  const RunResults results = run_watched(trace, profile, settings);
  for (std::size_t i = 0; i < trace.requests.size(); ++i) {
    const auto& served = results.requests[i];
    REQUIRE_FALSE(served.is_refused);
    REQUIRE(served.scheduled >= trace.requests[i].arrival);
    REQUIRE(served.first - served.scheduled >= 10e-6 * trace.requests[i].input);
    REQUIRE(served.end >= served.first);
  }
  const RunResults again = serving::serve_layered(trace, profile, settings);
  CHECK(again.makespan == results.makespan);
}

TEST_CASE("prompts that wait for memory get their first token sooner by layers") {
  // Little memory, much host memory, a fast link: what LayerKV is for.
  const Trace trace = serving::synthetic_trace(
      {.requests = 60, .rate = 20, .input_median = 200, .output_median = 100, .longest = 800});
  Profile profile = machine(80);
  profile.link_bytes = 1e9;
  const auto mean = [&](const char* policy) {
    serving::PolicySettings settings;
    settings.host_bytes = 1e7;
    const RunResults results = serving::serve_policy(policy, trace, profile, settings);
    const auto summary = serving::summarise(trace, results, {});
    CHECK(summary.served == 60);
    return summary.first_token.mean;
  };
  const double whole = mean("vllm");
  CHECK(mean("layerkv") < whole / 2);
  CHECK(mean("layerkv+lethe") < whole / 2);
}

TEST_CASE("a prompt takes its blocks in every layer, and no more") {
  const Profile profile = machine(64);
  const LayeredSettings settings = layered(profile, {.block_tokens = 16});
  RunResults results;
  results.requests.resize(1);
  serving::LayeredScheduler scheduler(settings, results);
  scheduler.arrive(0, {.arrival = 0, .input = 100, .output = 20});
  std::vector<StepItem> items;
  scheduler.schedule(0, items);
  REQUIRE(items.size() == 1);
  CHECK(items[0].tokens == 100);
  CHECK(settings.device_blocks - scheduler.tables().free_blocks(Tier::device) == 4 * 7);
}

TEST_CASE("of a prompt of which some layers leave, the choice says which") {
  Profile profile = machine(22);
  // 100 tokens take 2 ms, in which two layers of 12,800 bytes can leave and three cannot.
  profile.link_bytes = 1.4e7;
  LayeredSettings settings = layered(profile, {.block_tokens = 16});
  settings.interleaves = GENERATE(true, false);
  RunResults results;
  results.requests.resize(3);
  serving::LayeredScheduler scheduler(settings, results);
  for (std::uint32_t i = 0; i < 3; ++i)
    scheduler.arrive(i, {.arrival = 0, .input = 100, .output = 20});
  std::vector<StepItem> items;
  scheduler.schedule(0, items);
  REQUIRE(items.size() == 3);
  std::vector<std::size_t> away;
  for (std::size_t layer = 0; layer < 4; ++layer) {
    REQUIRE(scheduler.tables().tier(0, layer) == Tier::device);
    REQUIRE(scheduler.tables().tier(1, layer) == Tier::device);
    if (scheduler.tables().tier(2, layer) == Tier::host) away.push_back(layer);
  }
  CHECK(away ==
        (settings.interleaves ? std::vector<std::size_t>{0, 2} : std::vector<std::size_t>{0, 1}));
}

TEST_CASE("layers that stay are counted with what chunks fetch again, or as published") {
  Profile profile = machine(14);
  // Behind 96 tokens one layer of as many hides, behind the 4 that are left none.
  profile.link_bytes = 1e7;
  LayeredSettings settings = layered(profile, {.batch_tokens = 96, .block_tokens = 16});
  settings.minds_slack = false;
  settings.counts_fetches = GENERATE(true, false);
  RunResults results;
  results.requests.resize(2);
  serving::LayeredScheduler scheduler(settings, results);
  for (std::uint32_t i = 0; i < 2; ++i)
    scheduler.arrive(i, {.arrival = 0, .input = 100, .output = 20});
  std::vector<StepItem> items;
  for (const double now : {0.0, 0.002}) {
    scheduler.schedule(now, items);
    scheduler.finish(now + 0.002, items);
  }
  REQUIRE(scheduler.running() == 2);
  std::size_t away = 0;
  for (std::size_t layer = 0; layer < 4; ++layer)
    away += scheduler.tables().tier(1, layer) == Tier::host ? 1 : 0;
  CHECK(away == (settings.counts_fetches ? 0 : 1));
}

TEST_CASE("where no fetch hides, the first request decodes all the same") {
  struct Machine {
    std::size_t blocks;
    std::uint32_t input;
    bool is_ahead;
  };
  const auto [blocks, input, is_ahead] = GENERATE(Machine{10, 62, false}, Machine{19, 113, true});
  Profile profile = machine(blocks);
  profile.link_bytes = 1e4;
  const LayeredSettings settings = layered(
      profile, {.block_tokens = 16, .has_prefix_cache = false, .schedules_ahead = is_ahead});
  // Each fills the machine by itself, so that layers of all lie on the host before one ends.
  const auto output = static_cast<std::uint32_t>(16 * blocks - input);
  Trace trace;
  trace.requests.assign(4, {.arrival = 0, .input = input, .output = output});
  const RunResults results = run_watched(trace, profile, settings);
  for (const auto& served : results.requests) CHECK(served.end > served.first);
  CHECK(results.link_bytes > 0);
}

TEST_CASE("nobody is preempted while layers are on their way to the host") {
  const Trace trace = serving::synthetic_trace(
      {.requests = 60, .rate = 20, .input_median = 200, .output_median = 100, .longest = 800});
  Profile profile = machine(80);
  // Slow enough for copies to take many steps.
  profile.link_bytes = 2e6;
  LayeredSettings settings = layered(profile, {.block_tokens = 16});
  settings.longest = 2000;
  settings.minds_slack = false;
  const RunResults results = run_watched(trace, profile, settings);
  CHECK(results.link_bytes > 0);
  CHECK(results.preemptions == 0);
}

TEST_CASE("the forecast is told what an answer may come to, not what it will") {
  std::mt19937_64 random(21);
  const Profile profile = machine(40);
  Trace trace = random_trace(random, 80, 200);
  LayeredSettings settings = layered(profile, {.batch_tokens = 64, .block_tokens = 16});
  const RunResults knowing = run_watched(trace, profile, settings);
  settings.most_output = 5000;
  const RunResults capped = run_watched(trace, profile, settings);
  // What cannot be known to end soon is taken to grow, so that layers leave that could have stayed.
  CHECK(capped.link_bytes > knowing.link_bytes);
  for (auto& request : trace.requests) request.most_output = request.output;
  CHECK(run_watched(trace, profile, settings).link_bytes == knowing.link_bytes);
}

TEST_CASE("a pruned cache takes its bound, and attention reads no more") {
  const Profile profile = machine(64);
  LayeredSettings settings = layered(profile, {.block_tokens = 16});
  settings.bounds = {32, 64, 64, 32};
  RunResults results;
  const serving::LayeredScheduler scheduler(settings, results);
  CHECK(scheduler.context(0, 16) == 16);
  CHECK(scheduler.context(0, 1000) == 48);
  CHECK(scheduler.fits({.arrival = 0, .input = 100000, .output = 1}));
  settings.bounds.clear();
  CHECK_FALSE(serving::LayeredScheduler(settings, results)
                  .fits({.arrival = 0, .input = 100000, .output = 1}));
}

TEST_CASE("a step waits for its fetches as two buffers let it") {
  serving::StepCopies copies;
  const auto seconds = [&](std::vector<double> in, std::vector<double> out) {
    copies.in = std::move(in);
    copies.out = std::move(out);
    serving::LinkWay first{.free_at = 10};
    serving::LinkWay second{.free_at = 10};
    return serving::end_of_step(10, 1, copies, first, second) - 10;
  };
  const std::vector<double> none(4, 0.0);
  CHECK(seconds(none, none) == 4);
  // The fetch of a layer hides behind its neighbour, but for the first.
  CHECK(seconds({0, 1, 0, 1}, none) == 4);
  CHECK(seconds({1, 0, 1, 0}, none) == 5);
  // 0: fetched at 3, done at 4. 1: fetched at 6. 2: its buffer is free at 4, the link at 6.
  CHECK(seconds({3, 3, 3, 0}, none) == 11);
  // Layer 2 must wait for layer 0's copy, layer 3 for layer 1's.
  CHECK(seconds(none, {5, 0, 0, 0}) == 4);
  CHECK(seconds(none, {5, 5, 5, 5}) == 12);
}

TEST_CASE("costs fitted to a linear machine are those of the machine") {
  const auto fitted = serving::fit_costs(machine(64));
  CHECK(fitted.decode_error < 1e-6);
  CHECK_THAT(fitted.costs.prefill.per_token, WithinRel(10e-6, 1e-6));
  CHECK_THAT(fitted.costs.decode.base, WithinRel(1e-3, 1e-6));
  CHECK_THAT(fitted.costs.copy.per_byte, WithinRel(1e-9, 1e-12));
}

TEST_CASE("there is no policy of another name") {
  CHECK_THROWS_AS(serving::check_policy("fifo"), decoder::Error);
  serving::check_policy("layerkv-greedy");
}
