/// The CUDA device that is there.
#pragma once

#include <memory>

#include "stepper.hpp"

namespace cuda_decode {

/// Whether there is one; not where there is no driver. Throws decoder::Error with the error's name
/// where the runtime cannot tell, as with a driver that is too old.
[[nodiscard]] bool has_device();

/// The first device; throws decoder::Error where there is none. Exact: weights and activations in
/// fp32, the cache in fp16, as the CPU decoder has it. Fast: all in bf16.
[[nodiscard]] std::unique_ptr<Backend> exact_backend();
[[nodiscard]] std::unique_ptr<Backend> fast_backend();

}  // namespace cuda_decode
