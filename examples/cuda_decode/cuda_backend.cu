#include "cuda_backend.hpp"

#include <cuda_runtime.h>

#include <memory>

#include "backend.hpp"
#include "cuda_device.cuh"

namespace cuda_decode {

bool has_device() {
  int devices = 0;
  const bool found = cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
  static_cast<void>(cudaGetLastError());
  return found;
}

namespace {

template <class Numbers>
std::unique_ptr<Backend> backend() {
  if (!has_device())
    throw decoder::Error("there is no CUDA device: `decoder` runs the same models on the CPU");
  return std::make_unique<BackendOn<CudaDevice, Numbers>>(CudaDevice());
}

}  // namespace

std::unique_ptr<Backend> exact_backend() { return backend<Exact>(); }
std::unique_ptr<Backend> fast_backend() { return backend<Fast>(); }

}  // namespace cuda_decode
