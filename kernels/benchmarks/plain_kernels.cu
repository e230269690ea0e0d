#include "plain_kernels.hpp"

namespace gpu_bench {
namespace {

constexpr unsigned threads = 512;
constexpr unsigned unrolled = 4;

/// Blocks that fill every multiprocessor; they stride over the data.
unsigned blocks() {
  int device = 0;
  int processors = 1;
  static_cast<void>(cudaGetDevice(&device));
  static_cast<void>(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
  return static_cast<unsigned>(processors) * 4;
}

/// Calls use(i) for every i below count, `unrolled` of a thread at a time.
template <class Load, class Use>
__device__ void stride(std::size_t count, Load load, Use use) {
  const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
  std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (; i + (unrolled - 1) * step < count; i += unrolled * step) {
    uint4 items[unrolled];
#pragma unroll
    for (unsigned k = 0; k < unrolled; ++k) items[k] = load(i + k * step);
#pragma unroll
    for (unsigned k = 0; k < unrolled; ++k) use(i + k * step, items[k]);
  }
  for (; i < count; i += step) use(i, load(i));
}

__global__ void __launch_bounds__(threads)
    read_kernel(const uint4* data, std::size_t count, std::uint32_t* sink) {
  std::uint32_t seen = 0;
  stride(
      count, [&](std::size_t i) { return data[i]; },
      [&](std::size_t, const uint4& item) { seen ^= item.x ^ item.y ^ item.z ^ item.w; });
  // Seldom true, and not for the compiler to know.
  if (seen == 0x9E3779B9u) atomicAdd(sink, 1u);
}

__global__ void __launch_bounds__(threads)
    copy_kernel(uint4* target, const uint4* source, std::size_t count) {
  stride(
      count, [&](std::size_t i) { return source[i]; },
      [&](std::size_t i, const uint4& item) { target[i] = item; });
}

__device__ std::uint32_t mixed(std::uint64_t number) {
  number *= 0x9E3779B97F4A7C15u;
  number ^= number >> 32;
  number *= 0xD6E8FEB86659FD93u;
  return static_cast<std::uint32_t>(number >> 32);
}

__global__ void bfloat16_kernel(std::uint16_t* bits, std::size_t count, std::uint32_t seed) {
  const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    const std::uint32_t word = mixed(std::uint64_t{seed} << 40 ^ i);
    bits[i] = static_cast<std::uint16_t>((word & 0x807Fu) | 0x3F00u);
  }
}

__global__ void uniform_kernel(float* values, std::size_t count, float low, float high,
                               std::uint32_t seed) {
  const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    const float share = static_cast<float>(mixed(std::uint64_t{seed} << 40 ^ i) >> 8) * 0x1p-24f;
    values[i] = low + (high - low) * share;
  }
}

}  // namespace

cudaError_t read_plainly(const void* data, std::size_t bytes, std::uint32_t* sink,
                         cudaStream_t stream) {
  read_kernel<<<blocks(), threads, 0, stream>>>(static_cast<const uint4*>(data), bytes / 16, sink);
  return cudaGetLastError();
}

cudaError_t copy_plainly(void* target, const void* source, std::size_t bytes, cudaStream_t stream) {
  copy_kernel<<<blocks(), threads, 0, stream>>>(static_cast<uint4*>(target),
                                                static_cast<const uint4*>(source), bytes / 16);
  return cudaGetLastError();
}

cudaError_t fill_bfloat16(std::uint16_t* bits, std::size_t count, std::uint32_t seed,
                          cudaStream_t stream) {
  bfloat16_kernel<<<blocks(), threads, 0, stream>>>(bits, count, seed);
  return cudaGetLastError();
}

cudaError_t fill_uniform(float* values, std::size_t count, float low, float high,
                         std::uint32_t seed, cudaStream_t stream) {
  uniform_kernel<<<blocks(), threads, 0, stream>>>(values, count, low, high, seed);
  return cudaGetLastError();
}

}  // namespace gpu_bench
