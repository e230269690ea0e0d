/// Streams that capture, and graphs, without a device: any call may fail.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "lethe/gpu/graph_calls.hpp"
#include "lethe/gpu/status.hpp"

namespace naive {

/// A model of GraphCalls. What is given to a stream that captures no graph is done at once.
class SimulatedGraphs {
 public:
  using Stream = std::size_t;
  using Graph = std::size_t;
  using Executable = std::size_t;
  using Work = std::function<void()>;

  // cudaError_t's values.
  static constexpr int out_of_memory = 2;
  static constexpr int illegal_state = 401;
  static constexpr int capture_invalidated = 901;
  static constexpr int update_failure = 910;

  /// The call of this number fails, counted from 0.
  std::size_t failing = ~std::size_t{0};
  /// What has been called, in order.
  std::vector<std::string> called;

  [[nodiscard]] bool capturing(Stream stream) const { return captures_.contains(stream); }
  [[nodiscard]] std::size_t alive() const { return graphs_.size() + executables_.size(); }
  [[nodiscard]] std::size_t count(const std::string& call) const {
    std::size_t calls = 0;
    for (const std::string& name : called) calls += name == call ? 1 : 0;
    return calls;
  }

  /// A kernel. A launch that fails makes the capture useless, as with CUDA.
  lethe::gpu::Status launch(const char* name, Stream stream, Work work) {
    const bool fails = told(name);
    const auto capture = captures_.find(stream);
    if (capture == captures_.end()) {
      if (!fails) work();
    } else if (fails) {
      capture->second.valid = false;
    } else {
      capture->second.works.push_back(std::move(work));
    }
    return fails ? lethe::gpu::Status{out_of_memory, name} : lethe::gpu::Status{};
  }

  int begin_capture(Stream stream) {
    if (told("cudaStreamBeginCapture") || capturing(stream)) return illegal_state;
    captures_[stream];
    return 0;
  }
  int end_capture(Stream stream, Graph& graph) {
    const bool fails = told("cudaStreamEndCapture");
    const Capture capture = std::exchange(captures_.at(stream), {});
    captures_.erase(stream);
    if (fails || !capture.valid) return capture_invalidated;
    graph = ++made_;
    graphs_[graph] = capture.works;
    return 0;
  }
  int count_nodes(Graph graph, std::size_t& nodes) {
    nodes = graphs_.at(graph).size();
    return told("cudaGraphGetNodes") ? out_of_memory : 0;
  }
  int instantiate(Executable& executable, Graph graph) {
    if (told("cudaGraphInstantiateWithFlags")) return out_of_memory;
    executable = ++made_;
    executables_[executable] = graphs_.at(graph);
    return 0;
  }
  /// One that fails leaves half of the graph changed.
  int update(Executable executable, Graph graph) {
    const bool fails = told("cudaGraphExecUpdate");
    std::vector<Work>& works = executables_.at(executable);
    const std::vector<Work>& given = graphs_.at(graph);
    if (fails) works.clear();
    if (fails || works.size() != given.size()) return update_failure;
    works = given;
    return 0;
  }
  int launch_graph(Executable executable, Stream) {
    if (told("cudaGraphLaunch")) return out_of_memory;
    for (const Work& work : executables_.at(executable)) work();
    return 0;
  }
  int destroy_graph(Graph graph) { return graphs_.erase(graph) == 1 ? 0 : illegal_state; }
  int destroy_executable(Executable executable) {
    return executables_.erase(executable) == 1 ? 0 : illegal_state;
  }

 private:
  struct Capture {
    std::vector<Work> works{};
    bool valid = true;
  };

  bool told(const char* call) {
    called.emplace_back(call);
    return called.size() - 1 == failing;
  }

  std::map<Stream, Capture> captures_;
  std::map<Graph, std::vector<Work>> graphs_;
  std::map<Executable, std::vector<Work>> executables_;
  std::size_t made_ = 0;
};
static_assert(lethe::gpu::GraphCalls<SimulatedGraphs>);

}  // namespace naive
