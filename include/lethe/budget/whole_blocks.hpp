/// As many tokens as stay when whole blocks go. Block-granular H2O, ChunkKV.
#pragma once

#include <algorithm>
#include <cstddef>

#include "lethe/budget.hpp"

namespace lethe {

/// Settings of WholeBlocks.
struct WholeBlocksConfig {
  /// Tokens of a block, as in Blocks.
  std::size_t block = 16;
  /// Tokens a layer keeps in full blocks at a round, protected ones included; what an unfinished
  /// block holds comes on top. 0: as many as the cap leaves.
  std::size_t budget = 0;

  bool operator==(const WholeBlocksConfig&) const = default;
};

/// Of n tokens, in floor(n / block) full blocks, as many full blocks go as exceed the budget, and
/// more where the cap asks for it (OpenVINO GenAI's rule).
class WholeBlocks {
 public:
  using Config = WholeBlocksConfig;
  /// Throws std::invalid_argument when block is 0, or the budget holds no block.
  explicit WholeBlocks(const Config& config) : config_(config) {
    detail::require(config.block >= 1, "block", config.block, "choose at least 1 token");
    detail::require(config.budget == 0 || config.budget >= config.block, "budget", config.budget,
                    "choose at least one block");
  }

  [[nodiscard]] Budget budget(const LayerScores& layer) const {
    const std::size_t tokens = layer.scores.size();
    const std::size_t full = tokens / config_.block;
    const std::size_t most = config_.budget != 0 ? config_.budget / config_.block : full;
    const std::size_t beyond_budget = full - std::min(full, most);
    const std::size_t beyond_cap = tokens - std::min(tokens, layer.limit);
    const std::size_t for_cap = (beyond_cap + config_.block - 1) / config_.block;
    const std::size_t gone = std::min(full, std::max(beyond_budget, for_cap));
    return {.tokens = tokens - gone * config_.block};
  }

 private:
  Config config_;
};
static_assert(BudgetAllocator<WholeBlocks>);

}  // namespace lethe
