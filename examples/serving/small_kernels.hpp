#pragma once

#include <vector>

#include "profile.hpp"

namespace serving {

/// Seconds of a step's small kernels by its tokens, estimated: norms, activations and rotations
/// read and write their rows at memory bandwidth and take 2 us each at least; two all-reduces a
/// layer take 10 us and their bytes at collective bandwidth, where there are several GPUs.
Curve small_kernels(const ModelShape& model, const GpuSheet& gpu, std::size_t gpus,
                    const std::vector<double>& tokens);

}  // namespace serving
