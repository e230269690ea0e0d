/// What all rows share: the device's memory, the model's cache in it, and how work is timed.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "device_memory.hpp"
#include "lethe/gpu/status.hpp"
#include "report.hpp"
#include "sizes.hpp"

namespace gpu_bench {

/// Throws std::runtime_error with the call, the error's name and the remedy.
void require(const lethe::gpu::Status& status);
void require(cudaError_t error, const char* call);
/// Throws std::runtime_error: a wrong result is no benchmark.
void require(bool holds, const std::string& what);

/// Enqueued on the bench's stream; prepare is not timed.
struct Work {
  std::function<void()> run;
  std::function<void()> prepare = [] {};
};

/// Times of one work, turn by turn, in microseconds: on the device, and of the host in run().
struct Times {
  std::vector<double> device;
  std::vector<double> host;
};

/// Items in device memory, poisoned.
template <class Item>
class Items {
 public:
  explicit Items(std::size_t count)
      : memory_(naive::device_memory(count * sizeof(Item))), count_(count) {
    poison();
  }
  explicit Items(const std::vector<Item>& items) : Items(items.size()) { write(items); }

  [[nodiscard]] Item* get() const { return reinterpret_cast<Item*>(memory_.get()); }
  [[nodiscard]] std::size_t bytes() const { return count_ * sizeof(Item); }
  void poison() const {
    require(cudaMemset(memory_.get(), 0xAB, bytes()), "cudaMemset");
    require(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }
  void write(const std::vector<Item>& items) const {
    require(cudaMemcpy(memory_.get(), items.data(), bytes(), cudaMemcpyHostToDevice), "cudaMemcpy");
    require(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }
  [[nodiscard]] std::vector<Item> read() const {
    std::vector<Item> items(count_);
    require(cudaMemcpy(items.data(), memory_.get(), bytes(), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return items;
  }

 private:
  naive::DeviceMemory memory_;
  std::size_t count_;
};

/// Bytes of device memory, on the host. The device has nothing else to do.
[[nodiscard]] std::vector<std::byte> bytes_at(const std::byte* memory, std::size_t count);

/// The device, and the cache's memory, filled at random: keys in its first half, values in the
/// other.
class Bench {
 public:
  /// Throws std::runtime_error where memory or the stream cannot be had.
  Bench(const Case& sizes, bool quick);

  [[nodiscard]] const Case& sizes() const { return sizes_; }
  [[nodiscard]] cudaStream_t stream() const { return stream_.stream; }
  [[nodiscard]] std::byte* cache() const { return cache_.get(); }
  [[nodiscard]] std::byte* keys() const { return cache_.get(); }
  [[nodiscard]] std::byte* values() const { return cache_.get() + cache_.bytes() / 2; }
  [[nodiscard]] std::size_t cache_bytes() const { return cache_.bytes(); }

  /// Keys and values at random, in place of what rows before have left.
  void fill() const;
  /// Reads so many bytes of the cache, from its front, again and again where it has fewer; by one
  /// kernel, or by as many as there are parts.
  void read(std::uint64_t bytes, std::uint32_t parts = 1) const;
  /// Copies so many bytes from the cache's second half to its first.
  void copy(std::uint64_t bytes) const;
  void finish() const { require(cudaStreamSynchronize(stream()), "cudaStreamSynchronize"); }

  /// Runs all works in turns. Before each a kernel reads past the L2, so that no input lies in it
  /// and the host is ahead of the device; each turn ends with the stream empty.
  [[nodiscard]] std::vector<Times> time(const std::vector<Work>& works) const;
  /// The same of a floor and a subject.
  [[nodiscard]] Turns turns(const Work& floor, const Work& subject) const;

 private:
  Case sizes_;
  int turns_;
  int warm_up_;
  naive::Stream stream_;
  Items<std::byte> cache_;
  Items<std::uint32_t> sink_;
};

}  // namespace gpu_bench
