/// The calls of lethe::gpu by emulated blocks, for tests that need no device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "catch.hpp"
#include "host_state.hpp"
#include "lethe/gpu/compact_block.cuh"
#include "lethe/gpu/observe_block.cuh"
#include "lethe/gpu/observe_checks.hpp"
#include "lethe/gpu/round_block.cuh"
#include "lethe/gpu/round_compaction.hpp"
#include "samples.hpp"

namespace gpu_test {

/// A runner of Decode: the device's blocks, their lanes one after another.
class Emulation {
 public:
  Emulation(const lethe::gpu::StateShape& shape, std::uint64_t seed)
      : host_(shape),
        samples_(seed + 1000),
        shared_(std::make_unique<lethe::gpu::detail::PlanShared>()) {}

  void start(const std::vector<std::int32_t>& batch, std::uint32_t threshold) {
    for (std::uint32_t row = 0; row < batch.size(); ++row) {
      lethe::gpu::start_block(block(), host_.state, of(batch), threshold, row);
    }
  }

  void make_room(const std::vector<std::int32_t>& batch, const lethe::gpu::PlanSettings& settings) {
    const lethe::gpu::Round round{
        .state = host_.state, .batch = of(batch), .settings = settings, .plans = host_.plans};
    REQUIRE(lethe::gpu::check(round).ok());
    for (std::uint32_t row = 0; row < batch.size(); ++row) {
      for (std::uint32_t layer = 0; layer < host_.state.shape.layers; ++layer) {
        lethe::gpu::plan_block(block(), *shared_, round, layer, row);
      }
    }
    compact(lethe::gpu::compaction_of(host_.state, host_.plans, of(batch)));
  }

  void append(const std::vector<std::int32_t>& batch, std::uint32_t tokens) {
    for (std::uint32_t row = 0; row < batch.size(); ++row) {
      lethe::gpu::append_block(block(), host_.state, of(batch), tokens, row);
    }
  }

  template <class Seen, class Observation>
  void observe(const std::vector<std::int32_t>& batch, std::uint32_t layer,
               const std::vector<lethe::gpu::QueryWeight>& weights, const Seen&,
               const lethe::gpu::BatchObservation<Observation>& given) {
    const lethe::gpu::ObservedLayer observed{host_.state, of(batch), layer, weights.data()};
    REQUIRE(lethe::gpu::check(observed, given).ok());
    const lethe::gpu::BatchObservation<Observation> packed = lethe::gpu::detail::packed(given);
    for (std::uint32_t row = 0; row < batch.size(); ++row) {
      for (std::uint32_t tile = 0; tile * 32 < host_.state.shape.capacity; ++tile) {
        lethe::gpu::observe_block(block(), observed, packed, tile, row);
      }
    }
  }

  [[nodiscard]] const HostState& read() const { return host_; }

 private:
  void compact(const lethe::gpu::Compaction& compaction) {
    REQUIRE(lethe::gpu::check(compaction).ok());
    for (std::uint32_t row = 0; row < compaction.batch.rows; ++row) {
      for (std::uint32_t layer = 0; layer < compaction.plans.layers; ++layer) {
        for (std::uint32_t strip = 0; strip < lethe::gpu::strips_of(compaction); ++strip) {
          lethe::gpu::compact_block(block(), compaction, strip, row, layer);
        }
      }
    }
  }

  [[nodiscard]] static lethe::gpu::Batch of(const std::vector<std::int32_t>& batch) {
    return {batch.data(), static_cast<std::uint32_t>(batch.size())};
  }
  [[nodiscard]] lethe::gpu::HostBlock<32> block() {
    return lethe::gpu::HostBlock<32>(samples_.word());
  }

  HostState host_;
  Samples samples_;
  std::unique_ptr<lethe::gpu::detail::PlanShared> shared_;
};

}  // namespace gpu_test
