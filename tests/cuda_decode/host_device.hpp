/// A device of the host's: blocks of a launch one after another, each lane by lane in an order of
/// its own.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

#include "device.hpp"
#include "lethe/gpu/compact_block.cuh"
#include "lethe/gpu/observe_block.cuh"
#include "lethe/gpu/round_block.cuh"
#include "stepper.hpp"

namespace cuda_decode::test {

class HostDevice {
 public:
  static constexpr bool holds_memory = true;
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  using Memory = std::unique_ptr<std::byte, Free>;

  /// @param free_bytes what is told of the memory
  explicit HostDevice(std::uint64_t seed = 1, std::size_t free_bytes = std::size_t{1} << 26)
      : seed_(seed), free_bytes_(free_bytes) {}

  /// Poisoned.
  [[nodiscard]] Memory allocate(std::size_t bytes) {
    if (bytes > largest_piece) throw OutOfMemory("the host plays a device that has no more");
    const std::size_t rounded = (bytes / 256 + 1) * 256;
    Memory memory(static_cast<std::byte*>(std::aligned_alloc(256, rounded)));
    std::memset(memory.get(), 0xAB, rounded);
    allocated += bytes;
    return memory;
  }
  void upload(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
  void download(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }

  template <class Kernel>
  void launch(const Kernel& kernel, const Grid& grid) {
    auto shared = std::make_unique<typename Kernel::Shared>();
    each<Kernel::threads>(grid, [&](const auto& block, const Index& index) {
      std::memset(static_cast<void*>(shared.get()), 0xAB, sizeof(*shared));
      kernel.run(block, *shared, index);
    });
  }

  template <class Element>
  void multiply(const Product<Element>& product) {
    for (std::size_t row = 0; row < product.rows; ++row) {
      for (std::size_t i = 0; i < product.outputs; ++i) {
        const Element* weights = product.weights + i * product.inputs;
        const Element* in = product.in + row * product.inputs;
        float sum = 0.0f;
        for (std::size_t c = 0; c < product.inputs; ++c)
          sum += widened(weights[c]) * widened(in[c]);
        float& out = product.out[row * product.outputs + i];
        out = product.adds ? out + sum : sum;
      }
    }
  }

  void start(const lethe::gpu::State& state, const lethe::gpu::Batch& batch,
             std::uint32_t threshold) {
    each<32>({batch.rows}, [&](const auto& block, const Index& row) {
      lethe::gpu::start_block(block, state, batch, threshold, row.x);
    });
  }
  void append(const lethe::gpu::State& state, const lethe::gpu::Batch& batch) {
    each<32>({batch.rows}, [&](const auto& block, const Index& row) {
      lethe::gpu::append_block(block, state, batch, 1, row.x);
    });
  }
  void plan(const lethe::gpu::Round& round) {
    require(lethe::gpu::check(round));
    const auto shared = std::make_unique<lethe::gpu::detail::PlanShared>();
    each<64>({round.batch.rows, round.state.shape.layers},
             [&](const auto& block, const Index& index) {
               lethe::gpu::plan_block(block, *shared, round, index.y, index.x);
             });
  }
  void compact(const lethe::gpu::Compaction& compaction) {
    require(lethe::gpu::check(compaction));
    each<32>({lethe::gpu::strips_of(compaction), compaction.batch.rows, compaction.plans.layers},
             [&](const auto& block, const Index& index) {
               lethe::gpu::compact_block(block, compaction, index.x, index.y, index.z);
             });
  }

  void begin(Phase phase) { phase_ = phase; }
  void start_clock() { start_ = Clock::now(); }
  [[nodiscard]] double stop_clock() {
    return std::chrono::duration<double>(Clock::now() - start_).count();
  }
  void start_phases() { start_clock(); }
  /// All of it counts as the last phase's.
  [[nodiscard]] PhaseSeconds stop_phases() {
    PhaseSeconds seconds{};
    seconds[static_cast<std::size_t>(phase_)] = stop_clock();
    return seconds;
  }
  [[nodiscard]] static std::uint32_t processors() { return 2; }
  [[nodiscard]] std::size_t free_bytes() const { return free_bytes_; }
  [[nodiscard]] static std::string description() { return "the host's emulation"; }

  /// Bytes asked for so far, by all devices.
  static inline std::size_t allocated = 0;
  static inline std::size_t largest_piece = SIZE_MAX;

 private:
  using Clock = std::chrono::steady_clock;

  /// Blocks from the last to the first: a grid promises no order.
  template <unsigned Threads, class Body>
  void each(const Grid& grid, const Body& body) {
    for (std::uint32_t z = grid.z; z-- > 0;) {
      for (std::uint32_t y = grid.y; y-- > 0;) {
        for (std::uint32_t x = grid.x; x-- > 0;) {
          body(lethe::gpu::HostBlock<Threads>(seed_ = lethe::detail::mix(seed_)), Index{x, y, z});
        }
      }
    }
  }

  static void require(const lethe::gpu::Status& status) {
    if (!status.ok()) throw std::runtime_error(std::string(status.call) + ": " + status.remedy);
  }

  std::uint64_t seed_;
  std::size_t free_bytes_;
  Phase phase_ = Phase::rows;
  Clock::time_point start_ = Clock::now();
};
static_assert(Device<HostDevice>);

}  // namespace cuda_decode::test
