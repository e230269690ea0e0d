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
  std::size_t blocks = 0;     ///< of 16 tokens in all layers; 0: what the GPU's memory leaves
  double link_gigabytes = 0;  ///< a second and GPU to the host, one way; 0: the profile's
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
  std::string prompts;          ///< empty: prompts.jsonl of the run's folder, if it is there
  std::string shared_prefixes;  ///< a table instead; empty: one that comes with the program
  std::string model = "llama-3.1-8b";
  std::string json;
};

/// `serving fit`: of each part a table, else the profile's step times, else nothing.
struct FitOptions {
  std::string prefill;
  std::string decode;
  std::string transfer;
  std::string profile;  ///< empty: none
  std::string model = "llama-3.1-8b";
  std::size_t gpus = 1;
  double most_mean_error = 0.5;  ///< lethe::layerkv::FitConfig's
  std::string json;
};

/// How it is served.
struct ServiceOptions {
  double first_token = 3.0;  ///< objectives: LayerKV's (arXiv 2410.00428)
  double each_token = 0.2;
  std::size_t bound = 1024;  ///< tokens of a layer, of policies that prune
  double host_gigabytes = 128;
  std::uint32_t max_tokens = 0;          ///< LayeredSettings::most_output
  std::string costs;                     ///< what `serving fit` wrote; empty: fitted to the profile
  std::string preemption = "recompute";  ///< of vllm: or swap, or cheaper
  bool has_prefix_cache = false;  ///< of vllm; off, so that all policies compute the same prompts
};

/// `serving simulate`.
struct SimulateOptions {
  MachineOptions machine;
  WorkOptions work;
  ServiceOptions service;
  std::string policy = "vllm";
  std::string json;
};

/// `serving compare`.
struct CompareOptions {
  MachineOptions machine;
  WorkOptions work;
  ServiceOptions service;
  std::vector<std::string> policies{"vllm", "layerkv", "lethe", "layerkv+lethe"};
  std::vector<double> rates{0};  ///< each as WorkOptions::rate
  std::string report = "serving.html";
  std::string json;
};

void add_options(CLI::App& app, ValidateOptions& options);
void add_options(CLI::App& app, FitOptions& options);
void add_options(CLI::App& app, SimulateOptions& options);
void add_options(CLI::App& app, CompareOptions& options);

}  // namespace serving
