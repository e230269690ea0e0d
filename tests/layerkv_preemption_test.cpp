// Who gives way when blocks run out, and how it comes back.
#include "lethe/layerkv/preemption.hpp"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

#include "catch.hpp"
#include "naive/random.hpp"

namespace layerkv = lethe::layerkv;
using layerkv::Preemption;
using layerkv::Resume;
using layerkv::RunningRequest;
using naive::Random;

namespace {

constexpr layerkv::CacheShape llama{.layers = 32, .token_bytes = 4096, .fragment_bytes = 2 << 20};
const layerkv::Costs h100{.prefill = {2.2e-3, 1.6e-5, 1.2e-9}};
constexpr std::size_t plenty = 1000000;

}  // namespace

TEST_CASE("the latest requests give way, as many as it takes") {
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    Random random(seed);
    std::vector<RunningRequest> running(random.below(12));
    for (auto& request : running) {
      request = {static_cast<double>(random.below(8)), random.below(6)};
    }
    const std::size_t wanted = random.below(25);
    std::vector<std::size_t> victims(random.below(14));
    const Preemption chosen = layerkv::choose_victims(running, wanted, victims);
    // Sorted by arrival, the later in the list last of equals; taken from the end.
    std::vector<std::size_t> order(running.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return running[a].arrival < running[b].arrival;
    });
    std::vector<std::size_t> expected;
    std::size_t blocks = 0;
    while (!order.empty() && blocks < wanted && expected.size() < victims.size()) {
      const std::size_t last = order.back();
      order.pop_back();
      if (running[last].device_blocks == 0) continue;
      expected.push_back(last);
      blocks += running[last].device_blocks;
    }
    victims.resize(chosen.requests);
    INFO("seed " << seed);
    CHECK(victims == expected);
    CHECK(chosen.blocks == blocks);
  }
}

TEST_CASE("a request comes back by what costs less") {
  const auto choice = layerkv::choose_resume(h100, llama, 4096, 32, plenty);
  CHECK_THAT(choice.recompute_seconds, WithinRel(h100.prefill.seconds({4096, 0}), 1e-12));
  CHECK_THAT(choice.swap_seconds,
             WithinRel(2 * h100.copy.seconds(layerkv::copy_of(llama, 32, 4096)), 1e-12));
  CHECK(choice.resume == Resume::swap);
  // A twentieth of the link is slower than computing again.
  const auto slow = layerkv::choose_resume(h100, llama, 4096, 32, plenty, 0, 0.05);
  CHECK(slow.resume == Resume::recompute);
  CHECK(slow.swap_seconds > slow.recompute_seconds);
  // Chunks pay the constant of each pass.
  const auto chunked = layerkv::choose_resume(h100, llama, 4096, 32, plenty, 512);
  CHECK_THAT(chunked.recompute_seconds - choice.recompute_seconds, WithinRel(7 * 2.2e-3, 1e-9));
  // Fewer layers to move cost less.
  CHECK_THAT(layerkv::choose_resume(h100, llama, 4096, 8, plenty).swap_seconds,
             WithinRel(choice.swap_seconds / 4, 1e-12));
}

TEST_CASE("without host blocks, or a link, tokens are computed again") {
  const std::size_t blocks = 4096 / 16;
  CHECK(layerkv::choose_resume(h100, llama, 4096, 32, 32 * blocks).resume == Resume::swap);
  const auto full = layerkv::choose_resume(h100, llama, 4096, 32, 32 * blocks - 1);
  CHECK(full.resume == Resume::recompute);
  CHECK(full.swap_seconds == layerkv::never);
  const auto cut = layerkv::choose_resume(h100, llama, 4096, 32, plenty, 0, 0);
  CHECK(cut.resume == Resume::recompute);
  CHECK(cut.swap_seconds == layerkv::never);
  const auto nothing = layerkv::choose_resume(h100, llama, 0, 32, 0);
  CHECK(nothing.recompute_seconds == 0);
  CHECK(nothing.swap_seconds == 0);
  CHECK(nothing.resume == Resume::recompute);
}
