#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "engine_settings.hpp"
#include "profile.hpp"
#include "results.hpp"
#include "trace.hpp"

namespace serving {

/// A run of a real engine that was measured: what came in, on what it ran, and what came of it.
struct MeasuredRun {
  Trace trace;
  Profile profile;
  EngineSettings settings;
  std::vector<Served> served;  ///< as measured
  double makespan = 0;
  std::string dataset;  ///< the SHA-256 of the workload that was sent; empty: not noted
};

/// Reads a folder with requests.csv (arrival_s, input_tokens, output_tokens and the measured
/// queue_s, ttft_s, e2e_s), meta.json (vLLM's resolved settings) and the tables of the machine's
/// kernels.
///
/// Throws decoder::Error that names the file.
MeasuredRun read_measured_run(const std::string& folder, const ModelShape& model);

}  // namespace serving
