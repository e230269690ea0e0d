#pragma once

#include "options.hpp"
#include "run_options.hpp"

namespace serving {

/// Replays a measured run; figures beside each other. Returns 0 when all are within the bounds,
/// else
/// 1. All commands throw decoder::Error, std::invalid_argument or std::bad_alloc for what cannot be
/// done.
int validate(const ValidateOptions& options);

/// Serves one trace on one machine under one policy.
int simulate(const SimulateOptions& options);

/// Fits the library's cost model to measured tables; coefficients, errors, JSON.
int fit(const FitOptions& options);

/// Serves a trace under several policies at several rates: tables, a page, JSON.
int compare(const CompareOptions& options);

/// Serves a queue of prompts with the decoder, and simulates the same run. Returns 1 when policies
/// generate other tokens than the first of them.
int run(const RunOptions& options);

}  // namespace serving
