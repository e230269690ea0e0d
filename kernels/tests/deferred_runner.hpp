/// Deferred scoring on the device that is there, for tests that nvcc need not compile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "deferred_cases.hpp"
#include "host_state.hpp"

namespace gpu_test {

/// A runner of gpu_test::DeferredDecode; Element: float, Half or BFloat16.
template <class Element>
class DeferredDeviceRunner {
 public:
  using Rows = std::vector<std::int32_t>;

  DeferredDeviceRunner(const DeferredCase& given, const KeyPlace& place, std::uint64_t seed);
  ~DeferredDeviceRunner();
  DeferredDeviceRunner(const DeferredDeviceRunner&) = delete;
  DeferredDeviceRunner& operator=(const DeferredDeviceRunner&) = delete;

  void start(const Rows& batch, std::uint32_t threshold);
  void make_room(const Rows& batch, const lethe::gpu::PlanSettings& settings);
  void append(const Rows& batch, std::uint32_t tokens);
  void put_key(std::size_t offset, const std::vector<Element>& row);
  void push(const Rows& batch, std::uint32_t layer,
            const std::vector<lethe::gpu::QueryWeight>& weights,
            const StepAttention<Element>& attention);
  void flush(const Rows& batch);
  [[nodiscard]] const HostState& read();

 private:
  struct Device;

  HostState host_;
  std::unique_ptr<Device> device_;
};

}  // namespace gpu_test
