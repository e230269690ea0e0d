/// Device memory for tests: copies of host vectors, and pointers into the one for pointers into the
/// other.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "devices.hpp"

namespace naive {

/// Throws std::runtime_error with the error's name.
inline void succeed(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorName(error));
}

/// Whether there is a device; says so where there is none. Ends the program with status 2 where
/// the runtime cannot tell, as with a driver that is too old.
inline bool has_device() {
  const Devices found = find_devices();
  if (found.error != cudaSuccess) {
    std::fprintf(stderr, "cudaGetDeviceCount: %s\n", cudaGetErrorName(found.error));
    std::exit(2);
  }
  if (found.count == 0) std::puts("skipped: no CUDA device");
  return found.count != 0;
}

struct DeviceDelete {
  void operator()(std::byte* memory) const { static_cast<void>(cudaFree(memory)); }
};
using DeviceMemory = std::unique_ptr<std::byte, DeviceDelete>;

inline DeviceMemory device_memory(std::size_t bytes) {
  void* memory = nullptr;
  succeed(cudaMalloc(&memory, bytes + 1));
  return DeviceMemory(static_cast<std::byte*>(memory));
}

/// A stream of the engine's.
struct Stream {
  Stream() { succeed(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { static_cast<void>(cudaStreamDestroy(stream)); }
  cudaStream_t stream = nullptr;
};

/// Host vectors and their copies on the device.
class Mirror {
 public:
  template <class Item>
  void add(const std::vector<Item>& items) {
    const auto* bytes = reinterpret_cast<const std::byte*>(items.data());
    const std::size_t size = items.size() * sizeof(Item);
    DeviceMemory memory = device_memory(size);
    succeed(cudaMemcpy(memory.get(), bytes, size, cudaMemcpyHostToDevice));
    // From pageable memory that copy may still be on its way, and no other stream waits for it.
    succeed(cudaDeviceSynchronize());
    copies_.push_back({bytes, size, std::move(memory)});
  }
  /// The device's address of what a pointer into an added vector points to; null stays null.
  template <class Item>
  [[nodiscard]] Item* on_device(Item* pointer) const {
    if (pointer == nullptr) return nullptr;
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    for (const Copy& copy : copies_) {
      const auto first = reinterpret_cast<std::uintptr_t>(copy.host);
      if (address < first || address >= first + copy.bytes) continue;
      return reinterpret_cast<Item*>(copy.device.get() + (address - first));
    }
    throw std::runtime_error("a pointer into no vector of the mirror");
  }
  /// Whether every copy is byte-equal to its vector, as that is now.
  [[nodiscard]] bool equal() const {
    for (const Copy& copy : copies_) {
      std::vector<std::byte> bytes(copy.bytes);
      succeed(cudaMemcpy(bytes.data(), copy.device.get(), copy.bytes, cudaMemcpyDeviceToHost));
      if (std::memcmp(bytes.data(), copy.host, copy.bytes) != 0) return false;
    }
    return true;
  }

 private:
  struct Copy {
    const std::byte* host;
    std::size_t bytes;
    DeviceMemory device;
  };
  std::vector<Copy> copies_;
};

}  // namespace naive
