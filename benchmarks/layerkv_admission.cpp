// layerkv/admission.hpp: one decision with 256 decoding and 10,000 waiting requests; the target is
// 20 us. It grows with those let in, never with those that wait.
#include "lethe/layerkv/admission.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "ratio.hpp"

namespace {

namespace layerkv = lethe::layerkv;

constexpr layerkv::CacheShape llama{.layers = 32, .token_bytes = 4096};

struct Queues {
  explicit Queues(std::size_t seed) {
    bench::Draw draw(seed);
    for (auto& request : decoding) {
      const std::size_t generated = 1 + static_cast<std::size_t>(draw() * 800);
      const double pace = 0.03 + 0.02 * static_cast<double>(draw());
      request = {generated, pace * static_cast<double>(generated), pace,
                 static_cast<std::size_t>(draw() * 300)};
    }
    for (auto& request : waiting) {
      request = {.tokens = 1 + static_cast<std::size_t>(draw() * 4000)};
    }
  }

  std::vector<layerkv::DecodingRequest> decoding = std::vector<layerkv::DecodingRequest>(256);
  std::vector<layerkv::WaitingRequest> waiting = std::vector<layerkv::WaitingRequest>(10000);
};

/// Floor: the least slack alone, as the formula stands. range(0): requests let in.
template <class Rule>
void decide(benchmark::State& state, const Rule& rule) {
  const std::vector<Queues> turns{Queues(1), Queues(2), Queues(3), Queues(4)};
  const auto let_in = static_cast<std::size_t>(state.range(0));
  std::vector<layerkv::AdmittedRequest> admitted(256);
  std::size_t turn = 0;
  std::size_t floor_turn = 0;
  bench::compare(
      state,
      [&] {
        double least = layerkv::never;
        for (const auto& request : turns[floor_turn++ % turns.size()].decoding) {
          least = std::min(least, layerkv::slack(request, 1e6));
        }
        benchmark::DoNotOptimize(least);
      },
      [&] {
        const Queues& queues = turns[turn++ % turns.size()];
        const layerkv::Situation situation{.decoding = queues.decoding,
                                           .costs = {.prefill = {2.2e-3, 1.6e-5, 1.2e-9}},
                                           .free = {10000000, 10000000},
                                           .all = {10000000, 10000000},
                                           .requests = let_in};
        const auto decision = rule.decide(situation, queues.waiting, admitted);
        if (decision.admitted != let_in) state.SkipWithError("the limit was another");
        benchmark::DoNotOptimize(admitted.data());
      });
}

void admission_layerwise(benchmark::State& state) {
  decide(state, layerkv::LayerwiseAdmission({.shape = llama, .tpot = 1e3}));
}
BENCHMARK(admission_layerwise)->Arg(0)->Arg(8)->Arg(256)->Iterations(401)->UseManualTime();

void admission_layerwise_chunked(benchmark::State& state) {
  decide(state, layerkv::LayerwiseAdmission({.shape = llama, .tpot = 1e3, .chunk = 512}));
}
BENCHMARK(admission_layerwise_chunked)->Arg(8)->Arg(256)->Iterations(401)->UseManualTime();

void admission_whole_request(benchmark::State& state) {
  decide(state, layerkv::WholeRequestAdmission({.shape = llama}));
}
BENCHMARK(admission_whole_request)->Arg(8)->Arg(256)->Iterations(401)->UseManualTime();

}  // namespace
