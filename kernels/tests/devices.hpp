/// Which CUDA devices a program has, told apart from a runtime that cannot say.
#pragma once

#include <cuda_runtime_api.h>

namespace naive {

/// What the runtime says of its devices.
struct Devices {
  int count = 0;
  cudaError_t error = cudaSuccess;  ///< anything else: there may be devices, and none can be used
};

/// Counts them. No device and no driver are a count of 0; a driver that is too old for the runtime
/// is an error, though the runtime has the same name for it as for none at all.
[[nodiscard]] inline Devices find_devices() {
  Devices found;
  found.error = cudaGetDeviceCount(&found.count);
  if (found.error == cudaSuccess) return found;
  static_cast<void>(cudaGetLastError());
  int driver = 0;
  const bool lacks_driver = found.error == cudaErrorInsufficientDriver &&
                            cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0;
  if (lacks_driver || found.error == cudaErrorNoDevice) return {};
  return {0, found.error};
}

}  // namespace naive
