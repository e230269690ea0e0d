/// What a decode step needs of a device. Models: CudaDevice; the emulation in tests/cuda_decode;
/// and CountingDevice, which says how much memory the step would take.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>

#include "launch.hpp"
#include "lethe/gpu/batch.hpp"
#include "lethe/gpu/compaction.hpp"
#include "lethe/gpu/round_block.cuh"
#include "lethe/gpu/state.hpp"
#include "row_kernels.cuh"

namespace cuda_decode {

/// Work is done in the order in which it is asked for. What fails throws decoder::Error; where
/// memory lacks, OutOfMemory.
template <class D>
concept Device = requires(D& device, std::byte* memory, const Product<float>& product,
                          const lethe::gpu::Batch& batch, std::size_t bytes) {
  { device.allocate(bytes).get() } -> std::same_as<std::byte*>;
  device.upload(memory, memory, bytes);
  device.download(memory, memory, bytes);  // waits
  device.launch(TakeRows{}, Grid{});
  device.multiply(product);
  device.start(lethe::gpu::State{}, batch, std::uint32_t{});
  device.append(lethe::gpu::State{}, batch);
  device.plan(lethe::gpu::Round{});
  device.compact(lethe::gpu::Compaction{});
  device.begin(Phase::rows);  // what follows counts as that
  device.start_clock();
  { device.stop_clock() } -> std::same_as<double>;  // seconds
  device.start_phases();
  { device.stop_phases() } -> std::same_as<PhaseSeconds>;
  { device.processors() } -> std::same_as<std::uint32_t>;
  { device.free_bytes() } -> std::same_as<std::size_t>;
  { device.description() } -> std::same_as<std::string>;
  { D::holds_memory } -> std::convertible_to<bool>;
};

/// Adds up what is asked for, and holds nothing.
class CountingDevice {
 public:
  static constexpr bool holds_memory = false;
  struct Memory {
    [[nodiscard]] static std::byte* get() { return nullptr; }
  };

  explicit CountingDevice(std::uint32_t processors) : processors_(processors) {}

  [[nodiscard]] Memory allocate(std::size_t bytes) {
    bytes_ += bytes;
    return {};
  }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

  void upload(void*, const void*, std::size_t) {}
  void download(void*, const void*, std::size_t) {}
  template <class Kernel>
  void launch(const Kernel&, const Grid&) {}
  template <class Element>
  void multiply(const Product<Element>&) {}
  void start(const lethe::gpu::State&, const lethe::gpu::Batch&, std::uint32_t) {}
  void append(const lethe::gpu::State&, const lethe::gpu::Batch&) {}
  void plan(const lethe::gpu::Round&) {}
  void compact(const lethe::gpu::Compaction&) {}
  void begin(Phase) {}
  void start_clock() {}
  [[nodiscard]] double stop_clock() { return 0; }
  void start_phases() {}
  [[nodiscard]] PhaseSeconds stop_phases() { return {}; }
  [[nodiscard]] std::uint32_t processors() const { return processors_; }
  [[nodiscard]] std::size_t free_bytes() const { return 0; }
  [[nodiscard]] std::string description() const { return {}; }

 private:
  std::uint32_t processors_;
  std::size_t bytes_ = 0;
};
static_assert(Device<CountingDevice>);

}  // namespace cuda_decode
