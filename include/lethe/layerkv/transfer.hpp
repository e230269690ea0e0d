/// Layers on their way between device and host: a queue that is polled and owns no thread.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "lethe/config.hpp"
#include "lethe/fixed_list.hpp"
#include "lethe/layerkv/copier.hpp"
#include "lethe/layerkv/copy_slices.hpp"
#include "lethe/layerkv/index_lists.hpp"
#include "lethe/layerkv/link_pace.hpp"
#include "lethe/layerkv/transfer_config.hpp"

namespace lethe::layerkv {

namespace detail {
struct LinkAlwaysFree {
  bool operator()() const { return true; }
};
}  // namespace detail

/// Transfers of layers by way of a Copier, cut into slices, the most urgent first, in order of
/// start among equals. The owner calls poll as often as slices should follow each other; nothing
/// happens otherwise. Nothing is allocated after construction. One thread at a time.
///
/// Of a migration, start the copies of its moves; when take_finished says done, finish the
/// migration, else cancel it: until then its blocks, old and new, are not to be reused.
template <Copier Model>
class TransferQueue {
 public:
  using Config = TransferQueueConfig;

  /// The copier and the staging buffers outlive the queue. Throws std::invalid_argument for counts
  /// of 0, buffers of unequal size and a link speed that is none.
  TransferQueue(const Config& config, Model& copier, const StagingBuffers& staging = {})
      : config_((detail::check_transfer_queue(config, staging), config)),
        copier_(&copier),
        staging_(staging),
        transfers_(config.transfers),
        rows_(std::make_unique_for_overwrite<ByteCopy[]>(config.transfers * config.copies)),
        lists_(config.transfers, first_line + lanes() * urgencies * 2),
        slices_(lanes() * config.slices),
        paces_(lanes(), detail::LinkPace(config.link)),
        batch_(config.slice_copies) {}

  TransferQueue(const TransferQueue&) = delete;
  TransferQueue& operator=(const TransferQueue&) = delete;

  /// Waits until the copier has ended what is under way; the rest is dropped.
  ~TransferQueue() {
    while (wait()) {
    }
  }

  /// Queues a transfer whose sources have been written. None: `transfers` of them have not been
  /// taken yet. At most config.copies copies; staged ones fit a buffer. O(copies).
  [[nodiscard]] std::optional<TransferId> start(const TransferRequest& request) {
    if (lists_.empty(free_list)) return std::nullopt;
    LETHE_ASSERT(request.copies.size() <= config_.copies);
    const std::size_t index = lists_.front(free_list);
    Transfer& transfer = transfers_[index];
    transfer = {.request = request, .sequence = sequence_++, .generation = transfer.generation};
    transfer.request.copies = {};
    std::size_t bytes = 0;
    for (const ByteCopy& copy : request.copies) {
      if (copy.bytes == 0) continue;
      row(index)[transfer.copies++] = copy;
      bytes += copy.bytes;
    }
    LETHE_ASSERT(request.staging == Staging::none || bytes <= staging_[0].size());
    transfer.bytes = bytes;
    lists_.move_to_back(index, line_of(index));
    ++live_;
    settle(index);
    return id_of(index);
  }

  /// Ends a transfer as cancelled, at once or when its slices under way have ended; take_finished
  /// tells. False: it has ended already, or is no transfer of now. O(slices).
  bool cancel(TransferId id) {
    const std::size_t index = find(id);
    if (index == none || transfers_[index].stopped) return false;
    stop(index, TransferOutcome::cancelled);
    settle(index);
    return true;
  }

  /// Gives a transfer another urgency, behind those that have it. False as for cancel. O(1).
  bool set_urgency(TransferId id, Urgency urgency) {
    const std::size_t index = find(id);
    if (index == none || transfers_[index].stopped) return false;
    transfers_[index].request.urgency = urgency;
    transfers_[index].sequence = sequence_++;
    if (lists_.list_of(index) >= first_line) lists_.move_to_back(index, line_of(index));
    return true;
  }

  /// Takes note of what has ended and submits what may go. now: any steady clock; one that jumps
  /// back stands still for that call. link_free(): asked before each submission; false puts off all
  /// others to a later poll (a collective has the link), so that at most `slices` slices a
  /// direction stand in its way. O(slices + copies submitted).
  template <class LinkFree = detail::LinkAlwaysFree>
  void poll(std::chrono::nanoseconds now, LinkFree&& link_free = LinkFree{}) {
    const double seconds = clock_.advance(now);
    for (detail::LinkPace& pace : paces_) pace.advance(seconds);
    for (Slice& slice : slices_) collect(slice, seconds);
    for (std::size_t lane = 0; lane < lanes(); ++lane) fill(lane, link_free);
  }

  /// Blocks until the copier has ended the oldest slice under way; false when there is none. The
  /// next poll takes note of it.
  bool wait() {
    Slice* oldest = nullptr;
    for (Slice& slice : slices_) {
      const bool older = oldest == nullptr || slice.sequence < oldest->sequence;
      if (slice.stage == Stage::under_way && older) oldest = &slice;
    }
    if (oldest == nullptr) return false;
    note(*oldest, copier_->wait(oldest->ticket));
    return true;
  }

  /// The next transfer that has ended, each told once, in the order of their ends. O(1).
  [[nodiscard]] std::optional<FinishedTransfer> take_finished() {
    if (lists_.empty(finished_list)) return std::nullopt;
    const std::size_t index = lists_.front(finished_list);
    Transfer& transfer = transfers_[index];
    FinishedTransfer finished = transfer.told;
    finished.id = id_of(index);
    finished.tag = transfer.request.tag;
    if (transfer.buffer != no_buffer) {
      finished.buffer = transfer.buffer;
      finished.staged = staging_[transfer.buffer].first(transfer.bytes);
      buffers_[transfer.buffer] = Buffer::handed_over;
    }
    ++transfer.generation;
    --live_;
    lists_.move_to_front(index, free_list);
    return finished;
  }

  /// Gives back the buffer of a transfer that ended done with Staging::into. O(1).
  void release(std::size_t buffer) {
    LETHE_ASSERT(buffer < no_buffer && buffers_[buffer] == Buffer::handed_over);
    buffers_[buffer] = Buffer::free;
  }

  /// Transfers that were started and not taken.
  [[nodiscard]] std::size_t live() const { return live_; }
  /// Slices handed to the copier, or through it and still on a slower link, or to be tried again.
  [[nodiscard]] std::size_t under_way() const {
    return static_cast<std::size_t>(std::count_if(
        slices_.begin(), slices_.end(), [](const Slice& s) { return s.stage != Stage::idle; }));
  }
  /// Staging buffers that are being filled, emptied or read.
  [[nodiscard]] std::size_t buffers_in_use() const {
    return no_buffer -
           static_cast<std::size_t>(std::count(buffers_.begin(), buffers_.end(), Buffer::free));
  }

  /// Seconds until the next slice is through a stated link, as of the last poll: when a simulated
  /// clock had best poll again. None: nothing is under way. O(slices).
  [[nodiscard]] std::optional<double> due() const {
    std::optional<double> next;
    for (const Slice& slice : slices_) {
      if (slice.stage == Stage::idle) continue;
      next = std::min(next.value_or(slice.link_seconds), slice.link_seconds);
    }
    return next;
  }

  /// Whether every count agrees with what it counts. O(transfers).
  [[nodiscard]] bool consistent() const {
    std::size_t live = 0;
    std::array<std::size_t, 3> holders{};
    for (std::size_t index = 0; index < transfers_.size(); ++index) {
      const Transfer& transfer = transfers_[index];
      const bool finished = lists_.list_of(index) == finished_list;
      if (lists_.list_of(index) == free_list) continue;
      ++live;
      ++holders[transfer.buffer];
      const auto slices = std::count_if(slices_.begin(), slices_.end(), [&](const Slice& slice) {
        return slice.stage != Stage::idle && slice.transfer == index;
      });
      if (static_cast<std::size_t>(slices) != transfer.slices) return false;
      if (finished && slices != 0) return false;
    }
    for (std::size_t buffer = 0; buffer < no_buffer; ++buffer) {
      if (holders[buffer] != (buffers_[buffer] == Buffer::held ? 1u : 0u)) return false;
    }
    return live == live_;
  }

 private:
  static constexpr std::size_t none = ~std::size_t{0};
  static constexpr std::size_t urgencies = 3;
  // The lists a transfer can be in: unused; ended; nothing to submit now; and its line.
  static constexpr std::size_t free_list = 0;
  static constexpr std::size_t finished_list = 1;
  static constexpr std::size_t waiting_list = 2;
  static constexpr std::size_t first_line = 3;

  /// Held: by a transfer.
  enum class Buffer : std::uint8_t { free, held, handed_over };
  /// Copied: through the copier. Broken: failed there. Again: to be submitted once more.
  enum class Stage : std::uint8_t { idle, under_way, copied, broken, again };

  struct Transfer {
    TransferRequest request{};
    std::uint64_t sequence = 0;
    std::uint64_t generation = 0;
    std::size_t copies = 0;
    std::size_t bytes = 0;
    /// What has not been submitted yet.
    detail::CopyCursor next{};
    std::size_t slices = 0;
    std::size_t buffer = no_buffer;
    /// Past the staging buffer, with Staging::through.
    bool second_hop = false;
    bool begun = false;
    bool stopped = false;
    /// The clock's reading at the first submission.
    std::uint64_t begun_at = 0;
    FinishedTransfer told{};
  };

  struct Slice {
    Stage stage = Stage::idle;
    std::size_t transfer = 0;
    std::uint64_t sequence = 0;
    std::size_t attempts = 0;
    CopyTicket ticket = 0;
    detail::CopyCursor begin{};
    detail::CopyCursor end{};
    /// What a stated link speed still wants.
    double link_seconds = 0;
  };

  [[nodiscard]] std::size_t lanes() const { return config_.duplex ? 2 : 1; }
  /// What goes to the device is asked for first, should the copier have room for one alone.
  [[nodiscard]] std::size_t lane_of(const Transfer& transfer) const {
    return config_.duplex && transfer.request.route == Route::to_host ? 1 : 0;
  }
  [[nodiscard]] static std::size_t line(std::size_t lane, std::size_t urgency, bool wants_buffer) {
    return first_line + (lane * urgencies + urgency) * 2 + (wants_buffer ? 1u : 0u);
  }
  [[nodiscard]] std::size_t line_of(std::size_t index) const {
    const Transfer& transfer = transfers_[index];
    const bool wants_buffer =
        transfer.request.staging != Staging::none && transfer.buffer == no_buffer;
    return line(lane_of(transfer), static_cast<std::size_t>(transfer.request.urgency),
                wants_buffer);
  }

  [[nodiscard]] ByteCopy* row(std::size_t index) { return rows_.get() + index * config_.copies; }
  [[nodiscard]] TransferId id_of(std::size_t index) const {
    return transfers_[index].generation << 32 | index;
  }
  /// The transfer of an id that has not ended; none otherwise.
  [[nodiscard]] std::size_t find(TransferId id) const {
    const auto index = static_cast<std::size_t>(id & 0xFFFFFFFFu);
    if (index >= transfers_.size() || id_of(index) != id) return none;
    return lists_.list_of(index) >= waiting_list ? index : none;
  }

  [[nodiscard]] detail::CopyHop hop(std::size_t index) {
    const Transfer& transfer = transfers_[index];
    detail::CopyHop hop{.copies = {row(index), transfer.copies}};
    if (transfer.buffer == no_buffer) return hop;
    (transfer.second_hop ? hop.staging_source : hop.staging_target) =
        staging_[transfer.buffer].data();
    return hop;
  }
  /// Whether a transfer's present hop crosses the link, or stays on the staging buffers' side.
  [[nodiscard]] bool crosses(const Transfer& transfer) const {
    if (transfer.request.staging == Staging::none) return true;
    const bool to_staging_side =
        (transfer.request.route == Route::to_device) == config_.staging_on_device;
    return to_staging_side != transfer.second_hop;
  }

  void note(Slice& slice, CopyState state) {
    if (state == CopyState::pending) return;
    slice.stage = state == CopyState::done ? Stage::copied : Stage::broken;
  }

  void collect(Slice& slice, double seconds) {
    // Below half a nanosecond the caller's clock cannot tell.
    constexpr double tick = 0.5e-9;
    slice.link_seconds = std::max(0.0, slice.link_seconds - seconds);
    if (slice.stage == Stage::under_way) note(slice, copier_->poll(slice.ticket));
    if (slice.stage == Stage::broken) try_again(slice);
    if (slice.stage == Stage::copied && slice.link_seconds < tick) end(slice);
  }

  void try_again(Slice& slice) {
    const bool stopped = transfers_[slice.transfer].stopped;
    if (!stopped && slice.attempts < config_.attempts) {
      slice.stage = Stage::again;
      return;
    }
    if (!stopped) stop(slice.transfer, TransferOutcome::failed);
    end(slice);
  }

  void end(Slice& slice) {
    slice.stage = Stage::idle;
    --transfers_[slice.transfer].slices;
    settle(slice.transfer);
  }

  /// Nothing more of it is submitted.
  void stop(std::size_t index, TransferOutcome outcome) {
    Transfer& transfer = transfers_[index];
    transfer.stopped = true;
    transfer.told.outcome = outcome;
    lists_.move_to_back(index, waiting_list);
    for (Slice& slice : slices_) {
      if (slice.stage != Stage::again || slice.transfer != index) continue;
      slice.stage = Stage::idle;
      --transfer.slices;
    }
  }

  /// Goes on with a transfer none of whose slices is under way.
  void settle(std::size_t index) {
    Transfer& transfer = transfers_[index];
    if (transfer.slices != 0) return;
    if (!transfer.stopped && transfer.next.copy != transfer.copies) return;
    const bool spreads = transfer.request.staging == Staging::through && !transfer.second_hop;
    if (transfer.stopped || !spreads || transfer.copies == 0) {
      finish(index);
      return;
    }
    transfer.second_hop = true;
    transfer.next = {};
    lists_.move_to_front(index, line_of(index));
  }

  void finish(std::size_t index) {
    Transfer& transfer = transfers_[index];
    const std::uint64_t passed = transfer.begun ? clock_.nanoseconds() - transfer.begun_at : 0;
    transfer.told.seconds = static_cast<double>(passed) * 1e-9;
    const bool keeps = transfer.request.staging == Staging::into && !transfer.stopped;
    if (!keeps && transfer.buffer != no_buffer) {
      buffers_[transfer.buffer] = Buffer::free;
      transfer.buffer = no_buffer;
    }
    lists_.move_to_back(index, finished_list);
  }

  /// Submits what failed before anything new, then the transfers that are first in line.
  template <class LinkFree>
  void fill(std::size_t lane, LinkFree& link_free) {
    const std::span<Slice> slices(&slices_[lane * config_.slices], config_.slices);
    for (Slice& slice : slices) {
      if (slice.stage != Stage::again) continue;
      if (!link_free() || !submit(slice)) return;
    }
    for (Slice& slice : slices) {
      if (slice.stage != Stage::idle) continue;
      const std::size_t next = first_in_line(lane);
      if (next == none || !link_free() || !begin(slice, next)) return;
    }
  }

  [[nodiscard]] std::size_t first_of(std::size_t list) const {
    return lists_.empty(list) ? none : lists_.front(list);
  }

  [[nodiscard]] std::size_t first_in_line(std::size_t lane) const {
    const bool buffer = buffers_in_use() != no_buffer;
    for (std::size_t urgency = 0; urgency < urgencies; ++urgency) {
      const std::size_t ready = first_of(line(lane, urgency, false));
      const std::size_t staged = buffer ? first_of(line(lane, urgency, true)) : none;
      if (ready == none && staged == none) continue;
      if (ready == none || staged == none) return ready == none ? staged : ready;
      return transfers_[ready].sequence < transfers_[staged].sequence ? ready : staged;
    }
    return none;
  }

  /// Submits the next slice of a transfer; false when the copier has no room.
  [[nodiscard]] bool begin(Slice& slice, std::size_t index) {
    Transfer& transfer = transfers_[index];
    hold_buffer(index);
    slice = {.transfer = index, .begin = transfer.next};
    if (!submit(slice)) return false;
    transfer.next = slice.end;
    ++transfer.slices;
    if (transfer.next.copy == transfer.copies) lists_.move_to_back(index, waiting_list);
    return true;
  }

  void hold_buffer(std::size_t index) {
    Transfer& transfer = transfers_[index];
    if (transfer.request.staging == Staging::none || transfer.buffer != no_buffer) return;
    transfer.buffer = buffers_[0] == Buffer::free ? 0 : 1;
    buffers_[transfer.buffer] = Buffer::held;
    lists_.move_to_front(index, line_of(index));
  }

  [[nodiscard]] bool submit(Slice& slice) {
    Transfer& transfer = transfers_[slice.transfer];
    slice.end = slice.begin;
    const std::size_t bytes =
        hop(slice.transfer).take(slice.end, config_.slice_bytes, config_.slice_copies, batch_);
    const std::optional<CopyTicket> ticket =
        copier_->submit({batch_.data(), batch_.size()}, transfer.request.route);
    if (!ticket) return false;
    slice.ticket = *ticket;
    slice.stage = Stage::under_way;
    slice.sequence = sequence_++;
    ++slice.attempts;
    count(slice, bytes);
    return true;
  }

  void count(Slice& slice, std::size_t bytes) {
    Transfer& transfer = transfers_[slice.transfer];
    if (!transfer.begun) transfer.begun_at = clock_.nanoseconds();
    transfer.begun = true;
    if (!crosses(transfer)) return;
    slice.link_seconds = paces_[lane_of(transfer)].send(bytes, batch_.size());
    transfer.told.bytes += bytes;
    transfer.told.copies += batch_.size();
  }

  Config config_;
  Model* copier_;
  StagingBuffers staging_;
  std::array<Buffer, 2> buffers_{};
  std::vector<Transfer> transfers_;
  /// config.copies a transfer; pages never written cost nothing.
  std::unique_ptr<ByteCopy[]> rows_;
  detail::IndexLists lists_;
  /// config.slices a lane.
  std::vector<Slice> slices_;
  std::vector<detail::LinkPace> paces_;
  lethe::detail::FixedList<ByteCopy> batch_;
  detail::PolledClock clock_;
  std::uint64_t sequence_ = 0;
  std::size_t live_ = 0;
};

}  // namespace lethe::layerkv
