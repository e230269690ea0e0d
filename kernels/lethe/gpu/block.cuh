/// An algorithm of one thread block, written once: lane by lane on the device, and on a host that
/// tests it. It is a template over a ThreadBlock and runs in phases, block.lanes(body): every lane
/// runs the body, then a barrier. block.lanes_apart(body) leaves the barrier out: the body touches
/// a lane's own registers, and memory that no lane writes before the next barrier. Between phases
/// all lanes run the same code, on values that are equal in all of them; those come from block.read
/// and from the collectives, never from shared memory directly, which another lane might already be
/// writing to.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "lethe/config.hpp"
#include "lethe/numeric.hpp"

// Code of a block: nvcc compiles it for the device alone, any other compiler for the host's model.
#if defined(__CUDACC__)
#define LETHE_BLOCK_CODE __device__
#define LETHE_UNROLL _Pragma("unroll")
#else
#define LETHE_BLOCK_CODE
#define LETHE_UNROLL
#endif

namespace lethe::gpu {

namespace detail {

struct IdleLane {
  LETHE_BLOCK_CODE void operator()(unsigned) const {}
};

}  // namespace detail

/// One thread block. Registers<T, Items> are a lane's own, kept over phases: registers(lane, item).
/// sum, maximum and exclusive_sum take unsigned integers, one a lane; a lane may add to a counter
/// of shared or global memory within a phase.
template <class Block>
concept ThreadBlock = requires(const Block& block,
                               typename Block::template Registers<std::uint32_t, 1>& values,
                               typename Block::template Registers<std::uint64_t, 1>& wide,
                               std::uint32_t& counter, std::uint64_t& wide_counter) {
  requires Block::threads >= 32;
  block.lanes(detail::IdleLane{});
  block.lanes_apart(detail::IdleLane{});
  { values(0u, 0u) } -> std::same_as<std::uint32_t&>;
  { block.read(counter) } -> std::same_as<std::uint32_t>;
  { block.sum(values) } -> std::same_as<std::uint32_t>;
  { block.maximum(values) } -> std::same_as<std::uint32_t>;
  { block.exclusive_sum(values) } -> std::same_as<std::uint32_t>;
  { block.exclusive_sum(wide) } -> std::same_as<std::uint64_t>;
  { block.sum(wide) } -> std::same_as<std::uint64_t>;
  Block::add(counter, std::uint32_t{1});
  Block::add(wide_counter, std::uint64_t{1});
};

#if !defined(__CUDACC__)

/// The model of the host: a phase runs lane after lane. The order is that of a seed, another one in
/// each phase, so that a barrier that is missing shows.
template <unsigned Threads>
class HostBlock {
 public:
  static constexpr unsigned threads = Threads;
  static_assert(Threads >= 32 && (Threads & (Threads - 1)) == 0, "a power of two, whole warps");

  template <class T, unsigned Items>
  class Registers {
   public:
    Registers() : values_(std::size_t{Threads} * Items) {}
    [[nodiscard]] T& operator()(unsigned lane, unsigned item) {
      return values_[std::size_t{lane} * Items + item];
    }
    [[nodiscard]] const T& operator()(unsigned lane, unsigned item) const {
      return values_[std::size_t{lane} * Items + item];
    }

   private:
    std::vector<T> values_;
  };

  /// seed 0: lanes ascend.
  explicit HostBlock(std::uint64_t seed = 0) : seed_(seed) {}

  /// Runs body(lane) for every lane, then waits for all.
  template <class Body>
  void lanes(Body&& body) const {
    const std::uint64_t word = seed_ != 0 ? lethe::detail::mix(seed_ + ++phase_) : 0;
    const unsigned stride = static_cast<unsigned>(word) | 1u;
    const unsigned start = static_cast<unsigned>(word >> 32);
    for (unsigned i = 0; i < Threads; ++i) body((start + i * stride) % Threads);
  }

  template <class Body>
  void lanes_apart(Body&& body) const {
    lanes(body);
  }

  /// The same value for all lanes; waits for all.
  template <class T>
  [[nodiscard]] T read(const T& shared) const {
    return shared;
  }

  template <class T>
  [[nodiscard]] T sum(const Registers<T, 1>& values) const {
    T total = 0;
    for (unsigned lane = 0; lane < Threads; ++lane) total += values(lane, 0);
    return total;
  }

  template <class T>
  [[nodiscard]] T maximum(const Registers<T, 1>& values) const {
    T most = 0;
    for (unsigned lane = 0; lane < Threads; ++lane) {
      if (most < values(lane, 0)) most = values(lane, 0);
    }
    return most;
  }

  /// Gives each lane the sum of those before it, and returns that of all.
  template <class T>
  T exclusive_sum(Registers<T, 1>& values) const {
    T total = 0;
    for (unsigned lane = 0; lane < Threads; ++lane) {
      const T own = values(lane, 0);
      values(lane, 0) = total;
      total += own;
    }
    return total;
  }

  template <class T>
  static void add(T& counter, T value) {
    counter += value;
  }

 private:
  std::uint64_t seed_;
  mutable std::uint64_t phase_ = 0;
};
static_assert(ThreadBlock<HostBlock<32>>);

#else

/// The model of the device: a kernel launched with exactly Threads threads a block.
template <unsigned Threads>
class DeviceBlock {
 public:
  static constexpr unsigned threads = Threads;
  static_assert(Threads >= 32 && Threads <= 1024 && (Threads & (Threads - 1)) == 0,
                "a power of two, whole warps");

  template <class T, unsigned Items>
  class Registers {
   public:
    __device__ T& operator()(unsigned, unsigned item) { return values_[item]; }
    __device__ const T& operator()(unsigned, unsigned item) const { return values_[item]; }

   private:
    T values_[Items];
  };

  /// Shared memory of the collectives.
  struct Storage {
    std::uint64_t words[32];
  };

  __device__ explicit DeviceBlock(Storage& storage) : storage_(&storage) {}

  template <class Body>
  __device__ void lanes(Body&& body) const {
    body(threadIdx.x);
    __syncthreads();
  }

  template <class Body>
  __device__ void lanes_apart(Body&& body) const {
    body(threadIdx.x);
  }

  template <class T>
  [[nodiscard]] __device__ T read(const T& shared) const {
    const T value = shared;
    __syncthreads();
    return value;
  }

  template <class T>
  [[nodiscard]] __device__ T sum(const Registers<T, 1>& values) const {
    return reduce(values(threadIdx.x, 0), [](T a, T b) { return a + b; });
  }

  template <class T>
  [[nodiscard]] __device__ T maximum(const Registers<T, 1>& values) const {
    return reduce(values(threadIdx.x, 0), [](T a, T b) { return a < b ? b : a; });
  }

  template <class T>
  __device__ T exclusive_sum(Registers<T, 1>& values) const {
    const unsigned warp = threadIdx.x / 32;
    const T own = values(threadIdx.x, 0);
    const T within = inclusive_of_warp(own);
    if (threadIdx.x % 32 == 31) words<T>()[warp] = within;
    __syncthreads();
    const T of_warp = word_of_lane<T>();
    const T up_to = inclusive_of_warp(of_warp);
    const T before = __shfl_sync(whole_warp, up_to - of_warp, static_cast<int>(warp));
    values(threadIdx.x, 0) = before + (within - own);
    __syncthreads();
    return __shfl_sync(whole_warp, up_to, 31);
  }

  template <class T>
  __device__ static void add(T& counter, T value) {
    if constexpr (sizeof(T) == sizeof(unsigned long long)) {
      atomicAdd(reinterpret_cast<unsigned long long*>(&counter),
                static_cast<unsigned long long>(value));
    } else {
      atomicAdd(&counter, value);
    }
  }

 private:
  static constexpr unsigned whole_warp = 0xFFFFFFFFu;

  template <class T>
  [[nodiscard]] __device__ T* words() const {
    static_assert(sizeof(T) <= sizeof(std::uint64_t), "an integer of at most 64 bits");
    return reinterpret_cast<T*>(storage_->words);
  }

  /// What warp number (this lane of its warp) has left.
  template <class T>
  [[nodiscard]] __device__ T word_of_lane() const {
    const unsigned lane = threadIdx.x % 32;
    return lane < Threads / 32 ? words<T>()[lane] : T{0};
  }

  template <class T>
  [[nodiscard]] __device__ static T inclusive_of_warp(T value) {
    for (unsigned distance = 1; distance < 32; distance *= 2) {
      const T below = __shfl_up_sync(whole_warp, value, distance);
      if (threadIdx.x % 32 >= distance) value += below;
    }
    return value;
  }

  template <class T, class Combine>
  [[nodiscard]] __device__ static T reduce_warp(T value, Combine combine) {
    for (int distance = 16; distance != 0; distance /= 2) {
      value = combine(value, __shfl_xor_sync(whole_warp, value, distance));
    }
    return value;
  }

  template <class T, class Combine>
  [[nodiscard]] __device__ T reduce(T value, Combine combine) const {
    value = reduce_warp(value, combine);
    if (threadIdx.x % 32 == 0) words<T>()[threadIdx.x / 32] = value;
    __syncthreads();
    value = reduce_warp(word_of_lane<T>(), combine);
    __syncthreads();
    return value;
  }

  Storage* storage_;
};
static_assert(ThreadBlock<DeviceBlock<1024>>);

/// What a kernel calls once where its block needs memory that all lanes share: body(block, shared).
template <unsigned Threads, class Shared, class Body>
__device__ __forceinline__ void with_shared(Body&& body) {
  __shared__ typename DeviceBlock<Threads>::Storage storage;
  // Raw, since shared memory may have no initialisers.
  __shared__ alignas(Shared) unsigned char shared[sizeof(Shared)];
  body(DeviceBlock<Threads>(storage), reinterpret_cast<Shared&>(shared));
}

#endif

}  // namespace lethe::gpu
