#include "host_backend.hpp"

#include <memory>
#include <string>

#include "backend.hpp"
#include "error.hpp"
#include "host_device.hpp"

namespace cuda_decode {
namespace {

bool device_is_there = true;
std::string device_error;
std::size_t told_bytes = std::size_t{1} << 26;

template <class Numbers>
std::unique_ptr<Backend> backend() {
  if (!has_device()) throw decoder::Error("there is no CUDA device");
  return std::make_unique<BackendOn<test::HostDevice, Numbers>>(test::HostDevice(1, told_bytes));
}

}  // namespace

namespace test {

void set_device(bool is_there) { device_is_there = is_there; }
void set_device_error(const std::string& error) { device_error = error; }
void set_largest_piece(std::size_t bytes) { HostDevice::largest_piece = bytes; }
void set_free_bytes(std::size_t bytes) { told_bytes = bytes; }
std::size_t allocated_bytes() { return HostDevice::allocated; }

}  // namespace test

bool has_device() {
  if (!device_error.empty()) throw decoder::Error(device_error);
  return device_is_there;
}
std::unique_ptr<Backend> exact_backend() { return backend<Exact>(); }
std::unique_ptr<Backend> fast_backend() { return backend<Fast>(); }

}  // namespace cuda_decode
