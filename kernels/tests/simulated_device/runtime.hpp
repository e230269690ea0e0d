/// A CUDA runtime whose device is the host: memory is the host's, streams do their work at once,
/// kernels are functions. So that programs for a device are themselves tested without one.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

#include "lethe/gpu/status.hpp"

namespace simulated_device {

/// A kernel: done at once, or recorded where the stream captures.
[[nodiscard]] lethe::gpu::Status launch(const char* name, cudaStream_t stream,
                                        std::function<void()> kernel);

}  // namespace simulated_device
