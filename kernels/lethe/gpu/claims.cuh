/// What each kept set asks of its layer, in one number, so that the largest of a layer's numbers is
/// what all its sets do: as many tokens as the neediest keeps, as on the host.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/gpu/block.cuh"
#include "lethe/gpu/plan.cuh"
#include "lethe/gpu/state.hpp"
#include "lethe/trace.hpp"

namespace lethe::gpu {

/// Numbers that plan_counts writes, from PlanBuffers::claims on. Those of slots outside the batch
/// mean nothing.
[[nodiscard]] inline std::size_t claim_count(const StateShape& shape) {
  if (shape.scope == Scope::sequence) return shape.slots;
  return std::size_t{shape.layers} * shape.slots * shape.sets();
}

namespace detail {

/// 0: not examined. Up to 2^31 - 1: prune, keeping one token less than that. Above: all stay, the
/// first set's reason before those of later ones. The last two: the layer is left alone.
inline constexpr std::uint32_t claim_all = 0x80000000u;
inline constexpr std::uint32_t claim_busy = 0xFFFFFFFEu;
inline constexpr std::uint32_t claim_non_finite = 0xFFFFFFFFu;

/// set: its number among the sets of all ranks.
[[nodiscard]] LETHE_BLOCK_CODE inline std::uint32_t claim_of(const LayerPlan& plan,
                                                             std::uint32_t set) {
  if (!plan.examined) return 0;
  if (plan.outcome == Outcome::non_finite) return claim_non_finite;
  if (plan.outcome == Outcome::busy) return claim_busy;
  if (plan.outcome == Outcome::pruned) return plan.kept + 1;
  const std::uint32_t reason = plan.outcome == Outcome::spread_out ? 1 : 0;
  return claim_all | ((most_sets - 1 - set) << 1) | reason;
}

/// What a layer does.
struct Agreement {
  bool examined = false;
  Outcome outcome = Outcome::nothing_to_drop;
  /// Tokens that each of its sets keeps.
  std::uint32_t kept = 0;
};

[[nodiscard]] LETHE_BLOCK_CODE inline Agreement agreement_of(std::uint32_t claim,
                                                             std::uint32_t tokens) {
  if (claim == 0) return {.kept = tokens};
  if (claim == claim_non_finite) return {true, Outcome::non_finite, tokens};
  if (claim == claim_busy) return {true, Outcome::busy, tokens};
  if (claim < claim_all && claim <= tokens) return {true, Outcome::pruned, claim - 1};
  const bool spread_out = claim >= claim_all && (claim & 1) != 0;
  return {true, spread_out ? Outcome::spread_out : Outcome::nothing_to_drop, tokens};
}

/// The largest of `count` claims.
template <ThreadBlock Block>
[[nodiscard]] LETHE_BLOCK_CODE std::uint32_t largest_claim(const Block& block,
                                                           const std::uint32_t* claims,
                                                           std::uint32_t count) {
  typename Block::template Registers<std::uint32_t, 1> own;
  block.lanes([&](unsigned lane) {
    own(lane, 0) = 0;
    for (std::uint32_t set = lane; set < count; set += Block::threads) {
      own(lane, 0) = own(lane, 0) < claims[set] ? claims[set] : own(lane, 0);
    }
  });
  return block.maximum(own);
}

}  // namespace detail
}  // namespace lethe::gpu
