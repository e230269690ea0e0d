#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "real_loop.hpp"
#include "trace.hpp"
#include "workbench.hpp"

namespace serving {

/// What a queue of prompts is drawn from.
struct QueueSettings {
  std::size_t requests = 24;
  double rate = 1;  ///< arrivals a second, Poisson
  std::size_t shortest_input = 100;
  std::size_t longest_input = 400;
  std::size_t shortest_output = 30;
  std::size_t longest_output = 80;
  std::uint64_t seed = 1;
};

/// Prompts and when they arrive.
struct PromptQueue {
  Trace trace;
  Texts prompts;
};

/// Pieces of a text, each from a place of its own, with lengths drawn evenly.
///
/// @param text  empty: programs for the embedded reasoner
/// @throws decoder::Error for a text of fewer tokens than the longest prompt, and for requests that
///         exceed the model's context
PromptQueue make_queue(const decoder::Workbench& bench, const std::string& text,
                       const QueueSettings& settings);

}  // namespace serving
