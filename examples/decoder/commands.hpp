#pragma once

#include "options.hpp"

namespace decoder {

/// Writes a text. Returns the exit status: 0, or 130 when Ctrl-C ended it early (all commands).
///
/// All commands throw Error, std::invalid_argument or std::bad_alloc for what cannot be done.
int generate(const GenerateOptions& options);

/// Decodes one text with the whole cache and with pruned ones; tables, a report, JSON.
int compare(const CompareOptions& options);

/// Measures speed and bytes by context length, batch and policy.
int bench(const BenchOptions& options);

/// Scores a text file under a policy, beside the whole cache.
int perplexity(const PerplexityOptions& options);

/// Feeds recorded attention to policies: what each of them loses, layer by layer.
int replay(const ReplayOptions& options);

/// Exit status of a command that ran to its end, or was interrupted.
int exit_status();

}  // namespace decoder
