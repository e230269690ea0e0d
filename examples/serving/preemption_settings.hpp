#pragma once

#include <cstddef>
#include <lethe/layerkv/costs.hpp>
#include <lethe/layerkv/placement.hpp>
#include <lethe/layerkv/preemption.hpp>
#include <optional>

namespace serving {

/// What becomes of a request that gives way, where all layers share one table.
struct PreemptionSettings {
  /// How it comes back; none: the cheaper way. Where the host lacks the blocks it is recomputed.
  std::optional<lethe::layerkv::Resume> resume = lethe::layerkv::Resume::recompute;
  std::size_t host_blocks = 0;  ///< of all layers
  lethe::layerkv::CacheShape shape;
  lethe::layerkv::Costs costs;

  bool may_swap() const { return resume != lethe::layerkv::Resume::recompute; }
};

}  // namespace serving
