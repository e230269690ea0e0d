// The emulated cases on the device that is there, against the host library.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>

#include "decode_cases.hpp"
#include "deferred_cases.hpp"
#include "deferred_runner.hpp"
#include "device_memory.hpp"
#include "device_runner.hpp"
#include "plan_cases.hpp"
#include "rank_cases.hpp"

namespace {

int failures = 0;

void report(const std::string& name, const std::string& fault,
            const char* agreement = "the same, bit for bit") {
  std::printf("%s: %s\n", name.c_str(), fault.empty() ? agreement : fault.c_str());
  failures += fault.empty() ? 0 : 1;
}

using MakeCase = gpu_test::PlanCase (*)(Samples&, std::size_t);

std::string compare_plans(std::uint64_t seed, std::size_t cases, std::size_t most,
                          MakeCase make = gpu_test::random_case) {
  Samples samples(seed);
  for (std::size_t i = 0; i < cases; ++i) {
    const gpu_test::PlanCase given = make(samples, most);
    const gpu_test::Planned device = gpu_test::plan_on_device(given);
    const char* field = gpu_test::difference(gpu_test::HostRound(given).run(), device);
    if (field != nullptr) return "case " + std::to_string(i) + " differs: " + field;
  }
  return {};
}

/// How much is compared: memory checkers run a hundred times slower than the device.
struct Effort {
  std::size_t plans = 9000;
  std::size_t long_plans = 1000;
  std::size_t steps = 1000;
};
constexpr Effort quick{.plans = 300, .long_plans = 6, .steps = 150};

template <class Runner, class Observation, class Policy>
std::string compare_decode(std::size_t steps, std::uint64_t seed, Observation kind,
                           const Policy& policy) {
  gpu_test::Decode<Observation, Runner, Policy> decode(seed, kind, policy);
  const std::string fault = decode.run(steps);
  return fault.empty() && decode.pruned == 0 ? "nothing was pruned" : fault;
}

void compare_all_plans(const Effort& effort) {
  report(std::to_string(effort.plans) + " plans of up to 700 tokens",
         compare_plans(1, effort.plans, 700));
  report(std::to_string(effort.long_plans) + " plans of up to 40,000 tokens",
         compare_plans(2, effort.long_plans, 40000));
  report(std::to_string(effort.plans) + " plans by windows, draws and age",
         compare_plans(8, effort.plans, 700, gpu_test::random_scored_case));
  report(std::to_string(effort.long_plans) + " of them of up to 12,000 tokens",
         compare_plans(9, effort.long_plans, 12000, gpu_test::random_scored_case));
}

template <class Runner = gpu_test::DeviceRunner, class Observation>
void decode(const Effort& effort, const std::string& from, std::uint64_t seed, Observation kind,
            float decay, const gpu_test::DecodeScope& kept = {}) {
  report(std::to_string(effort.steps) + " steps from " + from,
         compare_decode<Runner>(effort.steps, seed, kind, gpu_test::DecayedMass{decay, kept}));
}

void decode_by_policies(const Effort& effort) {
  gpu_test::for_each_policy([&](const char* name, const auto& policy) {
    report(std::to_string(effort.steps) + " steps of " + name,
           compare_decode<gpu_test::DeviceRunner>(effort.steps, 10, lethe::Probabilities<float>{},
                                                  policy));
  });
}

void decode_scopes(const Effort& effort) {
  using lethe::Scope;
  const lethe::Probabilities<float> kind{};
  decode(effort, "probabilities, 3 score rows a layer", 9, kind, 0.98f, {3, Scope::layer});
  decode(effort, "probabilities, 6 heads apart", 10, kind, 0.98f, {6, Scope::head});
  decode(effort, "probabilities, all layers alike", 11, kind, 0.98f, {2, Scope::sequence});
  decode<gpu_test::ReplayRunner>(effort, "probabilities, 3 heads apart, from a graph", 12, kind,
                                 0.98f, {3, Scope::head});
}

void decode_ranks(const Effort& effort) {
  using lethe::Scope;
  const lethe::Probabilities<float> kind{};
  using Summed = gpu_test::Ranks<gpu_test::DeviceRunner, gpu_test::SummedScores>;
  using Apart = gpu_test::Ranks<gpu_test::DeviceRunner, gpu_test::AgreedCounts<Scope::layer>>;
  using Heads = gpu_test::Ranks<gpu_test::DeviceRunner, gpu_test::AgreedCounts<Scope::head>>;
  decode<Summed>(effort, "ranks that sum scores", 13, kind, 1.0f, {1, Scope::layer, true});
  decode<Summed>(effort, "ranks that sum scores, all layers alike", 14, kind, 1.0f,
                 {1, Scope::sequence, true});
  decode<Apart>(effort, "ranks that agree on counts", 15, kind, 0.98f, {2, Scope::head});
  decode<Heads>(effort, "ranks whose heads agree on counts", 16, kind, 0.98f, {6, Scope::head});
}

/// Exactly, and as keys of that type allow.
template <class Element>
void decode_deferred(const Effort& effort, const std::string& from, std::uint64_t seed,
                     gpu_test::DeferredCase given) {
  for (const bool exact : {true, false}) {
    given.exact = exact;
    gpu_test::DeferredDecode<Element, gpu_test::DeferredDeviceRunner<Element>> decode(seed, given);
    report(std::to_string(effort.steps) + " steps from queries: " + from, decode.run(effort.steps),
           exact ? "the same, bit for bit" : "the same, to rounding");
  }
}

void run_deferred(const Effort& effort) {
  using gpu_test::KeyLayout;
  decode_deferred<float>(effort, "float", 21, {});
  decode_deferred<lethe::BFloat16>(effort, "bfloat16 pages", 22, {.layout = KeyLayout::pages});
  gpu_test::DeferredCase given{
      .layout = KeyLayout::heads, .decay = 0.5f, .base = lethe::LogBase::two};
  given.ring = {.queries = 37, .heads = 2, .kv_heads = 2, .head_dimension = 104};
  decode_deferred<lethe::Half>(effort, "half, base 2, 104 channels", 23, given);
  given.layout = KeyLayout::pages;
  given.ring = {.queries = 16, .heads = 8, .kv_heads = 2, .head_dimension = 256};
  decode_deferred<lethe::BFloat16>(effort, "bfloat16 pages, 256 channels", 24, given);
}

void run_all(const Effort& effort) {
  using lethe::BFloat16;
  compare_all_plans(effort);
  decode(effort, "probabilities", 3, lethe::Probabilities<float>{}, 0.98f);
  decode(effort, "bfloat16 probabilities, decay 1", 4, lethe::Probabilities<BFloat16>{}, 1.0f);
  decode(effort, "probabilities, decay 0.5", 5, lethe::Probabilities<float>{}, 0.5f);
  decode(effort, "logits", 6, lethe::Logits<float>{.scale = 0.7f}, 0.98f);
  decode(effort, "bfloat16 logits, base 2", 7, lethe::Logits<BFloat16>{.base = lethe::LogBase::two},
         0.9f);
  decode<gpu_test::ReplayRunner>(effort, "probabilities, rounds replayed from a graph", 8,
                                 lethe::Probabilities<float>{}, 0.98f);
  decode_by_policies(effort);
  decode_scopes(effort);
  decode_ranks(effort);
  run_deferred(effort);
}

constexpr const char* usage =
    "usage: gpu_parity [--quick]\n\n"
    "Compares plans and decoded batches on the CUDA device with the host library, bit for bit;\n"
    "scores that tensor cores make of queries, to rounding.\n"
    "--quick: few of them, for memory checkers. Exit status: 1 where something differs, 2 where a\n"
    "call of CUDA failed. Without a device it says so and passes.\n";

/// The exit status.
int compare(const Effort& effort) {
  if (!naive::has_device()) return 0;
  try {
    std::printf("device: %s\n", gpu_test::device_name().c_str());
    run_all(effort);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gpu_parity: %s\n", error.what());
    return 2;
  }
  return failures == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string_view argument = count > 1 ? arguments[1] : "";
  if (argument == "--help") {
    std::fputs(usage, stdout);
    return 0;
  }
  if (count > 2 || (count == 2 && argument != "--quick")) {
    std::fputs(usage, stderr);
    return 2;
  }
  return compare(count == 2 ? quick : Effort{});
}
