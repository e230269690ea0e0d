/// Device memory of the runners, and a state in it.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "lethe/gpu/batch.hpp"
#include "lethe/gpu/state.hpp"
#include "lethe/gpu/status.hpp"

namespace gpu_test {

inline void require(const lethe::gpu::Status& status) {
  if (status.ok()) return;
  const char* error = cudaGetErrorString(static_cast<cudaError_t>(status.code));
  throw std::runtime_error(std::string(status.call) + ": " + error + " " + status.remedy);
}

inline void require(cudaError_t error, const char* call) {
  require(lethe::gpu::Status{static_cast<int>(error), call});
}

/// Device memory, poisoned.
class Buffer {
 public:
  explicit Buffer(std::size_t bytes) : bytes_(bytes) {
    require(cudaMalloc(&memory_, bytes), "cudaMalloc");
    require(cudaMemset(memory_, 0xAB, bytes), "cudaMemset");
  }
  ~Buffer() { static_cast<void>(cudaFree(memory_)); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  [[nodiscard]] void* get() const { return memory_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  void* memory_ = nullptr;
  std::size_t bytes_;
};

inline void copy(void* target, const void* source, std::size_t bytes) {
  require(cudaMemcpy(target, source, bytes, cudaMemcpyDefault), "cudaMemcpy");
}

/// A copy on the device of what lies on the host.
template <class T>
class Uploaded {
 public:
  Uploaded(const T* data, std::size_t count) : buffer_(count * sizeof(T)) {
    copy(buffer_.get(), data, count * sizeof(T));
  }
  explicit Uploaded(const std::vector<T>& data) : Uploaded(data.data(), data.size()) {}
  [[nodiscard]] T* get() const { return static_cast<T*>(buffer_.get()); }

 private:
  Buffer buffer_;
};

/// A batch's rows on the device.
class UploadedRows {
 public:
  explicit UploadedRows(const std::vector<std::int32_t>& batch)
      : slots_(batch), rows_(static_cast<std::uint32_t>(batch.size())) {}
  [[nodiscard]] lethe::gpu::Batch batch() const { return {slots_.get(), rows_}; }

 private:
  Uploaded<std::int32_t> slots_;
  std::uint32_t rows_;
};

[[nodiscard]] inline std::size_t state_bytes(const lethe::gpu::StateShape& shape) {
  std::size_t bytes = 0;
  lethe::gpu::State state;
  require(lethe::gpu::place_state(shape, nullptr, bytes, state));
  return bytes;
}

[[nodiscard]] inline std::size_t plan_bytes(const lethe::gpu::StateShape& shape) {
  std::size_t bytes = 0;
  lethe::gpu::PlanBuffers plans;
  require(lethe::gpu::place_plans(shape, nullptr, bytes, plans));
  return bytes;
}

/// A state and a round's buffers on the device.
struct DeviceState {
  explicit DeviceState(const lethe::gpu::StateShape& shape)
      : state_memory(state_bytes(shape)), plan_memory(plan_bytes(shape)) {
    std::size_t bytes = state_memory.bytes();
    require(lethe::gpu::place_state(shape, state_memory.get(), bytes, state));
    bytes = plan_memory.bytes();
    require(lethe::gpu::place_plans(shape, plan_memory.get(), bytes, plans));
    require(cudaStreamCreate(&stream), "cudaStreamCreate");
  }
  ~DeviceState() { static_cast<void>(cudaStreamDestroy(stream)); }

  DeviceState(const DeviceState&) = delete;
  DeviceState& operator=(const DeviceState&) = delete;

  /// Waits, so that memory of the call may go.
  void finish() const { require(cudaStreamSynchronize(stream), "cudaStreamSynchronize"); }

  Buffer state_memory;
  Buffer plan_memory;
  lethe::gpu::State state{};
  lethe::gpu::PlanBuffers plans{};
  cudaStream_t stream = nullptr;
};

}  // namespace gpu_test
