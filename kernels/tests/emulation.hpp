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
  using Rows = std::vector<std::int32_t>;

  Emulation(const lethe::gpu::StateShape& shape, std::uint64_t seed)
      : host_(shape),
        samples_(seed + 1000),
        shared_(std::make_unique<lethe::gpu::detail::PlanShared>()) {}

  void start(const Rows& batch, std::uint32_t threshold) {
    for (std::uint32_t row = 0; row < batch.size(); ++row) {
      lethe::gpu::start_block(block(), host_.state, of(batch), threshold, row);
    }
  }

  void make_room(const Rows& batch, const lethe::gpu::PlanSettings& settings) {
    plan(round_of(batch, settings));
    compact(lethe::gpu::compaction_of(host_.state, host_.plans, of(batch)));
  }

  [[nodiscard]] lethe::gpu::Round round_of(const Rows& batch,
                                           const lethe::gpu::PlanSettings& settings) const {
    return {.state = host_.state, .batch = of(batch), .settings = settings, .plans = host_.plans};
  }

  void plan(const lethe::gpu::Round& round) {
    REQUIRE(lethe::gpu::check(round).ok());
    for (std::uint32_t row = 0; row < round.batch.rows; ++row) {
      for (std::uint32_t layer = 0; layer < host_.state.shape.layers; ++layer) {
        lethe::gpu::plan_block(block(), *shared_, round, layer, row);
      }
    }
  }

  void compact(const lethe::gpu::Compaction& compaction) {
    REQUIRE(lethe::gpu::check(compaction).ok());
    const bool paged = compaction.page_count != 0;
    const std::uint32_t strips = lethe::gpu::strips_of(compaction);
    for_each_table(compaction, paged ? 1 : 0, [&](auto, auto row, auto layer) {
      lethe::gpu::plan_pages_block(block(), compaction, row, layer);
    });
    for_each_table(compaction, strips, [&](auto strip, auto row, auto layer) {
      lethe::gpu::compact_block(block(), compaction, strip, row, layer);
    });
    for_each_table(compaction, paged ? 1 : 0, [&](auto, auto row, auto layer) {
      lethe::gpu::publish_pages_block(block(), compaction, row, layer);
    });
  }

  void append(const Rows& batch, std::uint32_t tokens) {
    for (std::uint32_t row = 0; row < batch.size(); ++row) {
      lethe::gpu::append_block(block(), host_.state, of(batch), tokens, row);
    }
  }

  template <class Seen, class Observation>
  void observe(const Rows& batch, std::uint32_t layer,
               const std::vector<lethe::gpu::QueryWeight>& weights, const Seen&,
               const lethe::gpu::BatchObservation<Observation>& given) {
    const lethe::gpu::ObservedLayer observed{host_.state, of(batch), layer, weights.data()};
    REQUIRE(lethe::gpu::check(observed, given).ok());
    const auto packed = lethe::gpu::detail::packed(given);
    for (std::uint32_t row = 0; row < batch.size(); ++row) {
      for (std::uint32_t tile = 0; tile * 32 < host_.state.shape.capacity; ++tile) {
        lethe::gpu::observe_block(block(), observed, packed, tile, row);
      }
    }
  }

  [[nodiscard]] const HostState& read() const { return host_; }

  [[nodiscard]] static lethe::gpu::Batch of(const Rows& batch) {
    return {batch.data(), static_cast<std::uint32_t>(batch.size())};
  }
  template <unsigned Threads = 32>
  [[nodiscard]] lethe::gpu::HostBlock<Threads> block() {
    return lethe::gpu::HostBlock<Threads>(samples_.word());
  }

 private:
  template <class Body>
  static void for_each_table(const lethe::gpu::Compaction& compaction, std::uint32_t strips,
                             Body&& body) {
    for (std::uint32_t row = 0; row < compaction.batch.rows; ++row) {
      for (std::uint32_t layer = 0; layer < compaction.plans.layers; ++layer) {
        for (std::uint32_t strip = 0; strip < strips; ++strip) body(strip, row, layer);
      }
    }
  }

  HostState host_;
  Samples samples_;
  std::unique_ptr<lethe::gpu::detail::PlanShared> shared_;
};

}  // namespace gpu_test
