/// When collectives have the link, by the device's own account: copies yield to them.
#pragma once

#include <cstddef>
#include <vector>

#include "lethe/config.hpp"
#include "lethe/gpu/status.hpp"
#include "lethe/gpu/transfer_calls.hpp"

namespace lethe::gpu {

/// Settings of LinkWindows.
struct LinkWindowsConfig {
  /// Collectives that were enqueued and have not passed, two events each. What a host enqueues
  /// ahead beyond that counts as one long collective. Default: two a layer of 32 layers.
  std::size_t windows = 64;

  bool operator==(const LinkWindowsConfig&) const = default;
};

/// The link_free of TransferQueue::poll. The host enqueues an all-reduce long before it runs, so
/// events around it say when it does: the engine calls before(stream), enqueues the collective,
/// calls after(stream), and passes the object to poll. Only the pace of copies hangs on it: after
/// an error the link counts as free. Nothing is allocated after construction.
template <TransferCalls Calls>
class LinkWindows {
 public:
  using Config = LinkWindowsConfig;
  using Stream = typename Calls::Stream;
  using Event = typename Calls::Event;

  /// calls: outlives the object. Throws std::invalid_argument for 0 windows.
  LinkWindows(const Config& config, Calls& calls)
      : calls_(&calls), events_(2 * checked(config).windows) {
    for (Event& event : events_) {
      status_ = told(calls_->create_event(event), "cudaEventCreateWithFlags");
      if (!status_.ok()) return;
      ++made_;
    }
  }
  LinkWindows(const LinkWindows&) = delete;
  LinkWindows& operator=(const LinkWindows&) = delete;
  ~LinkWindows() {
    for (std::size_t i = 0; i < made_; ++i) calls_->destroy_event(events_[i]);
  }

  /// Whether the events could be had; the link is always free where not.
  [[nodiscard]] const Status& status() const { return status_; }

  /// A collective comes next on the stream.
  Status before(Stream stream) noexcept {
    if (!status_.ok() || open_) return status_;
    open_ = true;
    if (size_ == windows()) drop_passed();
    if (size_ == windows()) return {};
    const Status status =
        told(calls_->record_event(begin_of(first_ + size_), stream), "cudaEventRecord");
    open_ = status.ok();
    size_ += open_ ? 1 : 0;
    return status;
  }

  /// The collective has been enqueued.
  Status after(Stream stream) noexcept {
    if (!status_.ok() || !open_) return status_;
    open_ = false;
    // Should it fail, the event has passed as it was recorded last, so the window is dropped.
    return told(calls_->record_event(end_of(first_ + size_ - 1), stream), "cudaEventRecord");
  }

  /// Whether no collective runs now. Asks the runtime twice, and once more for each that has
  /// passed.
  [[nodiscard]] bool operator()() noexcept {
    drop_passed();
    if (size_ == 0) return true;
    return calls_->query_event(begin_of(first_)) != 0;
  }

 private:
  static const Config& checked(const Config& config) {
    lethe::detail::require(config.windows >= 1, "windows", config.windows,
                           "allow at least 1 collective");
    return config;
  }
  static Status told(int code, const char* call) { return {code, code == 0 ? "" : call}; }

  [[nodiscard]] std::size_t windows() const { return events_.size() / 2; }
  [[nodiscard]] Event begin_of(std::size_t window) const { return events_[window % windows() * 2]; }
  [[nodiscard]] Event end_of(std::size_t window) const {
    return events_[window % windows() * 2 + 1];
  }

  /// The newest is not asked after while it is open: its end has not been recorded.
  void drop_passed() {
    while (size_ > (open_ ? 1u : 0u) && !calls_->not_ready(calls_->query_event(end_of(first_)))) {
      ++first_;
      --size_;
    }
  }

  Calls* calls_;
  std::vector<Event> events_;
  std::size_t made_ = 0;
  std::size_t first_ = 0;
  std::size_t size_ = 0;
  bool open_ = false;
  Status status_{};
};

}  // namespace lethe::gpu
