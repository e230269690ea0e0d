#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trace.hpp"

namespace serving {

/// A prompt that begins as an earlier one's does. Requests by their number in the trace, from 1 on.
struct SharedPrefix {
  std::uint32_t request = 0;
  std::uint32_t continues = 0;  ///< of the earlier requests the first with which it shares most
  std::uint32_t tokens = 0;     ///< that both begin with
};

/// Which prompts of a known workload continue another's, by the SHA-256 of the workload's file, in
/// hexadecimal, as vLLM's benchmark notes it; none: unknown.
std::span<const SharedPrefix> known_prefixes(std::string_view dataset);

/// Reads a table with request, continues and tokens; scripts/shared_prefixes.py makes one.
///
/// @throws decoder::Error naming the file and the row: malformed, requests out of order or not in
///         the trace, more tokens than a prompt has
std::vector<SharedPrefix> read_shared_prefixes(const std::string& path, const Trace& trace);

/// Whether the trace has these requests, with prompts as long as what they share.
bool are_of(std::span<const SharedPrefix> shared, const Trace& trace);

/// Gives a trace hashes of its prompts, for each whole block of `block_tokens` tokens, that are
/// alike where prompts are. shared: of this trace (are_of), in the order of requests. O(blocks of
/// all prompts).
void share_prefixes(std::span<const SharedPrefix> shared, std::size_t block_tokens, Trace& trace);

}  // namespace serving
