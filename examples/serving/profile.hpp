#pragma once

#include <cstddef>
#include <string>

#include "model_shape.hpp"
#include "step_times.hpp"

namespace serving {

/// A machine that serves one model: what its steps take, and what its memories and link hold.
struct Profile {
  std::string name;
  ModelShape model;
  StepTimes times;
  std::size_t gpus = 1;
  bool is_of_run = false;         ///< the times are those of a folder as measured runs have it
  std::size_t device_blocks = 0;  ///< blocks of all layers that the device memory holds
  double link_bytes = 0;          ///< bytes a second between device and host, all GPUs together
};

/// What a GPU's data sheet says.
struct GpuSheet {
  std::string name;
  double memory_bytes = 0;
  double memory_bandwidth = 0;      ///< bytes a second
  double flops = 0;                 ///< bf16, dense
  double link_bandwidth = 0;        ///< to the host, bytes a second one way, as large copies reach
  double collective_bandwidth = 0;  ///< all-reduce: bytes of the buffer a second over NVLink
};

/// The GPU of that name (a100, h100, h200), however the rest of the name goes on.
/// Throws decoder::Error when there is none.
GpuSheet gpu_sheet(const std::string& name);

/// The step times of a measured run's kernels: dense.csv, attention.csv and per_sequence.csv of
/// `folder`. Throws decoder::Error naming file and row.
StepTimes measured_times(const std::string& folder, const ModelShape& model);

/// Step times from tables of kernels by shape: PREFIX_gemm_bf16.csv,
/// PREFIX_context_attention_bf16.csv and PREFIX_generation_attention_bf16.csv.
///
/// A product wider than the tables is as many of the widest one; one that is not in them lies
/// between its neighbours. What the tables lack is estimated from the data sheet: rows that are
/// only passed over (norms, activations) by memory bandwidth, all-reduce by collective bandwidth.
StepTimes kernel_times(const std::string& prefix, const ModelShape& model, const GpuSheet& gpu,
                       std::size_t gpus);

/// Step times from the data sheet alone: the larger of arithmetic and memory traffic, at two thirds
/// of its rates.
StepTimes estimated_times(const ModelShape& model, const GpuSheet& gpu, std::size_t gpus);

/// The last part of a path, with a slash behind it or not.
std::string short_name(const std::string& path);

/// The profile that `name` means: "estimate" (an H100 by its data sheet), a folder with dense.csv,
/// or a prefix of kernel tables that names its GPU.
///
/// @param utilisation  share of device memory that weights and cache take
Profile read_profile(const std::string& name, const ModelShape& model, std::size_t gpus,
                     std::size_t block_tokens, double utilisation = 0.9);

}  // namespace serving
