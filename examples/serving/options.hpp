#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace serving {

/// What serves.
struct MachineOptions {
  std::string profile = "estimate";
  std::string model = "llama-3.1-8b";
  std::size_t gpus = 1;
};

/// What is served.
struct WorkOptions {
  std::string trace;         ///< empty: a made-up one
  double rate = 0;           ///< mean requests a second; 0: as the trace has it
  std::size_t requests = 0;  ///< the first so many; 0: all
  std::uint64_t seed = 1;    ///< of the made-up trace
};

/// `serving validate`.
struct ValidateOptions {
  std::string run;
  std::string prompts;  ///< empty: prompts.jsonl of the run's folder, if it is there
  std::string model = "llama-3.1-8b";
  std::string json;
};

/// `serving simulate`.
struct SimulateOptions {
  MachineOptions machine;
  WorkOptions work;
  std::string policy = "vllm";
  double first_token = 3.0;
  double each_token = 0.2;
  std::string json;
};

void add_options(CLI::App& app, ValidateOptions& options);
void add_options(CLI::App& app, SimulateOptions& options);

}  // namespace serving
