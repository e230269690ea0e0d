/// The calls of the CUDA runtime that a recorded graph needs, as a concept: the runtime is one
/// model, a test's simulation another.
#pragma once

#include <concepts>
#include <cstddef>

namespace lethe::gpu {

/// Calls of the CUDA runtime. Each returns 0 or a cudaError_t's value and names what it stands for;
/// a call that fails leaves no error behind for the engine's next cudaGetLastError.
///
/// begin_capture: in the thread-local mode, so that other threads go on as they like.
/// end_capture: no graph where it fails. count_nodes: of a graph, its kernels and copies.
/// update: gives an executable graph what another graph of the same nodes says.
template <class Model>
concept GraphCalls = requires(Model& calls, typename Model::Stream stream,
                              typename Model::Graph graph, typename Model::Graph& made,
                              typename Model::Executable executable,
                              typename Model::Executable& ready, std::size_t& nodes) {
  { calls.begin_capture(stream) } -> std::same_as<int>;
  { calls.end_capture(stream, made) } -> std::same_as<int>;
  { calls.count_nodes(graph, nodes) } -> std::same_as<int>;
  { calls.instantiate(ready, graph) } -> std::same_as<int>;
  { calls.update(executable, graph) } -> std::same_as<int>;
  { calls.launch_graph(executable, stream) } -> std::same_as<int>;
  { calls.destroy_graph(graph) } -> std::same_as<int>;
  { calls.destroy_executable(executable) } -> std::same_as<int>;
};

}  // namespace lethe::gpu
