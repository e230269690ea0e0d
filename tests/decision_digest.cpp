// Prints a digest of what layerkv decides from pseudo-random numbers. Compiled with several
// compilers and flags, it must always print the same: ranks may run on different machines.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <vector>

#include "digest.hpp"
#include "lethe/layerkv/admission.hpp"
#include "lethe/layerkv/placement.hpp"
#include "lethe/layerkv/preemption.hpp"

namespace {

namespace layerkv = lethe::layerkv;

void fold_time(double seconds) { fold(std::bit_cast<std::uint64_t>(seconds)); }

std::size_t below(Source& source, std::size_t end) {
  return static_cast<std::size_t>(source.next() % end);
}

/// Between 2^exponent and 2^(exponent + 3), of any mantissa, put together from bits.
double time_near(Source& source, int exponent) {
  const std::uint64_t word = source.next();
  const auto biased = static_cast<std::uint64_t>(1023 + exponent) + (word >> 60) % 3;
  return std::bit_cast<double>(biased << 52 | (word & 0xFFFFFFFFFFFFFu));
}

layerkv::Costs draw_costs(Source& source) {
  return {.prefill = {time_near(source, -9), time_near(source, -16), time_near(source, -30)},
          .decode = {time_near(source, -8), time_near(source, -16), time_near(source, -26)},
          .copy = {time_near(source, -22), time_near(source, -19), time_near(source, -36)}};
}

void admit(Source& source, const layerkv::Costs& costs) {
  const layerkv::CacheShape shape{.layers = 1 + below(source, 80), .token_bytes = 4096};
  const layerkv::LayerwiseAdmission rule(
      {.shape = shape, .chunk = below(source, 2) * 512, .staging = 1});
  std::vector<layerkv::DecodingRequest> decoding(1 + below(source, 40));
  for (auto& request : decoding) {
    request = {below(source, 900), time_near(source, 3), time_near(source, -6), below(source, 300)};
  }
  std::vector<layerkv::WaitingRequest> queue(12);
  for (auto& request : queue) request = {.tokens = below(source, 20000)};
  std::vector<layerkv::AdmittedRequest> admitted(queue.size());
  const double collective = time_near(source, -8);
  const double share = layerkv::link_share(collective, time_near(source, -5));
  fold_time(share);
  const auto decision = rule.decide({.decoding = decoding,
                                     .costs = costs,
                                     .free = {below(source, 200000), below(source, 400000)},
                                     .all = {200000, 400000},
                                     .link_share = share},
                                    queue, admitted);
  fold(decision.admitted);
  fold(static_cast<std::uint64_t>(decision.stop));
  fold_time(decision.slack);
  fold_time(decision.prefill_seconds);
  for (std::size_t i = 0; i < decision.admitted; ++i) fold(admitted[i].layers.fewest);
}

}  // namespace

int main() {
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    Source source(seed << 20);
    const layerkv::Costs costs = draw_costs(source);
    admit(source, costs);
    const std::size_t tokens = below(source, 30000);
    const layerkv::CacheShape shape{.layers = 32, .token_bytes = 4096};
    const double share = 1.0 / static_cast<double>(1 + below(source, 9));
    const std::size_t sequences = 1 + below(source, 256);
    const auto resume = layerkv::choose_resume(costs, shape, tokens, 20, 1 << 20, 512, share);
    fold(static_cast<std::uint64_t>(resume.resume));
    fold_time(resume.recompute_seconds);
    fold_time(resume.swap_seconds);
    fold_time(costs.decode.seconds({sequences, tokens}));
  }
  std::printf("%016llx\n", static_cast<unsigned long long>(digest));
}
