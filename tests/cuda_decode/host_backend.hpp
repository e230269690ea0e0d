/// The emulation in the place of the CUDA device: the functions of cuda_backend.hpp, for tests.
#pragma once

#include <cstddef>
#include <string>

#include "cuda_backend.hpp"

namespace cuda_decode::test {

/// Whether has_device() finds one; at first it does.
void set_device(bool is_there);
/// The error that has_device() throws; none: "".
void set_device_error(const std::string& error);
/// Bytes of the largest piece of memory that a device has.
void set_largest_piece(std::size_t bytes);
/// What the devices made from now on say of their free memory.
void set_free_bytes(std::size_t bytes);
/// Bytes that all of them were asked for so far.
[[nodiscard]] std::size_t allocated_bytes();

}  // namespace cuda_decode::test
