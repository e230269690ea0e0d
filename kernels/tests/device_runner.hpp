/// The calls of lethe::gpu on the device that is there, for tests that nvcc need not compile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "host_state.hpp"
#include "lethe/gpu/observe_block.cuh"
#include "plan_cases.hpp"

namespace gpu_test {

/// The first device's name. Throws std::runtime_error where it has none.
[[nodiscard]] std::string device_name();

/// Plans one layer; the kept slots are those that the plan counts. Throws std::runtime_error naming
/// the call that failed, as all below do.
[[nodiscard]] Planned plan_on_device(const PlanCase& given);

/// A runner of gpu_test::Decode: everything on one stream, read back when asked.
class DeviceRunner {
 public:
  DeviceRunner(const lethe::gpu::StateShape& shape, std::uint64_t seed);
  ~DeviceRunner();
  DeviceRunner(const DeviceRunner&) = delete;
  DeviceRunner& operator=(const DeviceRunner&) = delete;

  void start(const std::vector<std::int32_t>& batch, std::uint32_t threshold);
  void make_room(const std::vector<std::int32_t>& batch, const lethe::gpu::PlanSettings& settings);
  void append(const std::vector<std::int32_t>& batch, std::uint32_t tokens);

  /// seen: holds data and lse, to which `given` points.
  template <class Seen, class Observation>
  void observe(const std::vector<std::int32_t>& batch, std::uint32_t layer,
               const std::vector<lethe::gpu::QueryWeight>& weights, const Seen& seen,
               const lethe::gpu::BatchObservation<Observation>& given) {
    observe_bytes(batch, layer, weights, seen.data.size() * sizeof(seen.data[0]), seen.lse, given);
  }

  [[nodiscard]] const HostState& read();

  // What a tensor-parallel rank does; the ranks' sums and maxima are made on the host.

  [[nodiscard]] std::vector<float> gather(const std::vector<std::int32_t>& batch);
  void make_room(const std::vector<std::int32_t>& batch, const lethe::gpu::PlanSettings& settings,
                 const std::vector<float>& scores);
  [[nodiscard]] std::vector<std::uint32_t> count(const std::vector<std::int32_t>& batch,
                                                 const lethe::gpu::PlanSettings& settings,
                                                 std::uint32_t first_set);
  void keep(const std::vector<std::int32_t>& batch, const lethe::gpu::PlanSettings& settings,
            const std::vector<std::uint32_t>& claims);

 protected:
  struct Device;

 private:
  template <class Observation>
  void observe_bytes(const std::vector<std::int32_t>& batch, std::uint32_t layer,
                     const std::vector<lethe::gpu::QueryWeight>& weights, std::size_t bytes,
                     const std::vector<float>& lse,
                     lethe::gpu::BatchObservation<Observation> given);

  HostState host_;

 protected:
  std::unique_ptr<Device> device_;
};

/// The same, whose rounds are replays of one graph over as many rows as a batch may have, recorded
/// again only when a step appends another number of tokens.
class ReplayRunner : public DeviceRunner {
 public:
  ReplayRunner(const lethe::gpu::StateShape& shape, std::uint64_t seed);
  ~ReplayRunner();

  void make_room(const std::vector<std::int32_t>& batch, const lethe::gpu::PlanSettings& settings);

 private:
  struct Recorded;

  void record(const lethe::gpu::PlanSettings& settings);

  std::unique_ptr<Recorded> recorded_;
};

}  // namespace gpu_test
