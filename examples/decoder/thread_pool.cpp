#include "thread_pool.hpp"

#include <algorithm>
#include <exception>
#include <string>

#include "error.hpp"

namespace decoder {
namespace {

// About 0.1 ms: longer than the serial parts of a decode step, too short to be felt as load.
constexpr int spins_before_sleep = 2000;

unsigned resolve(unsigned threads) noexcept {
  return threads != 0 ? threads : std::max(1u, std::thread::hardware_concurrency());
}

thread_local unsigned current_thread = 0;

void pause_briefly() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

ThreadPool::ThreadPool(unsigned threads) {
  const unsigned workers = std::min(resolve(threads) - 1, active_mask);
  try {
    start(workers);
  } catch (const std::exception&) {  // no thread to be had, or no memory for it
    stop();
    throw Error("cannot start " + std::to_string(workers + 1) + " threads: give a smaller -t");
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::start(unsigned workers) {
  workers_.reserve(workers);
  for (unsigned i = 0; i < workers; ++i) {
    workers_.emplace_back([this, i] {
      current_thread = i + 1;
      work_until_stopped();
    });
  }
}

void ThreadPool::stop() noexcept {
  stop_.store(true);
  state_.fetch_add(next_job);
  state_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

unsigned ThreadPool::current() noexcept { return current_thread; }

void ThreadPool::run(Call call, void* context, std::size_t count, std::size_t grain) {
  call_ = call;
  context_ = context;
  count_ = count;
  grain_ = grain;
  next_.store(0, std::memory_order_relaxed);
  state_.store(((state_.load(std::memory_order_relaxed) & ~open) + next_job) | open,
               std::memory_order_release);
  state_.notify_all();
  share_work();
  state_.fetch_and(~open, std::memory_order_acq_rel);
  while ((state_.load(std::memory_order_acquire) & active_mask) != 0) pause_briefly();
}

void ThreadPool::share_work() noexcept {
  while (true) {
    const std::size_t first = next_.fetch_add(grain_, std::memory_order_relaxed);
    if (first >= count_) return;
    call_(context_, first, std::min(first + grain_, count_));
  }
}

void ThreadPool::work_until_stopped() noexcept {
  std::uint32_t state = 0;
  while (!stop_.load()) {
    if (try_enter(state)) {
      share_work();
      state_.fetch_sub(1, std::memory_order_acq_rel);
      state &= ~active_mask;
    }
    state = wait_for_change(state);
  }
}

// Enters the open job, if there is one; leaves the last state seen.
bool ThreadPool::try_enter(std::uint32_t& state) noexcept {
  while ((state & open) != 0) {
    if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) return true;
  }
  return false;
}

// Returns once another job than the seen one is open, or the pool stops.
std::uint32_t ThreadPool::wait_for_change(std::uint32_t seen) noexcept {
  const auto number = [](std::uint32_t state) { return state / next_job; };
  std::uint32_t state = state_.load(std::memory_order_acquire);
  // Whoever has seen the number that stop() counted up to sees stop_ too, and must not wait for
  // more.
  for (int i = 0; number(state) == number(seen) && !stop_.load(); ++i) {
    if (i < spins_before_sleep) {
      pause_briefly();
    } else {
      state_.wait(state, std::memory_order_acquire);
    }
    state = state_.load(std::memory_order_acquire);
  }
  return state;
}

}  // namespace decoder
