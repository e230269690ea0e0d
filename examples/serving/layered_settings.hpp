#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <lethe/layerkv/costs.hpp>
#include <lethe/layerkv/placement.hpp>
#include <vector>

#include "engine_settings.hpp"

namespace serving {

/// What steps of a pruned request take at most, so that its rounds come at the same tokens however
/// it is served: rounds depend on them. A prompt comes in pieces that end at the same places, and
/// what was generated token by token, also when it is computed again.
struct RoundSteps {
  /// Tokens of a piece that ends at or before first_round; 0: rounds are not heeded.
  std::size_t early_piece = 0;
  std::size_t late_piece = 0;   ///< tokens of a later one
  std::size_t first_round = 0;  ///< length of a layer before which none is examined

  bool are_heeded() const { return early_piece > 0; }
  /// Tokens of the step behind `computed` tokens, of a prompt of `input`.
  std::size_t tokens(std::size_t computed, std::size_t input) const {
    if (computed >= input) return 1;
    const std::size_t left = input - computed;
    if (computed >= first_round) return std::min(left, late_piece);
    return std::min({left, early_piece, first_round - computed});
  }
};

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
  /// How rounds of real pruners fall; without, bounds are a flat cap.
  RoundSteps rounds;
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
