/// The fewest tokens that hold a share of a layer's mass, by one thread block: the host's
/// MassTarget.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/budget/mass_target.hpp"
#include "lethe/gpu/block.cuh"
#include "lethe/gpu/select.cuh"

namespace lethe::gpu::detail {

using MassShared = BinShared<std::uint64_t>;

/// The mass of a row's tokens for which admits(slot, key) is true.
template <ThreadBlock Block, class Row, class Admits>
[[nodiscard]] LETHE_BLOCK_CODE std::uint64_t sum_mass(const Block& block, const Row& row,
                                                      const lethe::detail::MassUnits& units,
                                                      Admits&& admits) {
  typename Block::template Registers<std::uint64_t, 1> sums;
  block.lanes([&](unsigned lane) {
    std::uint64_t sum = 0;
    row.visit(lane, [&](std::uint32_t slot, std::uint32_t key) {
      sum += admits(slot, key) ? units.of(key) : 0;
    });
    sums(lane, 0) = sum;
  });
  return block.sum(sums);
}

/// The cut through the tokens that covers(slot) leaves open, and how many of them it keeps, so that
/// with the covered ones they hold `share` of the row's mass; no token and no ties where those
/// alone do. largest: the row's largest score, above 0.
template <ThreadBlock Block, class Row, class Covers>
[[nodiscard]] LETHE_BLOCK_CODE lethe::detail::MassCut find_mass_target(const Block& block,
                                                                       MassShared& shared,
                                                                       const Row& row,
                                                                       float largest, double share,
                                                                       Covers&& covers) {
  const lethe::detail::MassUnits units(largest, row.tokens());
  const auto any = [](std::uint32_t, std::uint32_t) { return true; };
  const auto open = [&](std::uint32_t slot, std::uint32_t) { return !covers(slot); };
  const auto own = [](std::uint32_t, std::uint32_t key) { return key; };
  const auto mass = [&](std::uint32_t key) { return units.of(key); };
  const std::uint64_t all = sum_mass(block, row, units, any);
  const std::uint64_t held = all - sum_mass(block, row, units, open);
  const std::uint64_t target = lethe::detail::share_of_mass(all, share);
  if (target <= held) return {};
  const WeightedCut<std::uint64_t> found =
      find_weighted_cut(block, shared, row, target - held, open, own, mass);
  const std::size_t ties = lethe::detail::ties_for(found.rest, units.of(found.key));
  const std::uint32_t above = count_if(block, row, [&](std::uint32_t slot, std::uint32_t key) {
    return key > found.key && !covers(slot);
  });
  return {.cut = {found.key, ties}, .tokens = above + ties};
}

}  // namespace lethe::gpu::detail
