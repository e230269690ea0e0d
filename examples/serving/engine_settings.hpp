#pragma once

#include <cstddef>
#include <string>

namespace serving {

/// What an engine allows; the defaults are vLLM's.
struct EngineSettings {
  std::size_t batch_tokens = 2048;  ///< in one step (max_num_batched_tokens)
  std::size_t sequences = 256;      ///< in one step (max_num_seqs)
  std::size_t block_tokens = 16;
  bool has_prefix_cache = true;
  /// A prompt is admitted when all of it fits (scheduler_reserve_full_isl), not its first part
  /// only.
  bool reserves_prompt = true;
  /// A step is decided while the one before it runs (async scheduling).
  bool schedules_ahead = true;

  /// Blocks of a layer that holds so many tokens.
  std::size_t blocks_of(std::size_t tokens) const {
    return (tokens + block_tokens - 1) / block_tokens;
  }
};

}  // namespace serving
