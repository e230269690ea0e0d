// The emulated cases on the device that is there, against the host library.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>

#include "decode_cases.hpp"
#include "device_runner.hpp"
#include "plan_cases.hpp"

namespace {

int failures = 0;

void report(const std::string& name, const std::string& fault) {
  std::printf("%s: %s\n", name.c_str(), fault.empty() ? "the same, bit for bit" : fault.c_str());
  failures += fault.empty() ? 0 : 1;
}

std::string compare_plans(std::uint64_t seed, std::size_t cases, std::size_t most) {
  Samples samples(seed);
  for (std::size_t i = 0; i < cases; ++i) {
    const gpu_test::PlanCase given = gpu_test::random_case(samples, most);
    gpu_test::Planned device;
    device.plan = gpu_test::plan_on_device(given.settings, given.input(), device.kept);
    const bool pruned = device.plan.outcome == lethe::Outcome::pruned;
    device.kept.resize(pruned ? device.plan.kept : 0);
    const char* field = gpu_test::difference(gpu_test::HostRound(given).run(), device);
    if (field != nullptr) return "case " + std::to_string(i) + " differs: " + field;
  }
  return {};
}

template <class Observation>
std::string compare_decode(std::uint64_t seed, Observation kind, float decay) {
  gpu_test::Decode<Observation, gpu_test::DeviceRunner> decode(seed, kind, decay);
  return decode.run(1000);
}

void run_all() {
  report("9,000 plans of up to 700 tokens", compare_plans(1, 9000, 700));
  report("1,000 plans of up to 40,000 tokens", compare_plans(2, 1000, 40000));
  report("1,000 steps from probabilities", compare_decode(3, lethe::Probabilities<float>{}, 0.98f));
  report("1,000 steps from bfloat16 probabilities, decay 1",
         compare_decode(4, lethe::Probabilities<lethe::BFloat16>{}, 1.0f));
  report("1,000 steps from probabilities, decay 0.5",
         compare_decode(5, lethe::Probabilities<float>{}, 0.5f));
  report("1,000 steps from logits", compare_decode(6, lethe::Logits<float>{.scale = 0.7f}, 0.98f));
  report("1,000 steps from bfloat16 logits, base 2",
         compare_decode(7, lethe::Logits<lethe::BFloat16>{.base = lethe::LogBase::two}, 0.9f));
}

}  // namespace

int main() {
  const std::string device = gpu_test::device_name();
  if (device.empty()) {
    std::puts("skipped: no CUDA device");
    return 0;
  }
  std::printf("device: %s\n", device.c_str());
  try {
    run_all();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gpu_parity: %s\n", error.what());
    return 2;
  }
  return failures == 0 ? 0 : 1;
}
