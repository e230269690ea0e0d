/// A batch's state, its attention and its cache's layouts, as the rows use them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bench.hpp"
#include "lethe/gpu/compaction.hpp"
#include "lethe/gpu/observe_block.cuh"
#include "lethe/gpu/round_block.cuh"

namespace gpu_bench {

/// The cadence of rounds, in steps, that the share of a step is reckoned with.
inline constexpr std::uint32_t steps_a_round = 64;

/// A state in which every layer of every sequence holds the case's tokens and is due.
class World {
 public:
  explicit World(const Bench& bench);

  [[nodiscard]] const lethe::gpu::State& state() const { return state_; }
  [[nodiscard]] lethe::gpu::Batch batch() const { return {rows_.get(), state_.shape.slots}; }
  /// A round that keeps the case's best tokens, or those above a breakpoint.
  [[nodiscard]] lethe::gpu::Round round(lethe::gpu::BudgetRule rule) const;
  /// Of the state's scores and positions.
  [[nodiscard]] lethe::gpu::Compaction compaction() const;
  [[nodiscard]] lethe::gpu::PlanBuffers plans() const { return plans_; }

  /// The state as it was made; enqueued.
  void restore() const;
  void poison_plans() const { plan_memory_.poison(); }
  /// The state's bytes, and what a round has decided, by number.
  [[nodiscard]] std::vector<std::byte> read_state() const { return memory_.read(); }
  [[nodiscard]] std::vector<std::uint32_t> counts() const;
  [[nodiscard]] std::vector<std::uint32_t> first_moves() const;
  [[nodiscard]] std::vector<std::uint32_t> lengths() const;
  [[nodiscard]] std::vector<lethe::Slot> kept(std::size_t number) const;
  /// As the state was made, on the host.
  [[nodiscard]] const std::vector<float>& scores() const { return scores_; }
  [[nodiscard]] const std::vector<lethe::Position>& positions() const { return positions_; }

  /// The cadence with which every layer is due.
  [[nodiscard]] lethe::gpu::Cadence cadence() const;

 private:
  [[nodiscard]] lethe::gpu::StateShape shape() const;
  [[nodiscard]] std::vector<std::uint32_t> numbers_at(const std::uint32_t* memory) const;

  const Bench* bench_;
  std::vector<float> scores_;
  std::vector<lethe::Position> positions_;
  Items<std::byte> memory_;
  Items<std::byte> saved_;
  Items<std::byte> plan_memory_;
  Items<std::int32_t> rows_;
  lethe::gpu::State state_{};
  lethe::gpu::PlanBuffers plans_{};
};

/// Logits of all layers and their log-sum-exps, or probabilities; and each row's weight.
class Attention {
 public:
  enum class Kind : std::uint8_t { logits, probabilities };
  Attention(const Bench& bench, Kind kind);

  /// Adds all layers' attention to the scores; enqueued.
  void observe(const World& world) const;
  /// Bytes that have to be read and written.
  [[nodiscard]] std::uint64_t bytes() const;
  /// What a token's score becomes, in double precision.
  [[nodiscard]] double expected(double score, std::uint32_t layer, std::uint32_t row,
                                std::uint32_t token) const;

 private:
  [[nodiscard]] std::size_t layer_items() const { return bench_->sizes().logit_bytes() / 4; }

  const Bench* bench_;
  Kind kind_;
  Items<float> data_;
  Items<float> lse_;
  Items<lethe::gpu::QueryWeight> weights_;
};

}  // namespace gpu_bench
