#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace serving {

/// One request of a trace.
struct Request {
  double arrival = 0;             ///< seconds after the trace began
  std::uint32_t input = 0;        ///< tokens of the prompt, 1 or more
  std::uint32_t output = 0;       ///< tokens that will be generated, 1 or more
  std::uint32_t most_output = 0;  ///< that its client allows (max_tokens); 0: it does not say
  std::uint32_t first_hash = 0;
  std::uint32_t hashes =
      0;  ///< of trace.hashes, from first_hash on; 0: nothing known of the prompt
};

/// Requests in the order of their arrival.
struct Trace {
  std::string name;
  std::vector<Request> requests;
  /// Of each `hash_tokens` tokens of the prompts a number that stands for them and all before them:
  /// prompts that begin alike begin with the same numbers.
  std::vector<std::uint64_t> hashes;
  std::size_t hash_tokens = 0;

  std::span<const std::uint64_t> prompt(const Request& request) const {
    return std::span(hashes).subspan(request.first_hash, request.hashes);
  }
};

/// The longest prompt or answer that a trace may have; more is a mistake.
inline constexpr std::size_t most_tokens = std::size_t{1} << 24;

/// Reads a trace, of the kind that its first line shows:
///
/// - CSV with arrival_s, input_tokens, output_tokens (seconds) and, if it likes, max_tokens, or
/// with
///   the Azure traces' headings TIMESTAMP, ContextTokens, GeneratedTokens (a date and a time);
/// - JSON lines with the Mooncake traces' timestamp (ms), input_length, output_length and hash_ids
///   (one for each 512 tokens of the prompt; may be absent).
///
/// @throws decoder::Error naming the file and the row: malformed, out of order, lengths that are
/// not
///         in [1, most_tokens]
/// Complexity: O(file).
Trace read_trace(const std::string& path);

/// Gives a trace the hashes of its prompts, for each whole block of `block_tokens` tokens.
///
/// @param path  JSON lines, one a request in the trace's order, each with an array input_tok_ids
/// @throws decoder::Error as read_trace, and where a prompt's length is not the trace's
void read_prompts(const std::string& path, std::size_t block_tokens, Trace& trace);

/// What a made-up trace is drawn from.
struct SyntheticTrace {
  std::size_t requests = 200;
  double rate = 4;             ///< arrivals a second, Poisson
  double input_median = 1024;  ///< log-normal lengths, as in conversations
  double input_spread = 1.0;   ///< of the logarithm
  double output_median = 192;
  double output_spread = 0.6;
  std::size_t longest = 16384;  ///< of a prompt; answers a quarter of that
  std::uint64_t seed = 1;
};

/// A trace drawn from these; the same settings give the same trace on every machine. O(requests).
Trace synthetic_trace(const SyntheticTrace& settings);

/// Requests arrive `factor` times as fast; above 0.
void speed_up(Trace& trace, double factor);

}  // namespace serving
