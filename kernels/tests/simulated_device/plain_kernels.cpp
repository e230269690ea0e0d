#include "../../benchmarks/plain_kernels.hpp"

#include <cstring>

#include "samples.hpp"

namespace gpu_bench {

/// What is read leaves nothing behind, so it need not be read here.
cudaError_t read_plainly(const void*, std::size_t, std::uint32_t*, cudaStream_t) {
  return cudaSuccess;
}

cudaError_t copy_plainly(void* target, const void* source, std::size_t bytes, cudaStream_t) {
  std::memcpy(target, source, bytes);
  return cudaSuccess;
}

cudaError_t fill_bfloat16(std::uint16_t* bits, std::size_t count, std::uint32_t seed,
                          cudaStream_t) {
  Samples samples(seed);
  for (std::size_t i = 0; i < count; ++i) {
    bits[i] = static_cast<std::uint16_t>((samples.word() >> 20 & 0x807Fu) | 0x3F00u);
  }
  return cudaSuccess;
}

cudaError_t fill_uniform(float* values, std::size_t count, float low, float high,
                         std::uint32_t seed, cudaStream_t) {
  Samples samples(seed);
  for (std::size_t i = 0; i < count; ++i) values[i] = samples.between(low, high);
  return cudaSuccess;
}

}  // namespace gpu_bench
