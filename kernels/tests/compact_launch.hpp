/// lethe::gpu::compact for code that nvcc does not compile.
#pragma once

#include <cuda_runtime_api.h>

#include "lethe/gpu/compaction.hpp"
#include "lethe/gpu/status.hpp"

lethe::gpu::Status launch_compact(const lethe::gpu::Compaction& compaction, cudaStream_t stream);
