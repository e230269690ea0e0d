/// A round recorded once and replayed: one launch on the host, whatever kernels it takes.
#pragma once

#include <cstddef>
#include <utility>

#include "lethe/gpu/graph_calls.hpp"
#include "lethe/gpu/status.hpp"

namespace lethe::gpu {

namespace detail {

/// A capture, and the graph it came to; neither outlives it.
template <GraphCalls Calls>
class Capture {
 public:
  using Stream = typename Calls::Stream;
  using Graph = typename Calls::Graph;

  Capture(Calls& calls, Stream stream) : calls_(&calls), stream_(stream) {}
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  /// A stream that captured takes work again.
  ~Capture() {
    if (open_) static_cast<void>(end());
    if (has_graph_) calls_->destroy_graph(graph_);
  }

  [[nodiscard]] Status begin() {
    const int code = calls_->begin_capture(stream_);
    open_ = code == 0;
    return open_ ? Status{} : Status{code, "cudaStreamBeginCapture"};
  }
  [[nodiscard]] Status end() {
    open_ = false;
    const int code = calls_->end_capture(stream_, graph_);
    has_graph_ = code == 0;
    return has_graph_ ? Status{} : Status{code, "cudaStreamEndCapture"};
  }
  /// An empty graph would be replayed for ever and prune nothing.
  [[nodiscard]] Status check() const {
    std::size_t nodes = 0;
    const int code = calls_->count_nodes(graph_, nodes);
    if (code != 0) return {code, "cudaGraphGetNodes"};
    return nodes != 0 ? Status{}
                      : refused("record", "enqueue: give the stream it is called with a round");
  }
  [[nodiscard]] Graph graph() const { return graph_; }

 private:
  Calls* calls_;
  Stream stream_;
  Graph graph_{};
  bool open_ = false;
  bool has_graph_ = false;
};

}  // namespace detail

/// What a round enqueues (plan_round, compact, and what an engine adds), recorded as a CUDA graph
/// and replayed at a cadence that the host knows.
///
/// A replay reads device memory as it is then: lengths, scores, pinned positions, block tables and
/// the state slots of the batch may all change between replays. Record with as many rows as a batch
/// may ever have, and write -1 into the rows it lacks: those blocks end at once. What was passed by
/// value stays as recorded: addresses, row counts, settings. Among them is step_tokens, which is to
/// cover all tokens appended until the next replay. To change one of these, record again.
///
/// One thread at a time. A graph in flight may be recorded again, moved or destroyed: what was
/// launched goes on as it was.
template <GraphCalls Calls>
class PruneGraph {
 public:
  using Stream = typename Calls::Stream;
  using Executable = typename Calls::Executable;

  /// calls: outlives the graph.
  explicit PruneGraph(Calls& calls) : calls_(&calls) {}
  PruneGraph(PruneGraph&& other) noexcept
      : calls_(other.calls_),
        executable_(other.executable_),
        recorded_(std::exchange(other.recorded_, false)) {}
  PruneGraph& operator=(PruneGraph&& other) noexcept {
    PruneGraph taken(std::move(other));
    std::swap(calls_, taken.calls_);
    std::swap(executable_, taken.executable_);
    std::swap(recorded_, taken.recorded_);
    return *this;
  }
  PruneGraph(const PruneGraph&) = delete;
  PruneGraph& operator=(const PruneGraph&) = delete;
  ~PruneGraph() { clear(); }

  /// Whether there is something to replay.
  [[nodiscard]] bool recorded() const { return recorded_; }

  /// Records what enqueue(stream), which returns a Status, gives the stream; nothing of it runs.
  /// stream: not the legacy default stream, and not capturing. Whatever fails, the stream takes
  /// work again; the status is enqueue's own, or names the CUDA call. Where recording failed, a
  /// graph that was there before is kept; where its replacement could not be made, none is.
  /// Recorded again with the same kernels, the graph that is there is updated in place.
  template <class Enqueue>
  [[nodiscard]] Status record(Stream stream, Enqueue&& enqueue) {
    detail::Capture<Calls> capture(*calls_, stream);
    Status status = capture.begin();
    if (!status.ok()) return status;
    const Status enqueued = std::forward<Enqueue>(enqueue)(stream);
    status = capture.end();
    if (!enqueued.ok()) return enqueued;
    if (status.ok()) status = capture.check();
    return status.ok() ? take(capture.graph()) : status;
  }

  /// Enqueues the recorded round, behind what the stream has been given. One call of CUDA.
  [[nodiscard]] Status replay(Stream stream) const noexcept {
    if (!recorded_) return refused("replay", "record: record a round first");
    const int code = calls_->launch_graph(executable_, stream);
    return code == 0 ? Status{} : Status{code, "cudaGraphLaunch"};
  }

 private:
  [[nodiscard]] Status take(typename Calls::Graph graph) {
    if (recorded_ && calls_->update(executable_, graph) == 0) return {};
    // An update that was refused may have been made in part.
    clear();
    const int code = calls_->instantiate(executable_, graph);
    recorded_ = code == 0;
    return recorded_ ? Status{} : Status{code, "cudaGraphInstantiateWithFlags"};
  }

  void clear() noexcept {
    if (recorded_) calls_->destroy_executable(executable_);
    recorded_ = false;
  }

  Calls* calls_;
  Executable executable_{};
  bool recorded_ = false;
};

}  // namespace lethe::gpu
