/// The CUDA device as a model of Device: one stream, cuBLAS for the products.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "device.hpp"
#include "error.hpp"
#include "lethe/gpu/block.cuh"
#include "lethe/gpu/compact.cuh"
#include "lethe/gpu/observe.cuh"
#include "lethe/gpu/round.cuh"
#include "numbers.cuh"
#include "stepper.hpp"

namespace cuda_decode {

/// Blocks that a processor's registers have to hold at a time, where a kernel asks for it.
template <class Kernel>
inline constexpr unsigned least_blocks = [] {
  if constexpr (requires { Kernel::least_blocks; }) return Kernel::least_blocks;
  return 1u;
}();

template <class Kernel>
__global__ void __launch_bounds__(Kernel::threads, least_blocks<Kernel>)
    run_kernel(const __grid_constant__ Kernel kernel) {
  using Shared = typename Kernel::Shared;
  using Block = lethe::gpu::DeviceBlock<Kernel::threads>;
  __shared__ typename Block::Storage storage;
  // Raw, since shared memory may have no initialisers.
  __shared__ alignas(16) unsigned char shared[sizeof(Shared)];
  kernel.run(Block(storage), reinterpret_cast<Shared&>(shared),
             Index{blockIdx.x, blockIdx.y, blockIdx.z});
}

inline void require(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());
  throw decoder::Error(std::string(call) + ": " + cudaGetErrorString(error));
}
inline void require(const lethe::gpu::Status& status) {
  if (status.ok()) return;
  const char* error = cudaGetErrorString(static_cast<cudaError_t>(status.code));
  throw decoder::Error(std::string(status.call) + ": " + error + " " + status.remedy);
}
inline void require(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  const std::string what = std::string(call) + ": " + cublasGetStatusString(status);
  if (status == CUBLAS_STATUS_ALLOC_FAILED) throw OutOfMemory(what);
  throw decoder::Error(what);
}

[[nodiscard]] inline cudaDataType_t type_of(const float*) { return CUDA_R_32F; }
[[nodiscard]] inline cudaDataType_t type_of(const BFloat16*) { return CUDA_R_16BF; }

/// A CUDA event that tells the time.
class Event {
 public:
  Event() { require(cudaEventCreate(&event_), "cudaEventCreate"); }
  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  Event& operator=(Event&&) = delete;
  ~Event() {
    if (event_ != nullptr) static_cast<void>(cudaEventDestroy(event_));
  }

  void record(cudaStream_t stream) { require(cudaEventRecord(event_, stream), "cudaEventRecord"); }
  /// Waits for both.
  [[nodiscard]] double seconds_since(const Event& first) const {
    require(cudaEventSynchronize(event_), "cudaEventSynchronize");
    float milliseconds = 0;
    require(cudaEventElapsedTime(&milliseconds, first.event_, event_), "cudaEventElapsedTime");
    return static_cast<double>(milliseconds) / 1000;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

class CudaDevice {
 public:
  static constexpr bool holds_memory = true;
  struct Free {
    void operator()(std::byte* memory) const { static_cast<void>(cudaFree(memory)); }
  };
  using Memory = std::unique_ptr<std::byte, Free>;

  /// The first device; throws decoder::Error where there is none.
  CudaDevice() {
    require(cudaGetDeviceProperties(&properties_, 0), "cudaGetDeviceProperties");
    cudaStream_t stream = nullptr;
    require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    stream_.reset(stream);
    cublasHandle_t handle = nullptr;
    require(cublasCreate(&handle), "cublasCreate");
    handle_.reset(handle);
    require(cublasSetStream(handle, stream), "cublasSetStream");
    clock_.resize(2);
  }

  [[nodiscard]] Memory allocate(std::size_t bytes) {
    void* memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, bytes);
    if (error == cudaErrorMemoryAllocation) {
      static_cast<void>(cudaGetLastError());
      throw OutOfMemory("the device has no " + std::to_string(bytes >> 20) +
                        " MiB left: take a smaller context, batch or model");
    }
    require(error, "cudaMalloc");
    return Memory(static_cast<std::byte*>(memory));
  }
  /// Waits, since `from` may change at once.
  void upload(void* to, const void* from, std::size_t bytes) {
    require(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_.get()),
            "cudaMemcpyAsync");
    wait();
  }
  void download(void* to, const void* from, std::size_t bytes) {
    require(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_.get()),
            "cudaMemcpyAsync");
    wait();
  }

  template <class Kernel>
  void launch(const Kernel& kernel, const Grid& grid) {
    if (grid.x * grid.y * grid.z == 0) return;
    run_kernel<<<dim3(grid.x, grid.y, grid.z), Kernel::threads, 0, stream_.get()>>>(kernel);
    require(cudaGetLastError(), Kernel::name);
  }

  /// cuBLAS counts columns first, so a row of ours is a column of its: out = weights^T x in.
  template <class Element>
  void multiply(const Product<Element>& product) {
    const float one = 1.0f;
    const float kept = product.adds ? 1.0f : 0.0f;
    const auto outputs = static_cast<int>(product.outputs);
    const auto inputs = static_cast<int>(product.inputs);
    const cudaDataType_t type = type_of(product.in);
    require(cublasGemmEx(handle_.get(), CUBLAS_OP_T, CUBLAS_OP_N, outputs,
                         static_cast<int>(product.rows), inputs, &one, product.weights, type,
                         inputs, product.in, type, inputs, &kept, product.out, CUDA_R_32F, outputs,
                         CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
            "cublasGemmEx");
  }

  void start(const lethe::gpu::State& state, const lethe::gpu::Batch& batch,
             std::uint32_t threshold) {
    require(lethe::gpu::start_sequences(state, batch, threshold, stream_.get()));
  }
  void append(const lethe::gpu::State& state, const lethe::gpu::Batch& batch) {
    require(lethe::gpu::append(state, batch, 1, stream_.get()));
  }
  void plan(const lethe::gpu::Round& round) {
    require(lethe::gpu::plan_round(round, stream_.get()));
  }
  void compact(const lethe::gpu::Compaction& compaction) {
    require(lethe::gpu::compact(compaction, stream_.get()));
  }

  void begin(Phase phase) {
    if (!marks_phases_ || (used_ != 0 && phases_[used_ - 1] == phase)) return;
    if (used_ == events_.size()) events_.emplace_back();
    events_[used_].record(stream_.get());
    phases_.resize(used_);
    phases_.push_back(phase);
    ++used_;
  }
  void start_phases() {
    marks_phases_ = true;
    used_ = 0;
  }
  [[nodiscard]] PhaseSeconds stop_phases() {
    PhaseSeconds seconds{};
    marks_phases_ = false;
    clock_[1].record(stream_.get());
    for (std::size_t i = 0; i < used_; ++i) {
      const Event& end = i + 1 < used_ ? events_[i + 1] : clock_[1];
      seconds[static_cast<std::size_t>(phases_[i])] += end.seconds_since(events_[i]);
    }
    return seconds;
  }
  void start_clock() { clock_[0].record(stream_.get()); }
  [[nodiscard]] double stop_clock() {
    clock_[1].record(stream_.get());
    return clock_[1].seconds_since(clock_[0]);
  }

  [[nodiscard]] std::uint32_t processors() const {
    return static_cast<std::uint32_t>(properties_.multiProcessorCount);
  }
  [[nodiscard]] std::size_t free_bytes() const {
    std::size_t free = 0;
    std::size_t all = 0;
    require(cudaMemGetInfo(&free, &all), "cudaMemGetInfo");
    return free;
  }
  [[nodiscard]] std::string description() const { return properties_.name; }

 private:
  struct DestroyStream {
    void operator()(cudaStream_t stream) const { static_cast<void>(cudaStreamDestroy(stream)); }
  };
  struct DestroyHandle {
    void operator()(cublasHandle_t handle) const { static_cast<void>(cublasDestroy(handle)); }
  };

  void wait() { require(cudaStreamSynchronize(stream_.get()), "cudaStreamSynchronize"); }

  cudaDeviceProp properties_{};
  std::unique_ptr<CUstream_st, DestroyStream> stream_;
  std::unique_ptr<cublasContext, DestroyHandle> handle_;
  std::vector<Event> clock_;
  std::vector<Event> events_;  ///< one a phase begun, used again in every step
  std::vector<Phase> phases_;
  std::size_t used_ = 0;
  bool marks_phases_ = false;
};
static_assert(Device<CudaDevice>);

}  // namespace cuda_decode
