/// When blocks run out: which requests give way, and how they come back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "lethe/config.hpp"
#include "lethe/layerkv/costs.hpp"
#include "lethe/layerkv/placement.hpp"

namespace lethe::layerkv {

/// A running request, as preemption sees it.
struct RunningRequest {
  double arrival = 0;
  std::size_t device_blocks = 0;
};

/// Who gives way.
struct Preemption {
  /// How many of the places given are filled in, and the blocks that these requests hold.
  std::size_t requests = 0;
  std::size_t blocks = 0;

  bool operator==(const Preemption&) const = default;
};

/// Chooses the requests that came last until they hold `wanted` blocks, as engines do: the first
/// come is finished first. Of equal arrivals the later in the list goes. Requests that hold nothing
/// are passed over.
/// victims: where their places in `running` are written, the latest first; it ends when they are
/// full. When all together hold fewer blocks, all are chosen. O(running x victims).
[[nodiscard]] inline Preemption choose_victims(std::span<const RunningRequest> running,
                                               std::size_t wanted, std::span<std::size_t> victims) {
  Preemption chosen;
  constexpr std::size_t none = std::numeric_limits<std::size_t>::max();
  std::size_t last = none;
  // Whether `a` gives way before `b`.
  const auto later = [running](std::size_t a, std::size_t b) {
    if (running[a].arrival != running[b].arrival) return running[a].arrival > running[b].arrival;
    return a > b;
  };
  while (chosen.blocks < wanted && chosen.requests < victims.size()) {
    std::size_t next = none;
    for (std::size_t i = 0; i < running.size(); ++i) {
      if (running[i].device_blocks == 0 || (last != none && !later(last, i))) continue;
      if (next == none || later(i, next)) next = i;
    }
    if (next == none) break;
    victims[chosen.requests++] = next;
    chosen.blocks += running[next].device_blocks;
    last = next;
  }
  return chosen;
}

/// How a preempted request comes back.
enum class Resume : std::uint8_t {
  /// Its tokens, the generated ones included, are computed again.
  recompute,
  /// Its layers are copied to the host, and back.
  swap,
};

/// A choice, and what either would cost.
struct ResumeChoice {
  Resume resume = Resume::recompute;
  double recompute_seconds = 0;
  /// `never` when the host lacks the blocks or there is no link.
  double swap_seconds = never;

  bool operator==(const ResumeChoice&) const = default;
};

/// The cheaper of computing a request's tokens again and copying its layers out and in; of equals
/// the first, which needs no blocks on the host.
///
/// tokens: cached by a layer. device_layers: those that would have to leave; others are on the host
/// already, and lost when it is recomputed. chunk: tokens of a prefill pass; 0: one pass. O(1).
[[nodiscard]] inline ResumeChoice choose_resume(const Costs& costs, const CacheShape& shape,
                                                std::size_t tokens, std::size_t device_layers,
                                                std::size_t free_host_blocks, std::size_t chunk = 0,
                                                double link_share = 1) {
  LETHE_ASSERT(device_layers <= shape.layers);
  ResumeChoice choice;
  choice.recompute_seconds = costs.prefill.seconds({tokens, 0}, chunk);
  const std::size_t blocks = blocks_of(shape, tokens);
  if (blocks == 0 || free_host_blocks / blocks >= device_layers) {
    const double way = costs.copy.seconds(copy_of(shape, device_layers, tokens), link_share);
    choice.swap_seconds = way < never / 2 ? 2 * way : never;
  }
  if (choice.swap_seconds < choice.recompute_seconds) choice.resume = Resume::swap;
  return choice;
}

}  // namespace lethe::layerkv
