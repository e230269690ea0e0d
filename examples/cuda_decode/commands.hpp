#pragma once

#include "options.hpp"

namespace cuda_decode {

// Each returns the program's exit status, and throws decoder::Error for what cannot be done.

/// Times decode steps of a model of that shape: whole cache and Lethe. Without a device it says so.
int timing(const TimeOptions& options);

/// Continues a text on the device, always with the likeliest token.
int generate(const GenerateOptions& options);

/// Compares the device with the CPU decoder, whole cache and Lethe; 1 where they disagree. Without
/// a device it says so.
int check(const CheckOptions& options);

}  // namespace cuda_decode
