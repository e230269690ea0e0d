#pragma once

#include <cstddef>
#include <cstdint>
#include <random>

#include "engine_settings.hpp"
#include "trace.hpp"

namespace serving::test {

inline Trace random_trace(std::mt19937_64& random, std::size_t requests, std::size_t longest) {
  Trace trace;
  double now = 0;
  for (std::size_t i = 0; i < requests; ++i) {
    now += static_cast<double>(random() % 1000) * 1e-5;
    trace.requests.push_back({.arrival = now,
                              .input = static_cast<std::uint32_t>(1 + random() % longest),
                              .output = static_cast<std::uint32_t>(1 + random() % 40)});
  }
  return trace;
}

inline EngineSettings random_settings(std::mt19937_64& random) {
  return {.batch_tokens = 8 + random() % 100,
          .sequences = 1 + random() % 12,
          .block_tokens = 1 + random() % 8,
          .has_prefix_cache = false,
          .reserves_prompt = random() % 2 == 0,
          .schedules_ahead = random() % 2 == 0};
}

inline std::size_t blocks_of(const Request& request, const EngineSettings& settings) {
  return (request.input + request.output + settings.block_tokens - 1) / settings.block_tokens;
}

}  // namespace serving::test
