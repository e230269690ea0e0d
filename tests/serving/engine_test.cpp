#include "engine.hpp"

#include <algorithm>
#include <random>
#include <string>

#include "catch.hpp"
#include "machine.hpp"
#include "memory.hpp"
#include "metrics.hpp"
#include "naive_engine.hpp"
#include "random_work.hpp"

namespace {

using serving::EngineSettings;
using serving::Profile;
using serving::RunResults;
using serving::Served;
using serving::Trace;
using serving::test::blocks_of;
using serving::test::machine;
using serving::test::random_settings;
using serving::test::random_trace;

/// Every request is served in order: arrival, admission, first token after its prefill alone, end.
void check_times(const Trace& trace, const Profile& profile, const EngineSettings& settings,
                 const RunResults& results) {
  const double prefill_token = 10e-6;
  for (std::size_t i = 0; i < trace.requests.size(); ++i) {
    const Served& served = results.requests[i];
    const serving::Request& request = trace.requests[i];
    CHECK(served.is_refused == (blocks_of(request, settings) > profile.device_blocks));
    if (served.is_refused) continue;
    CHECK(served.scheduled >= request.arrival);
    if (!settings.has_prefix_cache)
      CHECK(served.first - served.scheduled >= prefill_token * request.input);
    CHECK(served.end - served.first >= 1e-3 * (request.output - 1) - 1e-9);
    CHECK(served.end <= results.makespan + trace.requests.front().arrival + 1e-9);
  }
}

}  // namespace

TEST_CASE("one request takes the steps that can be counted by hand") {
  Trace trace;
  trace.requests.push_back({.arrival = 2, .input = 100, .output = 3});
  const Profile profile = machine(64);
  const RunResults results = serving::serve(trace, profile, {});
  // Prefill: 1 ms + 100 x 10 us. Decoding: 1 ms + 10 us + 4 layers x 101 (then 102) ns.
  CHECK_THAT(results.requests[0].first, WithinAbs(2 + 2e-3, 1e-12));
  CHECK_THAT(results.requests[0].end, WithinAbs(2 + 2e-3 + 2 * 1.01e-3 + 4 * 203e-9, 1e-12));
  CHECK(results.steps == 3);
  CHECK_THAT(results.makespan, WithinAbs(results.requests[0].end - 2, 1e-12));
}

TEST_CASE("a prompt longer than a step comes in parts, the last one gives the token") {
  Trace trace;
  trace.requests.push_back({.arrival = 0, .input = 250, .output = 1});
  const RunResults results = serving::serve(trace, machine(64), {.batch_tokens = 100});
  CHECK(results.steps == 3);
  CHECK_THAT(results.requests[0].first, WithinAbs(3 * 1e-3 + 250 * 10e-6, 1e-12));
  CHECK(results.requests[0].first == results.requests[0].end);
}

TEST_CASE("times are those of a model that counts everything anew") {
  const auto seed = GENERATE(range(1, 41));
  INFO("seed " << seed);
  std::mt19937_64 random(static_cast<std::uint64_t>(seed));
  const EngineSettings settings = random_settings(random);
  const std::size_t longest = 4 + random() % 200;
  const Trace trace = random_trace(random, 60, longest);
  std::size_t most = 0;
  for (const auto& request : trace.requests) most = std::max(most, blocks_of(request, settings));
  const Profile profile = machine(most + random() % (2 * most));
  const RunResults results = serving::serve(trace, profile, settings);
  const auto expected = serving::test::NaiveEngine(trace, profile, settings).run();
  std::size_t preemptions = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    INFO("request " << i);
    REQUIRE(results.requests[i].scheduled == expected[i].scheduled);
    REQUIRE(results.requests[i].first == expected[i].first);
    REQUIRE(results.requests[i].end == expected[i].end);
    REQUIRE(results.requests[i].preemptions == expected[i].preemptions);
    preemptions += expected[i].preemptions;
  }
  CHECK(results.preemptions == preemptions);
  check_times(trace, profile, settings, results);
}

TEST_CASE("with a prefix cache every request still ends, and a run repeats itself") {
  const auto seed = GENERATE(range(1, 21));
  INFO("seed " << seed);
  std::mt19937_64 random(static_cast<std::uint64_t>(seed));
  EngineSettings settings = random_settings(random);
  settings.has_prefix_cache = true;
  Trace trace = random_trace(random, 80, 120);
  trace.hash_tokens = settings.block_tokens;
  for (auto& request : trace.requests) {
    request.first_hash = static_cast<std::uint32_t>(trace.hashes.size());
    request.hashes = request.input / static_cast<std::uint32_t>(settings.block_tokens);
    const std::uint64_t talk = random() % 4;
    for (std::uint32_t i = 0; i < request.hashes; ++i) trace.hashes.push_back(talk * 1000 + i);
  }
  const Profile profile = machine(30 + random() % 200);
  const RunResults results = serving::serve(trace, profile, settings);
  check_times(trace, profile, settings, results);
  const RunResults again = serving::serve(trace, profile, settings);
  for (std::size_t i = 0; i < trace.requests.size(); ++i)
    CHECK(again.requests[i].end == results.requests[i].end);
  CHECK(again.reused_tokens == results.reused_tokens);
}

TEST_CASE("a prompt seen before costs what its last block does") {
  Trace trace;
  trace.hash_tokens = 16;
  for (std::uint64_t i = 0; i < 6; ++i) trace.hashes.push_back(i);
  trace.requests.push_back({.arrival = 0, .input = 96, .output = 1, .hashes = 6});
  trace.requests.push_back({.arrival = 1, .input = 96, .output = 1, .hashes = 6});
  const RunResults results = serving::serve(trace, machine(64), {});
  CHECK(results.reused_tokens == 80);
  CHECK_THAT(results.requests[1].first - 1, WithinAbs(1e-3 + 16 * 10e-6, 1e-12));
  const RunResults without = serving::serve(trace, machine(64), {.has_prefix_cache = false});
  CHECK_THAT(without.requests[1].first - 1, WithinAbs(1e-3 + 96 * 10e-6, 1e-12));
}

TEST_CASE("no block is lost, whatever requests come, grow, stop and end") {
  std::mt19937_64 random(7);
  const Trace trace = random_trace(random, 200, 100);
  serving::Memory memory(trace, {.sequences = 8, .block_tokens = 4, .has_prefix_cache = true}, 120,
                         200);
  std::vector<serving::Live> lives;
  for (std::uint32_t round = 0; round < 20000; ++round) {
    if (lives.size() < 8 && random() % 3 == 0) {
      const auto index = static_cast<std::uint32_t>(random() % trace.requests.size());
      const auto& request = trace.requests[index];
      serving::Live live{.index = index, .input = request.input, .known = request.input};
      const bool runs_already =
          std::any_of(lives.begin(), lives.end(), [&](const auto& l) { return l.index == index; });
      if (!runs_already && memory.admit(live, 1 + random() % 50, random() % 2 == 0))
        lives.push_back(live);
    } else if (!lives.empty()) {
      auto& live = lives[random() % lives.size()];
      const auto more = static_cast<std::uint32_t>(random() % 12);
      if (live.computed + more <= 200 && memory.grow(live, live.computed + more)) {
        live.computed += more;
        live.known = std::max(live.known, live.computed);
        memory.publish(live);
      } else {
        memory.release(live);
        std::swap(live, lives.back());
        lives.pop_back();
      }
    }
    if (round % 500 == 0) memory.tables().check();
  }
  for (auto& live : lives) memory.release(live);
  memory.tables().check();
  CHECK(memory.available() == memory.size());
}

TEST_CASE("a request larger than the machine is refused, the others are served") {
  Trace trace;
  trace.requests.push_back({.arrival = 0, .input = 4000, .output = 1});
  trace.requests.push_back({.arrival = 0, .input = 40, .output = 1});
  const RunResults results = serving::serve(trace, machine(64), {});
  CHECK(results.requests[0].is_refused);
  CHECK(results.requests[1].end > 0);
  const auto summary = serving::summarise(trace, results, {});
  CHECK(summary.refused == 1);
  CHECK(summary.attained == 0.5);
}

TEST_CASE("spreads and objectives are those of the definitions") {
  const auto spread = serving::spread({4, 1, 3, 2});
  CHECK(spread.mean == 2.5);
  CHECK(spread.median == 2.5);
  CHECK_THAT(spread.p95, WithinAbs(3.85, 1e-12));
  CHECK_THAT(spread.p99, WithinAbs(3.97, 1e-12));
  CHECK(serving::spread({}).mean == 0);
  Trace trace;
  RunResults results;
  for (int i = 0; i < 4; ++i) trace.requests.push_back({.arrival = 0, .input = 1, .output = 11});
  results.requests = {{0, 3, 5}, {0, 3.1, 4}, {0, 1, 3.1}, {0, 1, 2}};
  results.makespan = 10;
  const auto summary = serving::summarise(trace, results, {3, 0.2});
  CHECK(summary.attained == 0.5);
  CHECK(summary.first_token_attained == 0.75);
  CHECK(summary.each_token_attained == 0.75);
  CHECK_THAT(summary.goodput, WithinAbs(0.2, 1e-12));
  CHECK_THAT(summary.token_rate, WithinAbs(4.4, 1e-12));
}
