#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <lethe/layerkv/block_tables.hpp>
#include <lethe/layerkv/coalescer.hpp>
#include <lethe/layerkv/transfer.hpp>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "block_memory.hpp"
#include "error.hpp"
#include "layered_scheduler.hpp"
#include "run_clock.hpp"
#include "stopwatch.hpp"

namespace serving {

/// Sizes and speed of a RealLink.
struct RealLinkSettings {
  double bytes_per_second = 0;  ///< each way; 0: as fast as memory is
  std::size_t step_blocks = 0;  ///< of one layer that a step may fetch, or send, at most
  std::size_t migrations = 0;   ///< under way at most
};

/// The link between two pools: layers that move for good, layers that a step fetches ahead into two
/// staging buffers, and blocks that it leaves to the host from two others. All of it goes through
/// lethe::layerkv::TransferQueue, each way at the link's speed, in the order in which it was asked
/// for. Called by one thread.
template <lethe::layerkv::Copier Copier>
class RealLink {
 public:
  using Block = lethe::layerkv::Block;
  using MigrationId = lethe::layerkv::MigrationId;

  /// memory, copier, clock: outlive the link.
  RealLink(const RealLinkSettings& settings, BlockMemory& memory, Copier& copier,
           const RunClock& clock)
      : memory_(memory),
        clock_(clock),
        fetched_(2 * buffer_bytes(settings)),
        sent_(2 * buffer_bytes(settings)),
        buffer_bytes_(buffer_bytes(settings)),
        queue_(queue_config(settings, memory), copier,
               {std::span(fetched_).first(buffer_bytes_), std::span(fetched_).last(buffer_bytes_)}),
        coalescer_({.blocks = settings.step_blocks, .arrays = 1}),
        fetches_(memory.shape().layers),
        moves_(settings.migrations) {}

  /// Begins to carry a layer of a request. Blocks that are not full yet will be written to, and are
  /// carried when the others are there.
  void begin_move(const lethe::layerkv::BlockTables& tables, MigrationId id,
                  lethe::layerkv::RequestId request, std::size_t layer, std::size_t tokens,
                  bool to_host) {
    const auto moves = tables.moves(id);
    const auto table = tables.table(request, layer);
    std::size_t full = 0;
    for (std::size_t entry = 0; entry < tokens / memory_.shape().tokens; ++entry)
      if (full < moves.size() && table[entry] == moves[full].from) ++full;
    Move& move = moves_[id];
    move = {.state = MoveState::under_way, .rest = {moves.begin() + offset(full), moves.end()}};
    using lethe::layerkv::Tier;
    const lethe::layerkv::BlockArray pools{.source = pool(to_host ? Tier::device : Tier::host),
                                           .target = pool(to_host ? Tier::host : Tier::device),
                                           .block_bytes = memory_.shape().bytes};
    start(coalescer_.copies(moves.first(full), {&pools, 1}), tag(Kind::move, id), to_host);
  }

  /// Between steps only: what was written meanwhile is carried now.
  MoveState state(MigrationId id) {
    poll();
    Move& move = moves_[id];
    if (move.state == MoveState::there)
      for (const auto& each : std::exchange(move.rest, {}))
        std::copy_n(memory_.at(each.from, 0), memory_.shape().bytes, memory_.at(each.to, 0));
    return move.state;
  }

  /// The host blocks that a layer of the step now beginning reads; called in the order of layers.
  void fetch(std::size_t layer, std::vector<Block> blocks) {
    fetches_[layer].blocks = std::move(blocks);
    start_fetch(layer);
    poll();
  }
  bool fetches(std::size_t layer) const { return !fetches_[layer].blocks.empty(); }
  /// Waits until they are there; block i lies i blocks behind what is returned.
  std::byte* await(std::size_t layer) {
    wait_until([&] { return fetches_[layer].is_there; });
    return fetches_[layer].at;
  }
  /// They were read.
  void release(std::size_t layer) {
    queue_.release(fetches_[layer].buffer);
    fetches_[layer] = {};
  }

  /// A buffer for blocks that go to the host; waits until one is free.
  std::byte* next_buffer() {
    Sending& sending = sending_[next_];
    wait_until([&] { return !sending.is_under_way; });
    return sent_.data() + next_ * buffer_bytes_;
  }
  /// Sends the first blocks of that buffer, each to where it belongs.
  void send(std::span<const Block> blocks) {
    sending_[next_] = {.is_under_way = true, .blocks = {blocks.begin(), blocks.end()}};
    start_sending(next_);
    next_ = 1 - next_;
  }
  /// Waits until all that was sent has arrived.
  void finish_sending() {
    wait_until([&] { return !sending_[0].is_under_way && !sending_[1].is_under_way; });
  }

  /// Goes on with what is under way.
  void poll() {
    queue_.poll(clock_.now());
    while (const auto ended = queue_.take_finished()) take(*ended);
  }

  /// Seconds that await, next_buffer and finish_sending have waited.
  double waited() const { return waited_; }
  /// Transfers that have not ended.
  std::size_t live() const { return queue_.live(); }

 private:
  enum class Kind : std::uint8_t { move, fetch, send };

  struct Move {
    MoveState state = MoveState::there;
    std::vector<lethe::layerkv::BlockMove> rest;
  };
  struct Fetch {
    std::vector<Block> blocks;
    bool is_there = false;
    std::byte* at = nullptr;
    std::size_t buffer = 0;
    lethe::layerkv::TransferId id = 0;
  };
  struct Sending {
    bool is_under_way = false;
    std::vector<Block> blocks;
  };

  std::size_t buffer_bytes(const RealLinkSettings& settings) const {
    return settings.step_blocks * memory_.shape().bytes;
  }

  static lethe::layerkv::TransferQueueConfig queue_config(const RealLinkSettings& settings,
                                                          const BlockMemory& memory) {
    // Polls are a layer's computing apart, and the link's pace is kept over all that was submitted:
    // whole transfers, many at a time.
    return {.transfers = settings.migrations + memory.shape().layers + 4,
            .copies = settings.step_blocks,
            .slice_bytes = settings.step_blocks * memory.shape().bytes,
            .slice_copies = settings.step_blocks,
            .slices = most_slices,
            .duplex = true,
            .link = {.bytes_per_second = settings.bytes_per_second}};
  }

  static std::ptrdiff_t offset(std::size_t count) { return static_cast<std::ptrdiff_t>(count); }
  static std::uint64_t tag(Kind kind, std::size_t number) {
    return static_cast<std::uint64_t>(kind) << 32 | number;
  }

  std::byte* pool(lethe::layerkv::Tier tier) { return memory_.at(Block(tier, 0), 0); }

  void start(std::span<const lethe::layerkv::ByteCopy> copies, std::uint64_t tag, bool to_host) {
    start({.copies = copies,
           .route = to_host ? lethe::layerkv::Route::to_host : lethe::layerkv::Route::to_device,
           .urgency = lethe::layerkv::Urgency::ahead,
           .tag = tag});
  }
  lethe::layerkv::TransferId start(const lethe::layerkv::TransferRequest& request) {
    const auto id = queue_.start(request);
    if (!id) throw std::logic_error("the transfer queue is smaller than what is under way");
    return *id;
  }

  void start_fetch(std::size_t layer) {
    Fetch& fetch = fetches_[layer];
    const lethe::layerkv::BlockArray host{.source = pool(lethe::layerkv::Tier::host),
                                          .block_bytes = memory_.shape().bytes};
    fetch.id = start({.copies = coalescer_.packed(std::span<const Block>(fetch.blocks), {&host, 1}),
                      .route = lethe::layerkv::Route::to_device,
                      .urgency = lethe::layerkv::Urgency::ahead,
                      .staging = lethe::layerkv::Staging::into,
                      .tag = tag(Kind::fetch, layer)});
  }
  void start_sending(std::size_t buffer) {
    copies_.clear();
    const std::byte* from = sent_.data() + buffer * buffer_bytes_;
    for (const Block block : sending_[buffer].blocks) {
      copies_.push_back({from, memory_.at(block, 0), memory_.shape().bytes});
      from += memory_.shape().bytes;
    }
    start(copies_, tag(Kind::send, buffer), true);
  }

  void take(const lethe::layerkv::FinishedTransfer& ended) {
    const bool is_done = ended.outcome == lethe::layerkv::TransferOutcome::done;
    const auto number = static_cast<std::size_t>(ended.tag & 0xFFFFFFFFu);
    switch (static_cast<Kind>(ended.tag >> 32)) {
      case Kind::move:
        moves_[number].state = is_done ? MoveState::there : MoveState::failed;
        return;
      case Kind::fetch:
        return end_fetch(number, ended);
      case Kind::send:
        if (!is_done) return try_again([&] { start_sending(number); });
        sending_[number] = {};
    }
  }

  void end_fetch(std::size_t layer, const lethe::layerkv::FinishedTransfer& ended) {
    Fetch& fetch = fetches_[layer];
    if (ended.outcome == lethe::layerkv::TransferOutcome::done) {
      // One that was begun anew meanwhile.
      if (ended.id != fetch.id) return queue_.release(ended.buffer);
      fetch.is_there = true;
      fetch.at = fetched_.data() + ended.buffer * buffer_bytes_;
      fetch.buffer = ended.buffer;
    } else if (ended.id == fetch.id) {
      try_again([&] { fetch_from(layer); });
    }
  }

  /// The later layers hold the buffers that this one needs: all are fetched anew, in order.
  void fetch_from(std::size_t first) {
    for (std::size_t layer = first; layer < fetches_.size(); ++layer) {
      Fetch& fetch = fetches_[layer];
      if (fetch.blocks.empty()) continue;
      if (fetch.is_there) queue_.release(fetch.buffer);
      if (!fetch.is_there && layer > first) queue_.cancel(fetch.id);
      fetch.is_there = false;
    }
    for (std::size_t layer = first; layer < fetches_.size(); ++layer)
      if (!fetches_[layer].blocks.empty()) start_fetch(layer);
  }

  template <class Again>
  void try_again(const Again& again) {
    if (++failures_ > most_failures) throw decoder::Error("copies fail again and again");
    again();
  }

  template <class Condition>
  void wait_until(const Condition& is_met) {
    poll();
    if (is_met()) return;
    const decoder::TimeInto watch(waited_);
    while (!is_met()) {
      const double due = queue_.due().value_or(0);
      if (due > 0) std::this_thread::sleep_for(std::chrono::duration<double>(due));
      queue_.wait();
      poll();
    }
  }

  static constexpr std::size_t most_slices = 32;
  static constexpr std::size_t most_failures = 10000;

  BlockMemory& memory_;
  const RunClock& clock_;
  std::vector<std::byte> fetched_;
  std::vector<std::byte> sent_;
  std::size_t buffer_bytes_;
  lethe::layerkv::TransferQueue<Copier> queue_;
  lethe::layerkv::Coalescer coalescer_;
  std::vector<Fetch> fetches_;
  std::vector<Move> moves_;
  std::array<Sending, 2> sending_{};
  std::size_t next_ = 0;
  std::vector<lethe::layerkv::ByteCopy> copies_;
  std::size_t failures_ = 0;
  double waited_ = 0;
};

}  // namespace serving
