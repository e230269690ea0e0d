#pragma once

#include <cstddef>
#include <cstdint>
#include <lethe/layerkv/costs.hpp>
#include <lethe/layerkv/placement.hpp>
#include <vector>

#include "engine_settings.hpp"

namespace serving {

/// What an engine with a block table a layer does.
struct LayeredSettings {
  EngineSettings engine;
  bool offloads = true;     ///< layers may lie on the host; else all of a request on the device
  bool interleaves = true;  ///< the layers that stay are spread evenly
  bool minds_slack = true;  ///< prompts wait while a decoding request would miss its target
  /// A request with layers on the host decodes only in steps behind which fetching them hides; else
  /// in every step, however long it waits for the link.
  bool hides_fetches = true;
  /// Prompts wait for a decoding request that misses its target anyway, too.
  bool heeds_missed = true;
  /// Layers that stay are counted with what later chunks of a prompt fetch again.
  bool counts_fetches = true;
  double each_token = 0.2;  ///< that target, seconds a token
  /// Most tokens that a layer holds, by layer: a pruner's bounds; empty: none.
  std::vector<std::uint32_t> bounds;
  /// Tokens that the engine takes an answer to come to at most whose request does not say; 0: as
  /// many as it will come to, which no engine knows.
  std::uint32_t most_output = 0;
  std::size_t device_blocks = 0;  ///< of one layer each
  std::size_t host_blocks = 0;
  std::size_t longest = 0;  ///< tokens of the longest request
  lethe::layerkv::CacheShape shape;
  lethe::layerkv::Costs costs;
};

}  // namespace serving
