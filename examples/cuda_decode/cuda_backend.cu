#include "cuda_backend.hpp"

#include <cuda_runtime.h>

#include <memory>
#include <string>

#include "backend.hpp"
#include "cuda_device.cuh"
#include "devices.hpp"

namespace cuda_decode {

bool has_device() {
  const naive::Devices found = naive::find_devices();
  if (found.error != cudaSuccess)
    throw decoder::Error(std::string("cudaGetDeviceCount: ") + cudaGetErrorName(found.error) +
                         ": is the driver as new as the CUDA runtime, and the device sound?");
  return found.count != 0;
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
