/// What the device's kernels do, block after block on the host, lanes one after another in permuted
/// orders.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "host_state.hpp"
#include "lethe/gpu/compact_block.cuh"
#include "lethe/gpu/observe_block.cuh"
#include "lethe/gpu/observe_checks.hpp"
#include "lethe/gpu/round_block.cuh"
#include "lethe/gpu/round_compaction.hpp"
#include "lethe/gpu/round_sets.cuh"
#include "samples.hpp"

namespace gpu_test {

inline void require(const lethe::gpu::Status& status) {
  if (!status.ok()) throw std::runtime_error(std::string(status.call) + ": " + status.remedy);
}

[[nodiscard]] inline lethe::gpu::Batch batch_of(const std::vector<std::int32_t>& slots) {
  return {slots.data(), static_cast<std::uint32_t>(slots.size())};
}

/// The grids of a round.
template <unsigned Threads>
class EmulatedRound {
 public:
  explicit EmulatedRound(std::uint64_t seed)
      : samples_(seed), shared_(std::make_unique<lethe::gpu::detail::PlanShared>()) {}

  /// What plan_round does.
  void plan(const lethe::gpu::Round& round) {
    const lethe::gpu::StateShape& shape = round.state.shape;
    if (shape.scope == lethe::Scope::sequence || shape.sets() != 1) {
      count(round);
      keep(round);
      return;
    }
    require(lethe::gpu::check(round));
    each_row(round, shape.layers, [&](auto layer, auto row) {
      lethe::gpu::plan_block(block(), *shared_, round, layer, row);
    });
  }

  /// What plan_counts does.
  void count(const lethe::gpu::Round& round) {
    require(lethe::gpu::check_half("plan_counts", round));
    const lethe::gpu::StateShape& shape = round.state.shape;
    if (shape.scope == lethe::Scope::sequence) sum_layers(round);
    each_set(round, [&](auto layer, auto row, auto set) {
      lethe::gpu::count_block(block(), *shared_, round, layer, row, set);
    });
  }

  /// What plan_kept does.
  void keep(const lethe::gpu::Round& round) {
    require(lethe::gpu::check_half("plan_kept", round));
    each_set(round, [&](auto layer, auto row, auto set) {
      lethe::gpu::keep_block(block(), *shared_, round, layer, row, set);
    });
  }

  template <unsigned Lanes = Threads>
  [[nodiscard]] lethe::gpu::HostBlock<Lanes> block() {
    return lethe::gpu::HostBlock<Lanes>(samples_.word());
  }

 private:
  template <class Body>
  void each_row(const lethe::gpu::Round& round, std::uint32_t count, Body&& body) {
    for (std::uint32_t row = 0; row < round.batch.rows; ++row) {
      for (std::uint32_t layer = 0; layer < count; ++layer) body(layer, row);
    }
  }

  /// Last sets first: no block may count on another of its launch.
  template <class Body>
  void each_set(const lethe::gpu::Round& round, Body&& body) {
    const lethe::gpu::StateShape& shape = round.state.shape;
    const bool whole = shape.scope == lethe::Scope::sequence;
    each_row(round, whole ? 1 : shape.layers, [&](auto layer, auto row) {
      for (std::uint32_t set = shape.sets(); set-- > 0;) body(layer, row, set);
    });
  }

  void sum_layers(const lethe::gpu::Round& round) {
    const lethe::gpu::StateShape& shape = round.state.shape;
    each_row(round, shape.layers, [&](auto layer, auto row) {
      lethe::gpu::factor_block(block(), shared_->summary, round, layer, row);
    });
    each_row(round, (shape.capacity + Threads - 1) / Threads,
             [&](auto tile, auto row) { lethe::gpu::share_block(block(), round, tile, row); });
  }

  Samples samples_;
  std::unique_ptr<lethe::gpu::detail::PlanShared> shared_;
};

/// A runner of gpu_test::Decode.
class Emulation {
 public:
  using Rows = std::vector<std::int32_t>;
  using Settings = lethe::gpu::PlanSettings;

  Emulation(const lethe::gpu::StateShape& shape, std::uint64_t seed)
      : host_(shape), rounds_(seed + 1000) {}

  void start(const Rows& batch, std::uint32_t threshold) {
    for (std::uint32_t row = 0; row < batch.size(); ++row) {
      lethe::gpu::start_block(block(), host_.state, of(batch), threshold, row);
    }
  }

  void make_room(const Rows& batch, const Settings& settings) {
    plan(round_of(batch, settings));
    compact(batch);
  }

  [[nodiscard]] lethe::gpu::Round round_of(const Rows& batch, const Settings& settings) const {
    return {.state = host_.state, .batch = of(batch), .settings = settings, .plans = host_.plans};
  }

  void plan(const lethe::gpu::Round& round) { rounds_.plan(round); }

  void compact(const lethe::gpu::Compaction& compaction) {
    require(lethe::gpu::check(compaction));
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
    require(lethe::gpu::check(observed, given));
    const auto packed = lethe::gpu::detail::packed(given);
    for (std::uint32_t row = 0; row < batch.size(); ++row) {
      for (std::uint32_t tile = 0; tile * 32 < host_.state.shape.capacity; ++tile) {
        for (std::uint32_t group = 0; group < host_.state.shape.groups; ++group) {
          lethe::gpu::observe_block(block(), observed, packed, tile, row, group);
        }
      }
    }
  }

  [[nodiscard]] const HostState& read() const { return host_; }

  // What a tensor-parallel rank does.

  [[nodiscard]] std::vector<float> gather(const Rows& batch) {
    const lethe::gpu::StateShape& shape = host_.state.shape;
    const auto rows = static_cast<std::uint32_t>(batch.size());
    std::vector<float> gathered(lethe::gpu::score_count(shape, rows), not_a_number);
    require(lethe::gpu::check(host_.state, of(batch), gathered.data()));
    for (std::uint32_t row = 0; row < rows; ++row) {
      for (std::uint32_t layer = 0; layer < shape.layers; ++layer) {
        for (std::uint32_t set = 0; set < shape.sets(); ++set) {
          lethe::gpu::gather_block(block(), host_.state, of(batch), gathered.data(), layer, row,
                                   set);
        }
      }
    }
    return gathered;
  }

  void make_room(const Rows& batch, const Settings& settings, const std::vector<float>& scores) {
    lethe::gpu::Round round = round_of(batch, settings);
    round.scores = scores.data();
    rounds_.plan(round);
    compact(batch);
  }

  [[nodiscard]] std::vector<std::uint32_t> count(const Rows& batch, const Settings& settings,
                                                 std::uint32_t first_set) {
    lethe::gpu::Round round = round_of(batch, settings);
    round.first_set = first_set;
    rounds_.count(round);
    const std::uint32_t* claims = round.plans.claims;
    return {claims, claims + lethe::gpu::claim_count(host_.state.shape)};
  }

  void keep(const Rows& batch, const Settings& settings, const std::vector<std::uint32_t>& claims) {
    const lethe::gpu::Round round = round_of(batch, settings);
    std::copy(claims.begin(), claims.end(), round.plans.claims);
    rounds_.keep(round);
    compact(batch);
  }

  [[nodiscard]] static lethe::gpu::Batch of(const Rows& batch) { return batch_of(batch); }
  template <unsigned Threads = 32>
  [[nodiscard]] lethe::gpu::HostBlock<Threads> block() {
    return rounds_.block<Threads>();
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

  void compact(const Rows& batch) {
    compact(lethe::gpu::compaction_of(host_.state, host_.plans, of(batch)));
  }

  HostState host_;
  EmulatedRound<32> rounds_;
};

}  // namespace gpu_test
