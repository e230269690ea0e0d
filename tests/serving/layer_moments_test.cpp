#include <cmath>
#include <numeric>
#include <random>

#include "catch.hpp"
#include "cost_fit.hpp"
#include "engine.hpp"
#include "engine_loop.hpp"
#include "layered_scheduler.hpp"
#include "machine.hpp"
#include "page_layers.hpp"
#include "random_work.hpp"
#include "timeline.hpp"

namespace {

using serving::LayerMoment;
using serving::RunResults;

double sum(const std::vector<std::uint32_t>& blocks) {
  return std::accumulate(blocks.begin(), blocks.end(), 0.0);
}

serving::LayeredSettings settings_of(const serving::Profile& profile, bool offloads) {
  serving::LayeredSettings settings;
  settings.engine = {.batch_tokens = 64, .block_tokens = 16};
  settings.offloads = offloads;
  settings.shape = serving::cache_shape(profile, 16, 0);
  settings.costs = serving::fit_costs(profile).costs;
  settings.device_blocks = profile.device_blocks * profile.model.layers;
  settings.host_blocks = 4 * settings.device_blocks;
  settings.longest = 240;
  return settings;
}

RunResults run(bool offloads) {
  std::mt19937_64 random(11);
  const auto profile = serving::test::machine(40);
  return serving::serve_layered(serving::test::random_trace(random, 60, 200), profile,
                                settings_of(profile, offloads));
}

serving::ComparedRun compared(const char* policy, std::vector<LayerMoment> moments) {
  serving::ComparedRun run;
  run.policy = policy;
  run.results.layer_moments = std::move(moments);
  return run;
}

}  // namespace

TEST_CASE("moments of layers add up to the blocks in use") {
  const RunResults results = run(false);
  REQUIRE(results.layer_moments.size() > 100);
  std::size_t seen = 0;
  for (const LayerMoment& moment : results.layer_moments)
    for (const serving::Moment& whole : results.moments) {
      if (whole.time != moment.time) continue;
      ++seen;
      REQUIRE(sum(moment.device) == std::round(whole.device_share * 40 * 4));
      REQUIRE(sum(moment.host) == 0);
      REQUIRE(moment.device == std::vector<std::uint32_t>(4, moment.device[0]));
    }
  CHECK(seen == results.layer_moments.size());
}

TEST_CASE("moments of layers say which lie on the host") {
  const RunResults results = run(true);
  double host = 0;
  for (const LayerMoment& moment : results.layer_moments) {
    host = std::max(host, sum(moment.host));
    REQUIRE(sum(moment.device) <= 40 * 4);
    REQUIRE(sum(moment.host) <= 4 * 40 * 4);
  }
  CHECK(host > 40);
  CHECK(sum(results.layer_moments.back().host) == 0);
}

TEST_CASE("looking at layers changes nothing of a run") {
  std::mt19937_64 random(5);
  const auto profile = serving::test::machine(40);
  const auto settings = settings_of(profile, true);
  const auto trace = serving::test::random_trace(random, 80, 200);
  const RunResults seen = serving::serve_layered(trace, profile, settings);
  RunResults plain;
  plain.requests.resize(trace.requests.size());
  serving::LayeredScheduler scheduler(settings, plain);
  serving::EngineLoop(trace, profile.times, settings.engine, scheduler, plain).run({});
  CHECK(seen.steps == plain.steps);
  CHECK(seen.makespan == plain.makespan);
  CHECK(seen.link_bytes == plain.link_bytes);
}

TEST_CASE("moments stay few and about equally far apart, however long the run") {
  serving::Moments<LayerMoment, 64> moments;
  for (int i = 0; i < 100000; ++i) moments.add({.time = i * 0.25, .device = {}, .host = {}});
  const auto kept = moments.take();
  REQUIRE(kept.size() < 64);
  REQUIRE(kept.size() >= 31);
  CHECK(kept.front().time == 0);
  CHECK(kept.back().time > 24000);
  for (std::size_t i = 1; i < kept.size(); ++i) {
    const double gap = kept[i].time - kept[i - 1].time;
    CHECK(gap > 0.4 * 25000 / 64);
    CHECK(gap < 4 * 25000.0 / 64);
  }
}

TEST_CASE("maps show runs whose layers differ, and name the others") {
  const auto alike = compared("whole", {{0, {3, 3}, {0, 0}}, {9, {4, 4}, {0, 0}}});
  const auto apart = compared("split", {{0, {3, 3}, {0, 0}}, {4, {3, 1}, {0, 2}}, {9, {3, 3}, {}}});
  const auto none = compared("one table", {});
  const std::vector<const serving::ComparedRun*> runs{&alike, &apart, &none};
  const std::string html = serving::layer_maps(runs, 0);
  CHECK(html.find("No map of whole, one table:") != std::string::npos);
  CHECK(html.find("On the device, layer by layer: split") != std::string::npos);
  CHECK(html.find("On the host, layer by layer: split") != std::string::npos);
  CHECK(html.find("layer by layer: whole") == std::string::npos);
  CHECK(serving::layer_maps(std::span(runs).first(0), 0).empty());
}
