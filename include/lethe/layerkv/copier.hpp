/// What carries bytes between device and host: batches of copies, begun together, awaited by
/// ticket.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace lethe::layerkv {

/// The way bytes go; a copier may have a stream for each.
enum class Route : std::uint8_t { to_host, to_device };

/// `bytes` bytes from source to target, which do not overlap.
struct ByteCopy {
  const std::byte* source;
  std::byte* target;
  std::size_t bytes;

  bool operator==(const ByteCopy&) const = default;
};

/// One batch under way.
using CopyTicket = std::uint64_t;

/// What has become of a batch. Once it is done or failed, nothing of it touches memory any more.
enum class CopyState : std::uint8_t { pending, done, failed };

/// Carries batches of copies; called by one thread at a time.
///
/// submit(batch, route): begins all copies of a batch, in any order, and returns at once; the span
/// may be reused then, the bytes not before the batch has ended. None: it has no room for another
/// batch now, and nothing was begun.
/// poll(ticket): never blocks. wait(ticket): blocks, and never says pending. A ticket is spent when
/// either has said done or failed. A batch fails as a whole: any part of its targets may be
/// written.
///
/// Threads, streams and copy engines all fit: a CUDA copier enqueues each copy on the route's
/// stream and records one event for the ticket, whose query and synchronisation are poll and wait;
/// a batch half enqueued when an error came is failed when the event after that half has passed.
/// Each copy costs an enqueueing, so batches hold few and large ones; host memory must be pinned
/// for a copy to be asynchronous.
template <class Model>
concept Copier = requires(Model& copier, std::span<const ByteCopy> batch, Route route,
                          CopyTicket ticket) {
  { copier.submit(batch, route) } -> std::same_as<std::optional<CopyTicket>>;
  { copier.poll(ticket) } -> std::same_as<CopyState>;
  { copier.wait(ticket) } -> std::same_as<CopyState>;
  requires noexcept(copier.submit(batch, route));
  requires noexcept(copier.poll(ticket));
  requires noexcept(copier.wait(ticket));
};

}  // namespace lethe::layerkv
