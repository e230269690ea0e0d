// Times what lethe does on the CUDA device that is there, against floors in the same run.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench.hpp"
#include "device_memory.hpp"
#include "options.hpp"
#include "rows.hpp"

namespace gpu_bench {
namespace {

Machine machine() {
  cudaDeviceProp properties{};
  require(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  Machine made{.device = properties.name,
               .multiprocessors = properties.multiProcessorCount,
               .l2_bytes = static_cast<std::uint64_t>(properties.l2CacheSize)};
  require(cudaDriverGetVersion(&made.driver), "cudaDriverGetVersion");
  require(cudaRuntimeGetVersion(&made.runtime), "cudaRuntimeGetVersion");
  return made;
}

/// The case, cut down to what is free; says so.
Case sizes_for(bool quick) {
  std::size_t free = 0;
  std::size_t whole = 0;
  require(cudaMemGetInfo(&free, &whole), "cudaMemGetInfo");
  const Case wanted = quick ? quick_case : Case{};
  const Case sizes = fitted(wanted, free);
  if (sizes != wanted) {
    std::printf("scaled down: %.1f GB of device memory are free, the whole case takes %.1f GB\n",
                static_cast<double>(free) * 1e-9, static_cast<double>(needed_bytes(wanted)) * 1e-9);
  }
  std::printf(
      "%u layers, batch %u, %u query heads over %u of %u bfloat16 channels, %u tokens, %u "
      "kept\n",
      sizes.layers, sizes.batch, sizes.query_heads, sizes.heads, sizes.channels, sizes.tokens,
      sizes.kept);
  return sizes;
}

std::vector<Row> measure_all(const Options& options, const Case& sizes) {
  const Bench bench(sizes, options.quick);
  std::fputs(table_head().c_str(), stdout);
  std::vector<Row> rows;
  for (const Entry& entry : all_entries()) {
    if (entry.name.find(options.filter) == std::string::npos) continue;
    try {
      rows.push_back(entry.measure(entry.name, bench));
    } catch (const std::exception& error) {
      throw std::runtime_error(entry.name + ": " + error.what());
    }
    std::fputs(table_line(rows.back()).c_str(), stdout);
    std::fflush(stdout);
  }
  return rows;
}

/// A bad argument that only trying finds out.
struct BadFile : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void run(const Options& options) {
  std::ofstream file;
  if (!options.json.empty()) {
    file.open(options.json);
    if (!file) throw BadFile("--json " + options.json + ": cannot be written");
  }
  const Machine here = machine();
  std::printf("%s, %d multiprocessors, %.0f MB of L2, driver %d, runtime %d\n", here.device.c_str(),
              here.multiprocessors, static_cast<double>(here.l2_bytes) * 1e-6, here.driver,
              here.runtime);
  const Case sizes = sizes_for(options.quick);
  const std::vector<Row> rows = measure_all(options, sizes);
  if (!options.json.empty() && !(file << json_of(here, sizes, rows) << std::flush)) {
    throw BadFile("--json " + options.json + ": cannot be written");
  }
}

}  // namespace
}  // namespace gpu_bench

int main(int count, char** arguments) {
  std::vector<std::string> names;
  for (const gpu_bench::Entry& entry : gpu_bench::all_entries()) names.push_back(entry.name);
  const gpu_bench::Parsed parsed = gpu_bench::parse(count, arguments, names);
  if (!parsed.options) return parsed.status;
  if (!naive::has_device()) return 0;
  try {
    gpu_bench::run(*parsed.options);
  } catch (const gpu_bench::BadFile& error) {
    std::fprintf(stderr, "gpu_bench: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gpu_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
