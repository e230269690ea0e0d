/// A Copier of processor threads: copies between memories that both belong to the host.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "lethe/config.hpp"
#include "lethe/layerkv/copier.hpp"

namespace lethe::layerkv {

/// Settings of ThreadCopier.
struct ThreadCopierConfig {
  /// Threads that copy, beside who is in wait(). No source: memory is shared with the engine's own
  /// threads, so few.
  std::size_t threads = 2;
  /// Batches that were submitted and not told to have ended; a queue wants twice its slices.
  std::size_t batches = 16;
  /// Most copies of one batch; a queue's slice_copies.
  std::size_t batch_copies = 256;
  /// Bytes that a thread takes on at once. By the table in docs/layerkv.md 16 KiB cost 5% more, and
  /// larger pieces gain nothing.
  std::size_t piece_bytes = std::size_t{256} << 10;

  bool operator==(const ThreadCopierConfig&) const = default;
};

/// Threads that take pieces of the oldest batch, so that a large copy is shared among them. A copy
/// never fails. Nothing is allocated after construction.
class ThreadCopier {
 public:
  using Config = ThreadCopierConfig;

  /// Throws std::invalid_argument for counts of 0, std::system_error when a thread cannot be had.
  explicit ThreadCopier(const Config& config) : ThreadCopier(checked(config), Prepared{}) {
    // The object is whole by now: should a thread not start, the destructor joins the others.
    for (std::thread& thread : threads_) thread = std::thread([this] { work(); });
  }
  ThreadCopier(const ThreadCopier&) = delete;
  ThreadCopier& operator=(const ThreadCopier&) = delete;

  /// Joins the threads once the pieces in hand are copied. What is queued is dropped.
  ~ThreadCopier() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    submitted_.notify_all();
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }

  /// As in Copier; at most batch_copies copies. None: `batches` tickets have not been told to have
  /// ended. O(copies).
  [[nodiscard]] std::optional<CopyTicket> submit(std::span<const ByteCopy> batch, Route) noexcept {
    LETHE_ASSERT(batch.size() <= config_.batch_copies);
    if (unused_.empty()) return std::nullopt;
    const std::size_t index = unused_.back();
    unused_.pop_back();
    prepare(index, batch);
    const CopyTicket ticket = ticket_of(index);
    if (batches_[index].count == 0) {
      batches_[index].ended.store(true, std::memory_order_relaxed);
      return ticket;
    }
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      queue_[(first_ + queued_++) % queue_.size()] = index;
    }
    submitted_.notify_all();
    return ticket;
  }

  /// O(1); no lock.
  [[nodiscard]] CopyState poll(CopyTicket ticket) noexcept {
    const std::size_t index = find(ticket);
    if (!batches_[index].ended.load(std::memory_order_acquire)) return CopyState::pending;
    spend(index);
    return CopyState::done;
  }

  /// Copies pieces itself, of whichever batch comes next, until this one has ended or none is left;
  /// then sleeps.
  [[nodiscard]] CopyState wait(CopyTicket ticket) noexcept {
    const std::size_t index = find(ticket);
    std::unique_lock<std::mutex> lock(mutex_);
    const auto ended = [&] { return batches_[index].ended.load(std::memory_order_relaxed); };
    while (!ended() && queued_ != 0) copy_piece(lock);
    ended_.wait(lock, ended);
    lock.unlock();
    spend(index);
    return CopyState::done;
  }

 private:
  struct Prepared {};

  struct Batch {
    std::span<ByteCopy> copies{};
    std::size_t count = 0;
    /// Where the next piece begins.
    std::size_t copy = 0;
    std::size_t offset = 0;
    /// Pieces that threads are copying now.
    std::size_t in_hand = 0;
    std::uint64_t generation = 0;
    std::atomic<bool> ended{false};

    [[nodiscard]] bool taken() const { return copy == count; }
  };

  /// Part of a batch: from a place within its first copy to one within its last.
  struct Piece {
    std::size_t first;
    std::size_t first_offset;
    std::size_t last;
    std::size_t last_end;
  };

  static const Config& checked(const Config& config) {
    using lethe::detail::require;
    require(config.threads >= 1, "threads", config.threads, "start at least 1 thread");
    require(config.batches >= 1, "batches", config.batches, "allow at least 1 batch");
    require(config.batch_copies >= 1, "batch_copies", config.batch_copies, "allow at least 1 copy");
    require(config.piece_bytes >= 1, "piece_bytes", config.piece_bytes, "choose at least 1 byte");
    return config;
  }

  ThreadCopier(const Config& config, Prepared)
      : config_(config),
        copies_(std::make_unique_for_overwrite<ByteCopy[]>(config.batches * config.batch_copies)),
        batches_(config.batches),
        queue_(config.batches),
        threads_(config.threads) {
    unused_.reserve(config.batches);
    for (std::size_t index = config.batches; index-- > 0;) {
      batches_[index].copies = {copies_.get() + index * config.batch_copies, config.batch_copies};
      unused_.push_back(index);
    }
  }

  void prepare(std::size_t index, std::span<const ByteCopy> batch) noexcept {
    Batch& own = batches_[index];
    own.count = 0;
    for (const ByteCopy& copy : batch) {
      if (copy.bytes != 0) own.copies[own.count++] = copy;
    }
    own.copy = 0;
    own.offset = 0;
    own.in_hand = 0;
    own.ended.store(false, std::memory_order_relaxed);
  }

  [[nodiscard]] CopyTicket ticket_of(std::size_t index) const noexcept {
    return batches_[index].generation << 32 | index;
  }
  [[nodiscard]] std::size_t find(CopyTicket ticket) const noexcept {
    const auto index = static_cast<std::size_t>(ticket & 0xFFFFFFFFu);
    LETHE_ASSERT(index < batches_.size() && ticket_of(index) == ticket);
    return index;
  }
  /// The ticket is over; its batch may be used again.
  void spend(std::size_t index) noexcept {
    ++batches_[index].generation;
    unused_.push_back(index);
  }

  void work() noexcept {
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      submitted_.wait(lock, [&] { return stopping_ || queued_ != 0; });
      if (stopping_) return;
      copy_piece(lock);
    }
  }

  /// Takes the next piece of the oldest batch that has one, and copies it without the lock.
  void copy_piece(std::unique_lock<std::mutex>& lock) noexcept {
    Batch& batch = batches_[queue_[first_]];
    const Piece piece = take(batch);
    ++batch.in_hand;
    if (batch.taken()) {
      first_ = (first_ + 1) % queue_.size();
      --queued_;
    }
    lock.unlock();
    copy(batch, piece);
    lock.lock();
    if (--batch.in_hand != 0 || !batch.taken()) return;
    batch.ended.store(true, std::memory_order_release);
    ended_.notify_all();
  }

  [[nodiscard]] Piece take(Batch& batch) const noexcept {
    Piece piece{batch.copy, batch.offset, batch.copy, 0};
    std::size_t left = config_.piece_bytes;
    while (left != 0 && !batch.taken()) {
      const std::size_t bytes = std::min(left, batch.copies[batch.copy].bytes - batch.offset);
      left -= bytes;
      batch.offset += bytes;
      piece.last = batch.copy;
      piece.last_end = batch.offset;
      if (batch.offset < batch.copies[batch.copy].bytes) break;
      ++batch.copy;
      batch.offset = 0;
    }
    return piece;
  }

  static void copy(const Batch& batch, const Piece& piece) noexcept {
    for (std::size_t i = piece.first; i <= piece.last; ++i) {
      const ByteCopy& copy = batch.copies[i];
      const std::size_t begin = i == piece.first ? piece.first_offset : 0;
      const std::size_t end = i == piece.last ? piece.last_end : copy.bytes;
      std::memcpy(copy.target + begin, copy.source + begin, end - begin);
    }
  }

  Config config_;
  std::unique_ptr<ByteCopy[]> copies_;
  std::vector<Batch> batches_;
  /// The caller's alone: batches without a ticket.
  std::vector<std::size_t> unused_;
  /// What follows is guarded by the mutex: a ring of batches with pieces to take, oldest first.
  std::mutex mutex_;
  std::condition_variable submitted_;
  std::condition_variable ended_;
  std::vector<std::size_t> queue_;
  std::size_t first_ = 0;
  std::size_t queued_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};
static_assert(Copier<ThreadCopier>);

}  // namespace lethe::layerkv
