// Whole rounds on a device beside the host's emulation of the same code: launched, replayed, on two
// streams at once. Without a device those tests say so and pass; that errors reach the caller is
// tested in any case.
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "catch.hpp"
#include "compact_cases.hpp"
#include "device_memory.hpp"
#include "launches.hpp"
#include "lethe/gpu/prune_graph.hpp"
#include "lethe/gpu/round_compaction.hpp"
#include "lethe/gpu/runtime_calls.hpp"
#include "mirrored_compaction.hpp"

namespace {

using lethe::gpu::Batch;
using lethe::gpu::Compaction;
using lethe::gpu::Round;
using lethe::gpu::RuntimeCalls;
using lethe::gpu::State;
using lethe::gpu::Status;
using naive::Mirror;
using naive::Random;
using naive::succeed;
using namespace naive::compactions;
using Graph = lethe::gpu::PruneGraph<RuntimeCalls>;

/// A state at random with a paged cache: scores, positions, lengths and triggers, and room for what
/// a round writes, poisoned.
struct World {
  explicit World(Random& random)
      : cache(random, true),
        scores(count * capacity),
        positions(count * capacity),
        lengths(cache.plans.tokens),
        cadences(count, {.threshold = 8, .since_round = 99}),
        pinned(slots, 0),
        next_positions(slots, 3 * capacity),
        kept(count * capacity, poison),
        counts(count, poison),
        first_moves(count, poison),
        rows(batch) {
    for (float& score : scores) score = random.unit() * random.unit() * random.unit();
    for (std::size_t i = 0; i < positions.size(); ++i) {
      positions[i] = static_cast<lethe::Position>(3 * (i % capacity) + random.below(3));
    }
  }

  [[nodiscard]] Round round() {
    Round made{.state = state(),
               .batch = {rows.data(), 4},
               .plans = {kept.data(), counts.data(), first_moves.data()}};
    made.settings = {.capacity = capacity, .step_tokens = 2, .round_interval = 0};
    made.settings.policy = {.retention = {.first_tokens = 2, .recent_ratio = 0.2f},
                            .first_threshold = 8};
    made.settings.breakpoint.sparsity_ratio = 4.0f;
    made.settings.block_tokens = block_tokens;
    return made;
  }
  [[nodiscard]] Compaction compaction() {
    Compaction made = lethe::gpu::compaction_of(state(), round().plans, {rows.data(), 4});
    made.page_count = 2;
    made.pages[0] = cache.compaction.pages[0];
    made.pages[1] = cache.compaction.pages[1];
    made.tables = cache.compaction.tables;
    return made;
  }
  void add_to(Mirror& mirror) const {
    for (const Numbers* numbers : {&lengths, &kept, &counts, &first_moves}) mirror.add(*numbers);
    mirror.add(scores);
    mirror.add(positions);
    mirror.add(cadences);
    mirror.add(pinned);
    mirror.add(next_positions);
    mirror.add(rows);
    add(mirror, cache.tables);
    mirror.add(cache.keys);
    mirror.add(cache.values);
  }
  /// What the grids do, block after block.
  void run_on_host(Random& random) {
    const auto shared = std::make_unique<lethe::gpu::detail::PlanShared>();
    for (std::uint32_t row = 0; row < rows.size(); ++row) {
      for (std::uint32_t layer = 0; layer < layers; ++layer) {
        lethe::gpu::plan_block(HostBlock<32>(random.next()), *shared, round(), layer, row);
      }
    }
    run(random, compaction());
  }

  static constexpr std::size_t count = std::size_t{layers} * slots;
  Paged cache;
  std::vector<float> scores;
  std::vector<lethe::Position> positions;
  Numbers lengths;
  std::vector<lethe::gpu::Cadence> cadences;
  std::vector<lethe::Position> pinned, next_positions;
  Numbers kept, counts, first_moves;
  std::vector<std::int32_t> rows;

 private:
  [[nodiscard]] State state() {
    return {.shape = {layers, slots, capacity},
            .scores = scores.data(),
            .positions = positions.data(),
            .lengths = lengths.data(),
            .cadences = cadences.data(),
            .pinned = pinned.data(),
            .next_positions = next_positions.data()};
  }
};

/// A world's copy on the device.
class DeviceWorld {
 public:
  explicit DeviceWorld(World& world) : world_(&world) { world.add_to(mirror_); }

  [[nodiscard]] Status enqueue(cudaStream_t stream) const {
    const Status planned = launches::plan_round(round(), stream);
    return planned.ok() ? launches::compact(on_device(mirror_, world_->compaction()), stream)
                        : planned;
  }
  /// Other rows of the batch from now on, in the same memory.
  void choose(const std::vector<std::int32_t>& rows) const {
    succeed(cudaMemcpy(mirror_.on_device(world_->rows.data()), rows.data(),
                       rows.size() * sizeof(rows[0]), cudaMemcpyHostToDevice));
    succeed(cudaDeviceSynchronize());
  }
  [[nodiscard]] bool equal() const { return mirror_.equal(); }

 private:
  [[nodiscard]] Round round() const {
    Round made = world_->round();
    const auto move = [&](auto*& pointer) { pointer = mirror_.on_device(pointer); };
    move(made.state.scores);
    move(made.state.positions);
    move(made.state.lengths);
    move(made.state.cadences);
    move(made.state.pinned);
    move(made.state.next_positions);
    move(made.batch.slot_of_row);
    move(made.plans.kept);
    move(made.plans.counts);
    move(made.plans.first_moves);
    return made;
  }

  World* world_;
  Mirror mirror_;
};

/// A stream on which every launch fails: without a device any, else one whose capture is useless.
class BrokenStream {
 public:
  BrokenStream() {
    if (!naive::has_device()) return;
    own_ = std::make_unique<naive::Stream>();
    succeed(cudaStreamBeginCapture(get(), cudaStreamCaptureModeThreadLocal));
    static_cast<void>(cudaStreamSynchronize(get()));
    static_cast<void>(cudaGetLastError());
  }
  BrokenStream(const BrokenStream&) = delete;
  BrokenStream& operator=(const BrokenStream&) = delete;
  ~BrokenStream() {
    cudaGraph_t none = nullptr;
    if (own_ != nullptr) static_cast<void>(cudaStreamEndCapture(get(), &none));
    static_cast<void>(cudaGetLastError());
  }
  [[nodiscard]] cudaStream_t get() const { return own_ != nullptr ? own_->stream : nullptr; }

 private:
  std::unique_ptr<naive::Stream> own_;
};

/// Where there is no driver or no device, asking for the last error says that, whatever was called.
bool leaves_no_error() {
  const cudaError_t error = cudaPeekAtLastError();
  return error == cudaSuccess || error == cudaErrorInsufficientDriver || error == cudaErrorNoDevice;
}

void check_told(const Status& status, const char* call) {
  CHECK(status.code != 0);
  CHECK(std::string(status.call) == call);
  CHECK(leaves_no_error());
}

}  // namespace

TEST_CASE("rounds at random plan, free blocks and leave layers alone") {
  Random random(20);
  std::size_t pruned = 0, alone = 0, freed = 0;
  for (int turn = 0; turn < 40; ++turn) {
    World world(random);
    const Numbers before = world.lengths;
    world.run_on_host(random);
    for (std::size_t number = 0; number < World::count; ++number) {
      if (world.counts[number] == poison) continue;
      (world.lengths[number] < before[number] ? pruned : alone) += 1;
      freed += world.cache.tables.freed_counts[number];
    }
  }
  CHECK(pruned > 50);
  CHECK(alone > 20);
  CHECK(freed > 100);
}

TEST_CASE("a replayed round leaves what direct launches and the host's blocks leave") {
  if (!naive::has_device()) return;
  Random random(21);
  RuntimeCalls calls;
  const naive::Stream own;
  for (int turn = 0; turn < 40; ++turn) {
    World world(random);
    const DeviceWorld direct(world);
    const DeviceWorld replayed(world);
    Graph graph(calls);
    REQUIRE(graph.record(own.stream, [&](auto stream) { return replayed.enqueue(stream); }).ok());
    // Other rows, and padding in their place, without recording again.
    for (const std::vector<std::int32_t>& rows : {batch, {-1, 3, -1, 1}}) {
      world.rows = rows;
      direct.choose(rows);
      replayed.choose(rows);
      REQUIRE(direct.enqueue(own.stream).ok());
      REQUIRE(graph.replay(own.stream).ok());
      succeed(cudaStreamSynchronize(own.stream));
      world.run_on_host(random);
      REQUIRE(direct.equal());
      REQUIRE(replayed.equal());
    }
  }
}

TEST_CASE("two streams at once prune states that share nothing") {
  if (!naive::has_device()) return;
  Random random(22);
  const naive::Stream streams[2];
  std::vector<std::unique_ptr<World>> worlds;
  std::vector<std::unique_ptr<DeviceWorld>> there;
  for (std::size_t i = 0; i < 40; ++i) {
    worlds.push_back(std::make_unique<World>(random));
    there.push_back(std::make_unique<DeviceWorld>(*worlds.back()));
  }
  for (std::size_t i = 0; i < there.size(); ++i) {
    REQUIRE(there[i]->enqueue(streams[i % 2].stream).ok());
  }
  for (const naive::Stream& own : streams) succeed(cudaStreamSynchronize(own.stream));
  for (std::size_t i = 0; i < worlds.size(); ++i) {
    worlds[i]->run_on_host(random);
    CHECK(there[i]->equal());
  }
}

TEST_CASE("a launch that fails reaches the caller by name and leaves no error behind") {
  Random random(23);
  World world(random);
  const BrokenStream broken;
  const Round round = world.round();
  check_told(launches::plan_round(round, broken.get()), "plan_kernel");
  check_told(launches::compact(world.compaction(), broken.get()), "plan_pages_kernel");
  Compaction plain = world.compaction();
  plain.page_count = 0;
  check_told(launches::compact(plain, broken.get()), "compact_kernel");
  check_told(launches::append(round.state, round.batch, 1, broken.get()), "append_kernel");
  check_told(launches::start_sequences(round.state, round.batch, 8, broken.get()), "start_kernel");
  const lethe::gpu::QueryWeight weight{};
  const float mass = 0;
  const lethe::Probabilities<float> seen{.data = &mass, .heads = 1, .columns = 1};
  check_told(launches::observe<lethe::Probabilities<float>>({round.state, round.batch, 0, &weight},
                                                            {.first = seen}, broken.get()),
             "observe_kernel");
}

TEST_CASE("what the host can refuse is refused before any launch") {
  Random random(24);
  World world(random);
  Round round = world.round();
  round.settings.capacity = 1;
  const Status status = launches::plan_round(round, nullptr);
  CHECK(status.code == lethe::gpu::invalid_argument);
  CHECK(std::string(status.call) == "plan_round");
  CHECK(std::string(launches::compact({}, nullptr).call) == "compact");
  CHECK(leaves_no_error());
}

TEST_CASE("a stream that cannot capture is told by name") {
  RuntimeCalls calls;
  Graph graph(calls);
  check_told(graph.record(nullptr, [](auto) { return Status{}; }), "cudaStreamBeginCapture");
  CHECK_FALSE(graph.recorded());
}
