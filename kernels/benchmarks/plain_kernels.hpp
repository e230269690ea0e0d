/// The floors: kernels that only read, or only copy; and one that fills memory.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace gpu_bench {

/// Reads `bytes`, a multiple of 16, and adds something of them to *sink.
[[nodiscard]] cudaError_t read_plainly(const void* data, std::size_t bytes, std::uint32_t* sink,
                                       cudaStream_t stream);

/// Copies `bytes`, a multiple of 16, between pieces of memory that do not overlap.
[[nodiscard]] cudaError_t copy_plainly(void* target, const void* source, std::size_t bytes,
                                       cudaStream_t stream);

/// Random numbers of bfloat16, of either sign and of magnitudes from 0.5 to 1.
[[nodiscard]] cudaError_t fill_bfloat16(std::uint16_t* bits, std::size_t count, std::uint32_t seed,
                                        cudaStream_t stream);
/// Uniform numbers in [low, high).
[[nodiscard]] cudaError_t fill_uniform(float* values, std::size_t count, float low, float high,
                                       std::uint32_t seed, cudaStream_t stream);

}  // namespace gpu_bench
