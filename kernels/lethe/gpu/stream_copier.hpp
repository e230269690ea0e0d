/// A Copier of CUDA streams: copies between pinned host memory and the device.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "lethe/config.hpp"
#include "lethe/gpu/copy_runs.hpp"
#include "lethe/gpu/status.hpp"
#include "lethe/gpu/transfer_calls.hpp"
#include "lethe/layerkv/copier.hpp"

namespace lethe::gpu {

/// Settings of StreamCopier.
struct StreamCopierConfig {
  /// Batches that were submitted and not told to have ended, an event each; a queue wants twice its
  /// slices.
  std::size_t batches = 16;
  /// Most copies of one batch; a queue's slice_copies.
  std::size_t batch_copies = 256;
  /// Rows at even steps that are worth a pitched call of their own; at least 2. No source: not
  /// measured yet.
  std::size_t pitched_rows = 4;
  /// Whether what is left of a batch goes in one call where the runtime takes it, else in one a
  /// copy.
  bool batch_calls = true;

  bool operator==(const StreamCopierConfig&) const = default;
};

/// A stream for each route and an event for each batch. A batch costs the host few calls whatever
/// its copies are: rows at even steps (a block of each layer, in a pool laid out block by block) go
/// by cudaMemcpy2DAsync, all others together by cudaMemcpyBatchAsync, which may make them in any
/// order as a Copier may, or one by one where the runtime or the driver has no such call.
///
/// An engine calls follow(stream) once it has enqueued the kernels that write what is to be copied
/// or read what is to be overwritten, before the poll of the queue that may submit those copies.
/// Nothing is allocated after construction. One thread at a time; on the device that was current at
/// construction. Not while that thread captures a graph: events that are recorded then belong to
/// the graph.
template <TransferCalls Calls>
class StreamCopier {
 public:
  using Config = StreamCopierConfig;
  using Stream = typename Calls::Stream;
  using Event = typename Calls::Event;

  /// calls: outlives the copier. Throws std::invalid_argument for counts of 0. Where streams or
  /// events cannot be had, take_error says so and every batch fails.
  StreamCopier(const Config& config, Calls& calls)
      : config_(checked(config)),
        calls_(&calls),
        events_(config.batches + 2),
        slots_(config.batches),
        targets_(std::make_unique<std::byte*[]>(config.batch_copies)),
        sources_(std::make_unique<const std::byte*[]>(config.batch_copies)),
        sizes_(std::make_unique<std::size_t[]>(config.batch_copies)),
        batch_calls_(config.batch_calls) {
    unused_.reserve(config.batches);
    for (std::size_t index = config.batches; index-- > 0;) unused_.push_back(index);
    usable_ = open();
  }
  StreamCopier(const StreamCopier&) = delete;
  StreamCopier& operator=(const StreamCopier&) = delete;

  /// Waits for every copy that was enqueued: afterwards nothing touches memory any more.
  ~StreamCopier() {
    for (std::size_t i = 0; i < streams_made_; ++i) {
      until_ready([&] { return calls_->wait_for_stream(streams_[i]); });
    }
    for (std::size_t i = 0; i < events_made_; ++i) calls_->destroy_event(events_[i]);
    for (std::size_t i = 0; i < streams_made_; ++i) calls_->destroy_stream(streams_[i]);
  }

  /// As in Copier; at most batch_copies copies, each begun after what the streams told to follow
  /// had been given. None: `batches` tickets have not been told to have ended. O(copies).
  [[nodiscard]] std::optional<layerkv::CopyTicket> submit(std::span<const layerkv::ByteCopy> batch,
                                                          layerkv::Route route) noexcept {
    LETHE_ASSERT(batch.size() <= config_.batch_copies);
    if (unused_.empty()) return std::nullopt;
    const std::size_t index = unused_.back();
    unused_.pop_back();
    Slot& slot = slots_[index];
    slot = {.generation = slot.generation, .route = route};
    if (!usable_ || !ordered_) {
      slot.broken = slot.ended = true;
      return ticket_of(index);
    }
    slot.broken = !enqueue(batch, stream_of(route));
    // After a failure too: what was enqueued before it still moves.
    slot.recorded = made(calls_->record_event(events_[index], stream_of(route)), "cudaEventRecord");
    return ticket_of(index);
  }

  /// One question to the runtime, which does not block.
  [[nodiscard]] layerkv::CopyState poll(layerkv::CopyTicket ticket) noexcept {
    const std::size_t index = find(ticket);
    const Slot& slot = slots_[index];
    if (slot.ended) return end(index);
    const int code = slot.recorded ? calls_->query_event(events_[index])
                                   : calls_->query_stream(stream_of(slot.route));
    if (calls_->not_ready(code)) return layerkv::CopyState::pending;
    return end(index, code, slot.recorded ? "cudaEventQuery" : "cudaStreamQuery");
  }

  [[nodiscard]] layerkv::CopyState wait(layerkv::CopyTicket ticket) noexcept {
    const std::size_t index = find(ticket);
    const Slot& slot = slots_[index];
    if (slot.ended) return end(index);
    const int code = until_ready([&] {
      return slot.recorded ? calls_->wait_for_event(events_[index])
                           : calls_->wait_for_stream(stream_of(slot.route));
    });
    return end(index, code, slot.recorded ? "cudaEventSynchronize" : "cudaStreamSynchronize");
  }

  /// Every batch submitted from now on begins after all that `engine` has been given until now: the
  /// last kernel that reads a freed block, or writes one that is to be copied. Should it fail, no
  /// batch touches memory until a later call succeeds. O(1).
  [[nodiscard]] Status follow(Stream engine) noexcept {
    if (!usable_) return error_;
    const Event fence = events_[config_.batches];
    ordered_ = false;
    Status status = told(calls_->record_event(fence, engine), "cudaEventRecord");
    for (std::size_t i = 0; i < streams_.size() && status.ok(); ++i) {
      status = told(calls_->let_stream_wait(streams_[i], fence), "cudaStreamWaitEvent");
    }
    ordered_ = status.ok();
    return status;
  }

  /// What `engine` is given from now on begins after all batches submitted on the route so far, so
  /// that a kernel that reads them can be enqueued before they are there. A batch that fails later
  /// holds nothing up: the queue tells. O(1).
  [[nodiscard]] Status lead(Stream engine, layerkv::Route route) noexcept {
    if (!usable_) return error_;
    const Event arrival = events_[config_.batches + 1];
    const Status status = told(calls_->record_event(arrival, stream_of(route)), "cudaEventRecord");
    if (!status.ok()) return status;
    return told(calls_->let_stream_wait(engine, arrival), "cudaStreamWaitEvent");
  }

  /// Whether streams and events could be had.
  [[nodiscard]] bool usable() const { return usable_; }

  /// The first error since the last call, of whatever call; ok where there was none. It is not
  /// forgotten where it left the copier unusable.
  Status take_error() {
    const Status status = error_;
    if (usable_) error_ = {};
    return status;
  }

 private:
  struct Slot {
    std::uint64_t generation = 0;
    layerkv::Route route = layerkv::Route::to_host;
    bool broken = false;
    /// Its event stands behind its copies; else its stream is asked.
    bool recorded = false;
    /// Nothing was enqueued.
    bool ended = false;
  };

  static const Config& checked(const Config& config) {
    using lethe::detail::require;
    require(config.batches >= 1, "batches", config.batches, "allow at least 1 batch");
    require(config.batch_copies >= 1, "batch_copies", config.batch_copies, "allow at least 1 copy");
    require(config.pitched_rows >= 2, "pitched_rows", config.pitched_rows,
            "ask for at least 2 rows");
    return config;
  }

  bool open() {
    for (Stream& stream : streams_) {
      if (!made(calls_->create_stream(stream), "cudaStreamCreateWithFlags")) return false;
      ++streams_made_;
    }
    for (Event& event : events_) {
      if (!made(calls_->create_event(event), "cudaEventCreateWithFlags")) return false;
      ++events_made_;
    }
    return true;
  }

  [[nodiscard]] bool enqueue(std::span<const layerkv::ByteCopy> batch, Stream stream) {
    singles_ = 0;
    while (!batch.empty()) {
      const PitchedCopy run = detail::leading_run(batch);
      const auto copies = batch.first(run.rows);
      batch = batch.subspan(run.rows);
      if (run.row_bytes == 0) continue;
      if (run.rows < config_.pitched_rows) {
        for (const layerkv::ByteCopy& copy : copies) keep(copy);
      } else if (!made(calls_->copy_pitched(run, stream), "cudaMemcpy2DAsync")) {
        return false;
      }
    }
    return enqueue_singles(stream);
  }

  void keep(const layerkv::ByteCopy& copy) {
    targets_[singles_] = copy.target;
    sources_[singles_] = copy.source;
    sizes_[singles_++] = copy.bytes;
  }

  [[nodiscard]] bool enqueue_singles(Stream stream) {
    if constexpr (BatchCopyCalls<Calls>) {
      if (batch_calls_ && singles_ > 1) {
        const int code =
            calls_->copy_batch(targets_.get(), sources_.get(), sizes_.get(), singles_, stream);
        batch_calls_ = !calls_->not_offered(code);
        if (batch_calls_) return made(code, "cudaMemcpyBatchAsync");
      }
    }
    for (std::size_t i = 0; i < singles_; ++i) {
      const int code = calls_->copy(targets_[i], sources_[i], sizes_[i], stream);
      if (!made(code, "cudaMemcpyAsync")) return false;
    }
    return true;
  }

  /// Waiting is refused, not ended, while another thread captures a graph.
  template <class Wait>
  int until_ready(Wait&& wait) {
    int code = wait();
    while (calls_->not_ready(code)) {
      std::this_thread::yield();
      code = wait();
    }
    return code;
  }

  Status told(int code, const char* call) {
    const Status status{code, code == 0 ? "" : call};
    if (error_.ok()) error_ = status;
    return status;
  }
  bool made(int code, const char* call) { return told(code, call).ok(); }

  layerkv::CopyState end(std::size_t index, int code = 0, const char* call = "") {
    const bool done = made(code, call) && !slots_[index].broken;
    ++slots_[index].generation;
    unused_.push_back(index);
    return done ? layerkv::CopyState::done : layerkv::CopyState::failed;
  }

  [[nodiscard]] Stream stream_of(layerkv::Route route) const {
    return streams_[static_cast<std::size_t>(route)];
  }
  [[nodiscard]] layerkv::CopyTicket ticket_of(std::size_t index) const {
    return slots_[index].generation << 32 | index;
  }
  [[nodiscard]] std::size_t find(layerkv::CopyTicket ticket) const {
    const auto index = static_cast<std::size_t>(ticket & 0xFFFFFFFFu);
    LETHE_ASSERT(index < slots_.size() && ticket_of(index) == ticket);
    return index;
  }

  Config config_;
  Calls* calls_;
  std::array<Stream, 2> streams_{};
  std::size_t streams_made_ = 0;
  /// One a batch, then follow's and lead's.
  std::vector<Event> events_;
  std::size_t events_made_ = 0;
  std::vector<Slot> slots_;
  std::vector<std::size_t> unused_;
  /// The copies of a batch that are in no run.
  std::unique_ptr<std::byte*[]> targets_;
  std::unique_ptr<const std::byte*[]> sources_;
  std::unique_ptr<std::size_t[]> sizes_;
  std::size_t singles_ = 0;
  bool batch_calls_;
  bool usable_ = false;
  bool ordered_ = true;
  Status error_{};
};

}  // namespace lethe::gpu
