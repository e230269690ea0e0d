#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "catch.hpp"
#include "cost_fit.hpp"
#include "layered_scheduler.hpp"
#include "machine.hpp"
#include "memory.hpp"
#include "random_work.hpp"
#include "scheduler.hpp"

namespace {

using lethe::layerkv::Tier;
using serving::EngineSettings;
using serving::Profile;
using serving::RunResults;
using serving::StepItem;
using serving::Trace;

/// A machine's clock: now and then it leaps ahead for years, stands still or goes back.
class JumpingClock {
 public:
  explicit JumpingClock(std::uint64_t seed) : random_(seed) {}
  double next() {
    const std::uint64_t kind = random_() % 16;
    if (kind == 0) return now_ += 1e9;
    if (kind == 1) return now_ -= std::min(std::abs(now_), 1e6);
    return kind == 2 ? now_ : now_ += 1e-3;
  }

 private:
  std::mt19937_64 random_;
  double now_ = 0;
};

/// Steps until all requests have ended, whatever the clock shows; false: they do not end.
template <class Policy>
bool serve_all(const Trace& trace, Policy& policy, std::uint64_t seed) {
  JumpingClock clock(seed);
  for (std::uint32_t i = 0; i < trace.requests.size(); ++i) policy.arrive(i, trace.requests[i]);
  std::vector<StepItem> items;
  for (int step = 0; step < 100000 && policy.finished() < trace.requests.size(); ++step) {
    policy.schedule(clock.next(), items);
    if (step % 64 == 0) policy.tables().check();
    if (items.empty()) continue;
    static_cast<void>(policy.end_of_step(clock.next(), 1e-3, items));
    policy.finish(clock.next(), items);
  }
  return policy.finished() == trace.requests.size();
}

/// Copies that a leap back left under way end in time; then every block is free.
template <class Policy>
void check_empty(Policy& policy) {
  policy.end_moves(1e300);
  const auto& tables = policy.tables();
  tables.check();
  CHECK(tables.open_requests() == 0);
  CHECK(tables.free_blocks(Tier::device) == tables.config().device_blocks);
  CHECK(tables.free_blocks(Tier::host) == tables.config().host_blocks);
}

/// Requests on little room.
struct Crowd {
  explicit Crowd(std::uint64_t seed) : random(seed) {}
  std::mt19937_64 random;
  EngineSettings engine{.batch_tokens = 100, .block_tokens = 4, .has_prefix_cache = false};
  Trace trace = serving::test::random_trace(random, 30, 100);
  Profile profile = serving::test::machine(50);
};

}  // namespace

TEST_CASE("a clock that jumps loses no request and no block, whoever is swapped") {
  const auto seed = GENERATE(range(1, 11));
  INFO("seed " << seed);
  const Crowd crowd(static_cast<std::uint64_t>(seed));
  RunResults results;
  results.requests.resize(crowd.trace.requests.size());
  serving::Memory memory(crowd.trace, crowd.engine, crowd.profile.device_blocks, 200, 100);
  serving::Scheduler scheduler(crowd.engine, memory, results,
                               {.resume = lethe::layerkv::Resume::swap,
                                .host_blocks = 100,
                                .shape = serving::cache_shape(crowd.profile, 4, 0),
                                .costs = serving::fit_costs(crowd.profile).costs});
  CHECK(serve_all(crowd.trace, scheduler, static_cast<std::uint64_t>(seed)));
  CHECK(results.swaps > 0);
  check_empty(scheduler);
}

TEST_CASE("a clock that jumps loses no request and no block, whatever layers move") {
  const auto seed = GENERATE(range(1, 11));
  const bool minds_slack = GENERATE(false, true);
  INFO("seed " << seed << ", slack " << minds_slack);
  const Crowd crowd(static_cast<std::uint64_t>(seed));
  RunResults results;
  results.requests.resize(crowd.trace.requests.size());
  serving::LayeredSettings settings;
  settings.engine = crowd.engine;
  settings.minds_slack = minds_slack;
  settings.shape = serving::cache_shape(crowd.profile, 4, 0);
  settings.costs = serving::fit_costs(crowd.profile).costs;
  settings.device_blocks = 4 * crowd.profile.device_blocks;
  settings.host_blocks = 4 * settings.device_blocks;
  settings.longest = 200;
  serving::LayeredScheduler scheduler(settings, results);
  CHECK(serve_all(crowd.trace, scheduler, static_cast<std::uint64_t>(seed)));
  CHECK(results.link_bytes > 0);
  check_empty(scheduler);
}
