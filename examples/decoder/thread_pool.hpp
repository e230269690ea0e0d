/// Threads that share the rows of a matrix or the heads of an attention layer.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace decoder {

/// A fixed set of threads for short jobs, thousands a second: a worker spins for a while before it
/// sleeps, and a job never waits for a worker that did not start on it.
class ThreadPool {
 public:
  /// @param threads computing threads, the caller's included; 0: as many as the hardware has
  /// @throws Error when the system does not start so many
  explicit ThreadPool(unsigned threads);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  [[nodiscard]] unsigned threads() const noexcept {
    return static_cast<unsigned>(workers_.size()) + 1;
  }

  /// Returns which of its pool's threads is calling, below threads(): 0 for one of no pool.
  [[nodiscard]] static unsigned current() noexcept;

  /// Calls body(first, last) for ranges that cover [0, count), from several threads; returns when
  /// all are done. One caller at a time; `body` must not throw.
  /// @param grain most elements of a range
  template <class Body>
  void parallel_for(std::size_t count, std::size_t grain, Body&& body) {
    if (workers_.empty() || count <= grain) {
      if (count > 0) body(std::size_t{0}, count);
      return;
    }
    using Plain = std::remove_reference_t<Body>;
    const auto call = [](void* context, std::size_t first, std::size_t last) {
      (*static_cast<Plain*>(context))(first, last);
    };
    run(call, const_cast<std::remove_const_t<Plain>*>(&body), count, grain);
  }

 private:
  using Call = void (*)(void*, std::size_t, std::size_t);

  void run(Call call, void* context, std::size_t count, std::size_t grain);
  void start(unsigned workers);
  void stop() noexcept;
  void share_work() noexcept;
  void work_until_stopped() noexcept;
  std::uint32_t wait_for_change(std::uint32_t seen) noexcept;
  bool try_enter(std::uint32_t& state) noexcept;

  static constexpr std::uint32_t active_mask = 0x7FFF;  // workers inside the job
  static constexpr std::uint32_t open = 0x8000;         // workers may still enter
  static constexpr std::uint32_t next_job = 0x10000;    // the job's number, in the upper half

  Call call_ = nullptr;
  void* context_ = nullptr;
  std::size_t count_ = 0;
  std::size_t grain_ = 1;
  std::atomic<bool> stop_ = false;
  alignas(64) std::atomic<std::size_t> next_ = 0;
  alignas(64) std::atomic<std::uint32_t> state_ = 0;
  std::vector<std::thread> workers_;
};

}  // namespace decoder
