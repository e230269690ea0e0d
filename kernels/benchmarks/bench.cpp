#include "bench.hpp"

#include <algorithm>
#include <chrono>
#include <stdexcept>

#include "plain_kernels.hpp"

namespace gpu_bench {
namespace {

/// Many times any L2, and longer than the host takes to enqueue a step.
constexpr std::uint64_t hold_bytes = std::uint64_t{2} << 30;

class Event {
 public:
  Event() { require(cudaEventCreate(&event_), "cudaEventCreate"); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { static_cast<void>(cudaEventDestroy(event_)); }

  void record(cudaStream_t stream) const {
    require(cudaEventRecord(event_, stream), "cudaEventRecord");
  }
  /// Microseconds.
  [[nodiscard]] double since(const Event& begin) const {
    float milliseconds = 0;
    require(cudaEventElapsedTime(&milliseconds, begin.event_, event_), "cudaEventElapsedTime");
    return 1e3 * static_cast<double>(milliseconds);
  }

 private:
  cudaEvent_t event_ = nullptr;
};

/// Around one work of a turn.
struct Span {
  Event begin;
  Event end;
  double host = 0;

  void run(const Work& work, cudaStream_t stream) {
    using Clock = std::chrono::steady_clock;
    begin.record(stream);
    const auto before = Clock::now();
    work.run();
    host = std::chrono::duration<double, std::micro>(Clock::now() - before).count();
    end.record(stream);
  }
};

}  // namespace

void require(const lethe::gpu::Status& status) {
  if (status.ok()) return;
  const char* name = cudaGetErrorName(static_cast<cudaError_t>(status.code));
  throw std::runtime_error(std::string(status.call) + ": " + name +
                           (*status.remedy != '\0' ? std::string("; ") + status.remedy : ""));
}

void require(cudaError_t error, const char* call) {
  require(lethe::gpu::Status{static_cast<int>(error), call});
}

void require(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error("wrong result: " + what);
}

std::vector<std::byte> bytes_at(const std::byte* memory, std::size_t count) {
  std::vector<std::byte> bytes(count);
  require(cudaMemcpy(bytes.data(), memory, count, cudaMemcpyDeviceToHost), "cudaMemcpy");
  return bytes;
}

Bench::Bench(const Case& sizes, bool quick)
    : sizes_(sizes),
      turns_(quick ? 3 : 51),
      warm_up_(quick ? 1 : 3),
      cache_(sizes.cache_bytes()),
      sink_(1) {
  fill();
}

void Bench::fill() const {
  auto* bits = reinterpret_cast<std::uint16_t*>(cache());
  require(fill_bfloat16(bits, cache_bytes() / 2, 1, stream()), "bfloat16_kernel");
  finish();
}

void Bench::read(std::uint64_t bytes, std::uint32_t parts) const {
  const std::uint64_t part = bytes / parts / 16 * 16;
  std::uint64_t at = 0;
  for (std::uint64_t left = part * parts; left > 0;) {
    const std::uint64_t size = std::min({part, left, cache_bytes() - at});
    require(read_plainly(cache() + at, size, sink_.get(), stream()), "read_kernel");
    left -= size;
    at = at + size < cache_bytes() ? at + size : 0;
  }
}

void Bench::copy(std::uint64_t bytes) const {
  require(bytes <= cache_bytes() / 2, "the floor copies more than half of the cache");
  require(copy_plainly(keys(), values(), bytes, stream()), "copy_kernel");
}

std::vector<Times> Bench::time(const std::vector<Work>& works) const {
  std::vector<Span> spans(works.size());
  std::vector<Times> times(works.size());
  for (int turn = -warm_up_; turn < turns_; ++turn) {
    for (std::size_t i = 0; i < works.size(); ++i) {
      works[i].prepare();
      read(std::min<std::uint64_t>(hold_bytes, cache_bytes()));
      spans[i].run(works[i], stream());
    }
    finish();
    for (std::size_t i = 0; i < works.size() && turn >= 0; ++i) {
      times[i].device.push_back(spans[i].end.since(spans[i].begin));
      times[i].host.push_back(spans[i].host);
    }
  }
  return times;
}

Turns Bench::turns(const Work& floor, const Work& subject) const {
  std::vector<Times> times = time({floor, subject});
  return {times[0].device, times[1].device, times[1].host};
}

}  // namespace gpu_bench
