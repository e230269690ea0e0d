/// A kernel's launch, whose error is a status that names it.
#pragma once

#include <cuda_runtime.h>

#include "lethe/gpu/status.hpp"

namespace lethe::gpu::detail {

/// Launches on the caller's stream. A launch that fails leaves no error behind for the engine's
/// next cudaGetLastError.
template <class... Arguments>
[[nodiscard]] Status launch_blocks(const char* name, void (*kernel)(Arguments...), dim3 grid,
                                   unsigned threads, cudaStream_t stream,
                                   const Arguments&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.stream = stream;
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, arguments...);
  if (error == cudaSuccess) return {};
  static_cast<void>(cudaGetLastError());
  return {static_cast<int>(error), name};
}

}  // namespace lethe::gpu::detail
