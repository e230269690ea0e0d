#include "lethe/gpu/policies.hpp"

#include <cstdint>

#include "catch.hpp"
#include "decode_cases.hpp"
#include "emulation.hpp"

namespace {

template <class Observation, class Policy>
void decodes_as_the_host(std::uint64_t seed, Observation kind, const Policy& policy) {
  gpu_test::Decode<Observation, gpu_test::Emulation, Policy> decode(seed, kind, policy);
  CHECK(decode.run(400) == "");
  CHECK(decode.pruned > 5);
}

}  // namespace

TEST_CASE("a batch decodes as the host library does, by every policy of the device") {
  std::uint64_t seed = 20;
  gpu_test::for_each_policy([&](const char* name, const auto& policy) {
    INFO(name);
    decodes_as_the_host(++seed, lethe::Probabilities<float>{}, policy);
  });
}

TEST_CASE("a window is recorded from logits too, and packed with the tokens") {
  const lethe::SnapKVConfig config{.window = 5, .pool = 3};
  const gpu_test::NamedPolicy<lethe::policies::SnapKV, lethe::SnapKVConfig> policy{
      config, lethe::gpu::policies::snap_kv(config)};
  decodes_as_the_host(40, lethe::Logits<lethe::BFloat16>{.base = lethe::LogBase::two}, policy);
}

TEST_CASE("a policy's shape holds what its score needs and no more") {
  namespace policies = lethe::gpu::policies;
  const auto window = lethe::gpu::shape_for(policies::snap_kv(), 2, 3, 100);
  CHECK(window.window == 32);
  CHECK(window.scores);
  const auto mass = lethe::gpu::shape_for(policies::h2o(), 2, 3, 100);
  CHECK(mass.window == 0);
  CHECK(mass.scores);
  const auto drawn = lethe::gpu::shape_for(policies::random_attention(), 2, 3, 100);
  CHECK(drawn.window == 0);
  CHECK_FALSE(drawn.scores);
  CHECK_THROWS_AS(policies::streaming_llm({.budget = 4}), std::invalid_argument);
}
