#include "runtime.hpp"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

using Works = std::vector<std::function<void()>>;

struct CUstream_st {
  std::unique_ptr<Works> captured{};
  bool valid = true;
};
struct CUevent_st {
  std::chrono::steady_clock::time_point recorded{};
};
struct CUgraph_st {
  Works works;
};
struct CUgraphExec_st {
  Works works;
};

namespace {

cudaError_t last_error = cudaSuccess;

cudaError_t told(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

cudaError_t at_once(cudaStream_t stream) {
  const bool capturing = stream != nullptr && stream->captured != nullptr;
  if (capturing) stream->valid = false;
  return told(capturing ? cudaErrorStreamCaptureUnsupported : cudaSuccess);
}

/// A part of the device that does nothing, for tests of who should notice: a kernel's name, or
/// "copies" of streams, or "replays" of graphs.
bool idle(const char* part) {
  const char* given = std::getenv("LETHE_IDLE_PART");
  return given != nullptr && std::strcmp(given, part) == 0;
}

/// A number that a test sets, for what the runtime says of itself.
int told_number(const char* variable) {
  const char* given = std::getenv(variable);
  return given == nullptr ? 0 : std::atoi(given);
}

cudaError_t copy(void* target, const void* source, std::size_t bytes, cudaStream_t stream) {
  const cudaError_t error = at_once(stream);
  const bool skipped = stream != nullptr && idle("copies");
  if (error == cudaSuccess && !skipped) std::memcpy(target, source, bytes);
  return error;
}

}  // namespace

namespace simulated_device {

lethe::gpu::Status launch(const char* name, cudaStream_t stream, std::function<void()> kernel) {
  if (idle(name)) kernel = [] {};
  if (stream == nullptr || stream->captured == nullptr) {
    kernel();
  } else if (!stream->valid) {
    return {cudaErrorStreamCaptureInvalidated, name};
  } else {
    stream->captured->push_back(std::move(kernel));
  }
  return {};
}

}  // namespace simulated_device

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  const auto error = static_cast<cudaError_t>(told_number("LETHE_DEVICE_ERROR"));
  *count = error == cudaSuccess ? 1 : -1;
  return told(error);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "the host, simulating a device");
  properties->multiProcessorCount = 1;
  properties->l2CacheSize = 1 << 20;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = told_number("LETHE_DRIVER");
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *free = *total = std::size_t{1} << 30;
  return cudaSuccess;
}
const char* cudaGetErrorName(cudaError_t error) {
  if (error == cudaErrorInsufficientDriver) return "cudaErrorInsufficientDriver";
  return error == cudaSuccess ? "cudaSuccess" : "an error";
}
const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return told(*memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned) {
  return cudaMalloc(memory, bytes);
}
cudaError_t cudaFreeHost(void* memory) { return cudaFree(memory); }
cudaError_t cudaMemset(void* memory, int value, std::size_t bytes) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* target, const void* source, std::size_t bytes, cudaMemcpyKind) {
  return copy(target, source, bytes, nullptr);
}
cudaError_t cudaMemcpyAsync(void* target, const void* source, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  return copy(target, source, bytes, stream);
}
cudaError_t cudaMemcpy2DAsync(void* target, std::size_t target_pitch, const void* source,
                              std::size_t source_pitch, std::size_t width, std::size_t height,
                              cudaMemcpyKind, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  for (std::size_t row = 0; row < height && error == cudaSuccess; ++row) {
    error = copy(static_cast<std::byte*>(target) + row * target_pitch,
                 static_cast<const std::byte*>(source) + row * source_pitch, width, stream);
  }
  return error;
}
#if CUDART_VERSION >= 13000
cudaError_t cudaMemcpyBatchAsync(void* const* targets, const void* const* sources,
                                 const std::size_t* sizes, std::size_t count, cudaMemcpyAttributes*,
                                 std::size_t*, std::size_t, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  while (count-- > 0 && error == cudaSuccess) {
    error = copy(targets[count], sources[count], sizes[count], stream);
  }
  return error;
}
#endif

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return cudaStreamCreate(stream);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return at_once(stream); }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return at_once(stream); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t, unsigned) {
  return at_once(stream);
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return cudaEventCreate(event);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->recorded = std::chrono::steady_clock::now();
  return at_once(stream);
}
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  const std::chrono::duration<float, std::milli> between = end->recorded - begin->recorded;
  *milliseconds = between.count();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr) return told(cudaErrorStreamCaptureUnsupported);
  if (stream->captured != nullptr) return told(cudaErrorIllegalState);
  stream->captured = std::make_unique<Works>();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const auto works = std::exchange(stream->captured, nullptr);
  if (!std::exchange(stream->valid, true)) return told(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{std::move(*works)};
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, std::size_t* count) {
  *count = graph->works.size();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph,
                                          unsigned long long) {
  *executable = new CUgraphExec_st{graph->works};
  return cudaSuccess;
}
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t executable, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo*) {
  if (executable->works.size() != graph->works.size()) return told(cudaErrorGraphExecUpdateFailure);
  executable->works = graph->works;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  for (const auto& work : executable->works) {
    if (!idle("replays")) work();
  }
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

}  // extern "C"
