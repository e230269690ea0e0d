#include "profile.hpp"

#include <algorithm>
#include <array>
#include <filesystem>

#include "error.hpp"
#include "one_line.hpp"

namespace serving {
namespace {

namespace fs = std::filesystem;

constexpr double giga = 1e9;
constexpr double gib = 1 << 30;
/// What activations and the runtime take of each GPU besides weights and cache.
constexpr double other_bytes = 2 * gib;

/// NVIDIA's data sheets; links and collectives as large copies reach them, about 0.8 of the
/// sheet's.
const std::array<GpuSheet, 4>& sheets() {
  static const std::array<GpuSheet, 4> known{
      GpuSheet{"a100", 80 * giga, 2039 * giga, 312e12, 25 * giga, 200 * giga},
      GpuSheet{"h100", 80 * giga, 3350 * giga, 989e12, 50 * giga, 300 * giga},
      GpuSheet{"h200", 141 * giga, 4800 * giga, 989e12, 50 * giga, 300 * giga},
      GpuSheet{"rtx4090", 24 * giga, 1008 * giga, 165e12, 25 * giga, 20 * giga}};
  return known;
}

std::size_t device_blocks(const ModelShape& model, const GpuSheet& gpu, std::size_t gpus,
                          std::size_t block_tokens, double utilisation) {
  const auto count = static_cast<double>(gpus);
  const double weights = model.parameters() * static_cast<double>(model.value_bytes);
  const double left = count * (utilisation * gpu.memory_bytes - other_bytes) - weights;
  const double block = static_cast<double>(model.token_bytes() * model.layers * block_tokens);
  if (left < block)
    throw decoder::Error("the weights of " + model.name + " leave no room on " +
                         std::to_string(gpus) + " x " + gpu.name + ": take more --gpus");
  return static_cast<std::size_t>(left / block);
}

StepTimes times_of(const std::string& name, const ModelShape& model, const GpuSheet& gpu,
                   std::size_t gpus) {
  if (name == "estimate") return estimated_times(model, gpu, gpus);
  if (!fs::exists(name + "/dense.csv")) return kernel_times(name, model, gpu, gpus);
  if (gpus > 1)
    throw decoder::Error("--gpus: " + decoder::one_line(name) + " was measured on one GPU");
  return measured_times(name, model);
}

}  // namespace

GpuSheet gpu_sheet(const std::string& name) {
  for (const GpuSheet& sheet : sheets())
    if (name.rfind(sheet.name, 0) == 0) return sheet;
  throw decoder::Error(decoder::one_line(name) +
                       ": is no GPU known here: begin its name with a100, h100, h200 or rtx4090");
}

std::string short_name(const std::string& path) {
  const fs::path whole(path);
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

Profile read_profile(const std::string& name, const ModelShape& model, std::size_t gpus,
                     std::size_t block_tokens, double utilisation) {
  std::error_code unknown;
  const bool is_folder = fs::exists(name + "/dense.csv", unknown);
  if (name != "estimate" && !is_folder && !fs::exists(name + "_gemm_bf16.csv", unknown))
    throw decoder::Error("there is no profile " + decoder::one_line(name) +
                         ": take estimate, a folder with dense.csv, or the beginning of tables' "
                         "names such as profiles/a100_sxm");
  const std::string called = short_name(name);
  const GpuSheet gpu = gpu_sheet(name == "estimate" ? "h100" : called);
  return {.name = called,
          .model = model,
          .times = times_of(name, model, gpu, gpus),
          .gpus = gpus,
          .is_of_run = is_folder,
          .device_blocks = device_blocks(model, gpu, gpus, block_tokens, utilisation),
          .link_bytes = static_cast<double>(gpus) * gpu.link_bandwidth};
}

}  // namespace serving
