/// The CUDA runtime as a model of TransferCalls and of GraphCalls.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "lethe/gpu/graph_calls.hpp"
#include "lethe/gpu/transfer_calls.hpp"

namespace lethe::gpu {

/// Thin: a member a call. Streams and events belong to the device that is current when they are
/// made; copies find their direction from the addresses.
struct RuntimeCalls {
  using Stream = cudaStream_t;
  using Event = cudaEvent_t;
  using Graph = cudaGraph_t;
  using Executable = cudaGraphExec_t;

  /// Non-blocking, so that the engine's legacy default stream does not hold copies up.
  int create_stream(Stream& stream) {
    return told(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  }
  int destroy_stream(Stream stream) { return told(cudaStreamDestroy(stream)); }
  int query_stream(Stream stream) { return told(cudaStreamQuery(stream)); }
  int wait_for_stream(Stream stream) { return told(cudaStreamSynchronize(stream)); }

  /// Without timing, which costs at each record.
  int create_event(Event& event) {
    return told(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  }
  int destroy_event(Event event) { return told(cudaEventDestroy(event)); }
  int record_event(Event event, Stream stream) { return told(cudaEventRecord(event, stream)); }
  int query_event(Event event) { return told(cudaEventQuery(event)); }
  int wait_for_event(Event event) { return told(cudaEventSynchronize(event)); }
  int let_stream_wait(Stream stream, Event event) {
    return told(cudaStreamWaitEvent(stream, event, 0));
  }

  int copy(std::byte* target, const std::byte* source, std::size_t bytes, Stream stream) {
    return told(cudaMemcpyAsync(target, source, bytes, cudaMemcpyDefault, stream));
  }
  int copy_pitched(const PitchedCopy& copy, Stream stream) {
    return told(cudaMemcpy2DAsync(copy.target, copy.target_pitch, copy.source, copy.source_pitch,
                                  copy.row_bytes, copy.rows, cudaMemcpyDefault, stream));
  }

#if CUDART_VERSION >= 13000
  // 12.8 and 12.9 have the call with another parameter list; there copies go one by one.
  int copy_batch(std::byte* const* targets, const std::byte* const* sources,
                 const std::size_t* sizes, std::size_t count, Stream stream) {
    cudaMemcpyAttributes attributes{};
    attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
    attributes.flags = cudaMemcpyFlagPreferOverlapWithCompute;
    std::size_t first = 0;
    return told(cudaMemcpyBatchAsync(reinterpret_cast<void* const*>(targets),
                                     reinterpret_cast<const void* const*>(sources), sizes, count,
                                     &attributes, &first, 1, stream));
  }
  [[nodiscard]] bool not_offered(int code) const {
    return code == cudaErrorCallRequiresNewerDriver || code == cudaErrorNotSupported;
  }
#endif

  /// Portable: pinned for every device of the process.
  int allocate_pinned(std::byte*& memory, std::size_t bytes) {
    void* got = nullptr;
    const int code = told(cudaHostAlloc(&got, bytes, cudaHostAllocPortable));
    memory = static_cast<std::byte*>(got);
    return code;
  }
  int free_pinned(std::byte* memory) { return told(cudaFreeHost(memory)); }

  int begin_capture(Stream stream) {
    return told(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  }
  int end_capture(Stream stream, Graph& graph) {
    return told(cudaStreamEndCapture(stream, &graph));
  }
  int count_nodes(Graph graph, std::size_t& nodes) {
    return told(cudaGraphGetNodes(graph, nullptr, &nodes));
  }
  int instantiate(Executable& executable, Graph graph) {
    return told(cudaGraphInstantiateWithFlags(&executable, graph, 0));
  }
  int update(Executable executable, Graph graph) {
    cudaGraphExecUpdateResultInfo info{};
    return told(cudaGraphExecUpdate(executable, graph, &info));
  }
  int launch_graph(Executable executable, Stream stream) {
    return told(cudaGraphLaunch(executable, stream));
  }
  int destroy_graph(Graph graph) { return told(cudaGraphDestroy(graph)); }
  int destroy_executable(Executable executable) { return told(cudaGraphExecDestroy(executable)); }

  /// Asking is refused while any thread captures a graph in the global mode: the work goes on.
  [[nodiscard]] bool not_ready(int code) const {
    return code == cudaErrorNotReady || code == cudaErrorStreamCaptureUnsupported;
  }

 private:
  /// "Not ready" is an error to cudaGetLastError; the engine's launch checks are not to see it.
  static int told(cudaError_t error) {
    if (error != cudaSuccess) static_cast<void>(cudaGetLastError());
    return static_cast<int>(error);
  }
};
static_assert(TransferCalls<RuntimeCalls>);
static_assert(GraphCalls<RuntimeCalls>);
#if CUDART_VERSION >= 13000
static_assert(BatchCopyCalls<RuntimeCalls>);
#endif

}  // namespace lethe::gpu
