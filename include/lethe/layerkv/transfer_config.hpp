/// What a transfer queue is told and what it tells: settings, requests, ends.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "lethe/config.hpp"
#include "lethe/layerkv/copier.hpp"
#include "lethe/layerkv/link_pace.hpp"

namespace lethe::layerkv {

/// A transfer of one queue, from start until take_finished has told its end.
using TransferId = std::uint64_t;

/// Which transfer goes first. Strict: a lower one moves only while no higher one can.
enum class Urgency : std::uint8_t {
  /// Decoding stands still until it is there.
  awaited,
  /// A layer that decoding comes to next.
  ahead,
  /// Nobody waits: offloads.
  background,
};

/// The part that a staging buffer has in a transfer.
enum class Staging : std::uint8_t {
  /// None: from sources to targets.
  none,
  /// The sources are packed into a buffer one after another, and stay there until release. Targets
  /// are not looked at.
  into,
  /// Packed into a buffer, then spread from there to the targets: of two fragmented sides, each is
  /// met where copies are cheap, and the link sees large ones.
  through,
};

enum class TransferOutcome : std::uint8_t { done, failed, cancelled };

/// Two buffers of equal size: one is read while the other is filled. Empty: none.
using StagingBuffers = std::array<std::span<std::byte>, 2>;

/// Settings of TransferQueue.
struct TransferQueueConfig {
  /// Transfers that have been started and not been taken; an id and `copies` copies each.
  std::size_t transfers = 256;
  /// Most copies of one transfer: blocks of the longest table x arrays, where no run is certain.
  std::size_t copies = 4096;
  /// Bytes submitted at once. 2 MB reach the full speed of PCIe 5 (arXiv 2410.00428), in 40 us.
  std::size_t slice_bytes = std::size_t{2} << 20;
  /// Most copies submitted at once; 256 of 8 KB are 2 MB.
  std::size_t slice_copies = 256;
  /// Slices under way in each direction, or in all: two, so that one waits where the other ends.
  std::size_t slices = 2;
  /// Submissions of a slice before its transfer fails. No source: two failures in a row may be
  /// chance, three hardly.
  std::size_t attempts = 3;
  /// Whether each direction has its own slices and link speed, as with a copy engine for each.
  /// Off, an offload never delays a fetch by more than the slices under way.
  bool duplex = false;
  /// Which side of the link the staging buffers are on.
  bool staging_on_device = true;
  /// A speed to keep to; no limit by default.
  LinkConfig link{};

  bool operator==(const TransferQueueConfig&) const = default;
};

/// What to carry. All bytes stay put until the transfer's end has been taken.
struct TransferRequest {
  /// Copied by start; targets overlap nothing.
  std::span<const ByteCopy> copies{};
  Route route = Route::to_host;
  Urgency urgency = Urgency::background;
  Staging staging = Staging::none;
  /// The caller's own: a migration, or a request and a layer.
  std::uint64_t tag = 0;
};

/// A staging buffer that a transfer does not have.
inline constexpr std::size_t no_buffer = 2;

/// A transfer that has ended: nothing of it touches memory any more.
struct FinishedTransfer {
  TransferId id = 0;
  std::uint64_t tag = 0;
  TransferOutcome outcome = TransferOutcome::done;
  /// Bytes and copies that crossed the link, those of failed slices too, and the seconds from the
  /// first submission to the end by the caller's clock: what a cost model is fitted to.
  std::size_t bytes = 0;
  std::size_t copies = 0;
  double seconds = 0;
  /// Staging::into, done: the buffer, the caller's until release(buffer), and what was packed.
  std::size_t buffer = no_buffer;
  std::span<const std::byte> staged{};
};

namespace detail {

inline void check_transfer_queue(const TransferQueueConfig& config, const StagingBuffers& staging) {
  using lethe::detail::require;
  require(config.transfers >= 1, "transfers", config.transfers, "allow at least 1 transfer");
  require(config.transfers < (std::size_t{1} << 32), "transfers", config.transfers,
          "ids hold 32 bits of it");
  require(config.copies >= 1, "copies", config.copies, "allow at least 1 copy");
  require(config.copies < (std::size_t{1} << 24), "copies", config.copies,
          "choose fewer than 2^24: a layer has no more blocks");
  require(config.slice_bytes >= 1, "slice_bytes", config.slice_bytes, "choose at least 1 byte");
  require(config.slice_copies >= 1, "slice_copies", config.slice_copies, "choose at least 1 copy");
  require(config.slices >= 1, "slices", config.slices, "allow at least 1 slice under way");
  require(config.attempts >= 1, "attempts", config.attempts, "try at least once");
  require(staging[0].size() == staging[1].size(), "staging", staging[1].size(),
          "give two buffers of one size, or none");
  check_link(config.link);
}

}  // namespace detail

}  // namespace lethe::layerkv
