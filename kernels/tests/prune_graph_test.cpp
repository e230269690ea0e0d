#include "lethe/gpu/prune_graph.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "decode_cases.hpp"
#include "emulation.hpp"
#include "simulated_graphs.hpp"

namespace {

using lethe::gpu::PruneGraph;
using lethe::gpu::Status;
using naive::SimulatedGraphs;
using Graph = PruneGraph<SimulatedGraphs>;
static_assert(!std::is_copy_constructible_v<Graph> && !std::is_copy_assignable_v<Graph>);
static_assert(std::is_nothrow_move_constructible_v<Graph>);
static_assert(std::is_nothrow_move_assignable_v<Graph>);

constexpr std::size_t stream = 7;

/// A round of a plan and a compaction, which write their names down when they run.
struct Rounds {
  Status enqueue(std::size_t on, const std::string& name) {
    const Status planned = graphs.launch("plan", on, [this, name] { ran.push_back(name + "1"); });
    if (!planned.ok()) return planned;
    return graphs.launch("compact", on, [this, name] { ran.push_back(name + "2"); });
  }
  Status record(const std::string& name) {
    return graph.record(stream, [&](std::size_t on) { return enqueue(on, name); });
  }

  SimulatedGraphs graphs;
  Graph graph{graphs};
  std::vector<std::string> ran;
};
using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("recording runs nothing, and each replay runs the round once, in order") {
  Rounds rounds;
  REQUIRE(rounds.record("a").ok());
  CHECK(rounds.ran.empty());
  CHECK_FALSE(rounds.graphs.capturing(stream));
  REQUIRE(rounds.graph.replay(stream).ok());
  REQUIRE(rounds.graph.replay(stream + 1).ok());
  CHECK(rounds.ran == Names{"a1", "a2", "a1", "a2"});
}

TEST_CASE("whichever call of a recording fails, the status names it and the stream is usable") {
  Rounds whole;
  REQUIRE(whole.record("a").ok());
  for (std::size_t call = 0; call < whole.graphs.called.size(); ++call) {
    Rounds rounds;
    rounds.graphs.failing = call;
    const Status status = rounds.record("a");
    CHECK(status.code != 0);
    CHECK(status.call == whole.graphs.called[call]);
    CHECK_FALSE(rounds.graphs.capturing(stream));
    CHECK_FALSE(rounds.graph.recorded());
    CHECK(rounds.graphs.alive() == 0);
    REQUIRE(rounds.record("b").ok());
    REQUIRE(rounds.graph.replay(stream).ok());
    CHECK(rounds.ran == Names{"b1", "b2"});
  }
}

TEST_CASE("whichever call of a second recording fails, no half of a round is left") {
  Rounds whole;
  REQUIRE(whole.record("a").ok());
  const std::size_t first = whole.graphs.called.size();
  REQUIRE(whole.record("b").ok());
  for (std::size_t call = first; call < whole.graphs.called.size(); ++call) {
    Rounds rounds;
    rounds.graphs.failing = call;
    REQUIRE(rounds.record("a").ok());
    const Status status = rounds.record("b");
    REQUIRE(rounds.graph.replay(stream).ok());
    // An update that fails is made good by a graph of its own.
    const bool updated = whole.graphs.called[call] == "cudaGraphExecUpdate";
    CHECK(status.ok() == updated);
    CHECK(rounds.ran == (updated ? Names{"b1", "b2"} : Names{"a1", "a2"}));
    CHECK(rounds.graphs.alive() == 1);
  }
}

TEST_CASE("a replacement that cannot be made leaves nothing to replay") {
  Rounds rounds;
  REQUIRE(rounds.record("a").ok());
  // One kernel instead of two cannot be updated in place; the sixth call makes another graph.
  rounds.graphs.failing = rounds.graphs.called.size() + 5;
  const Status status = rounds.graph.record(
      stream, [&](std::size_t on) { return rounds.graphs.launch("plan", on, [] {}); });
  CHECK(std::string(status.call) == "cudaGraphInstantiateWithFlags");
  CHECK_FALSE(rounds.graph.recorded());
  CHECK(std::string(rounds.graph.replay(stream).remedy).starts_with("record"));
  CHECK(rounds.graphs.alive() == 0);
}

TEST_CASE("the same kernels are updated in place, others make a graph of their own") {
  Rounds rounds;
  REQUIRE(rounds.record("a").ok());
  REQUIRE(rounds.record("b").ok());
  CHECK(rounds.graphs.count("cudaGraphInstantiateWithFlags") == 1);
  REQUIRE(rounds.graph
              .record(stream,
                      [&](std::size_t on) {
                        const Status status = rounds.enqueue(on, "c");
                        return status.ok() ? rounds.enqueue(on, "d") : status;
                      })
              .ok());
  CHECK(rounds.graphs.count("cudaGraphInstantiateWithFlags") == 2);
  REQUIRE(rounds.graph.replay(stream).ok());
  CHECK(rounds.ran == Names{"c1", "c2", "d1", "d2"});
  CHECK(rounds.graphs.alive() == 1);
}

TEST_CASE("a round that is refused, throws or goes to another stream is not recorded") {
  Rounds rounds;
  const Status refused = lethe::gpu::refused("plan_round", "capacity: give that of the state");
  CHECK(rounds.graph.record(stream, [&](std::size_t) { return refused; }) == refused);
  CHECK_THROWS_AS(static_cast<void>(rounds.graph.record(
                      stream, [](std::size_t) -> Status { throw std::runtime_error("no"); })),
                  std::runtime_error);
  const Status elsewhere =
      rounds.graph.record(stream, [&](std::size_t) { return rounds.enqueue(stream + 1, "a"); });
  CHECK(elsewhere.code == lethe::gpu::invalid_argument);
  CHECK(std::string(elsewhere.remedy).starts_with("enqueue"));
  CHECK_FALSE(rounds.graphs.capturing(stream));
  CHECK_FALSE(rounds.graph.recorded());
  CHECK(rounds.graphs.alive() == 0);
}

TEST_CASE("a capture that someone else has begun is left to them") {
  Rounds rounds;
  REQUIRE(rounds.graphs.begin_capture(stream) == 0);
  CHECK(std::string(rounds.record("a").call) == "cudaStreamBeginCapture");
  CHECK(rounds.graphs.capturing(stream));
}

TEST_CASE("a replay that fails is told by name, and one without a recording is refused") {
  Rounds rounds;
  CHECK(rounds.graph.replay(stream).code == lethe::gpu::invalid_argument);
  CHECK(rounds.graphs.called.empty());
  REQUIRE(rounds.record("a").ok());
  rounds.graphs.failing = rounds.graphs.called.size();
  CHECK(rounds.graph.replay(stream) == Status{SimulatedGraphs::out_of_memory, "cudaGraphLaunch"});
  CHECK(rounds.graph.replay(stream).ok());
}

TEST_CASE("a graph moves and is destroyed once") {
  Rounds rounds;
  REQUIRE(rounds.record("a").ok());
  {
    Graph moved(std::move(rounds.graph));
    CHECK_FALSE(rounds.graph.recorded());
    CHECK(moved.replay(stream).ok());
    Graph assigned(rounds.graphs);
    REQUIRE(assigned.record(stream, [&](auto on) { return rounds.enqueue(on, "b"); }).ok());
    assigned = std::move(moved);
    CHECK_FALSE(moved.recorded());
    CHECK(rounds.graphs.alive() == 1);
    CHECK(assigned.replay(stream).ok());
  }
  CHECK(rounds.ran == Names{"a1", "a2", "a1", "a2"});
  CHECK(rounds.graphs.alive() == 0);
}

namespace {

/// A runner of gpu_test::Decode whose rounds are replays of one graph over as many rows as a batch
/// may have, recorded again only when a step appends another number of tokens.
class Replays : public gpu_test::Emulation {
 public:
  Replays(const lethe::gpu::StateShape& shape, std::uint64_t seed)
      : Emulation(shape, seed), rows_(8), graph_(graphs_) {}

  void make_room(const std::vector<std::int32_t>& batch, const lethe::gpu::PlanSettings& settings) {
    std::fill(std::copy(batch.begin(), batch.end(), rows_.begin()), rows_.end(), -1);
    if (settings.step_tokens != step_tokens_) record(settings);
    step_tokens_ = settings.step_tokens;
    REQUIRE(graph_.replay(stream).ok());
  }

 private:
  void record(const lethe::gpu::PlanSettings& settings) {
    const Status status = graph_.record(stream, [&](std::size_t on) {
      return graphs_.launch("round", on,
                            [this, settings] { Emulation::make_room(rows_, settings); });
    });
    REQUIRE(status.ok());
  }

  std::vector<std::int32_t> rows_;
  std::size_t step_tokens_ = 0;
  SimulatedGraphs graphs_;
  Graph graph_;
};

}  // namespace

TEST_CASE("one graph with rows to spare serves batches that reorder, grow and shrink") {
  gpu_test::Decode<lethe::Probabilities<float>, Replays> decode(11, {}, {.decay = 0.98f});
  CHECK(decode.run(250) == "");
  CHECK(decode.pruned > 5);
}
