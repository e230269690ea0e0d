/// Copies of one size at even steps, found in a batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "lethe/gpu/transfer_calls.hpp"
#include "lethe/layerkv/copier.hpp"

namespace lethe::gpu::detail {

/// How far one copy lies behind another on both sides, and whether a pitched copy may have that
/// step: forwards, and no shorter than a row.
struct CopyStep {
  std::ptrdiff_t source;
  std::ptrdiff_t target;

  [[nodiscard]] static CopyStep between(const layerkv::ByteCopy& first,
                                        const layerkv::ByteCopy& next) {
    // The two may lie in different arrays, so addresses are subtracted, not pointers.
    const auto distance = [](const std::byte* from, const std::byte* to) {
      return static_cast<std::ptrdiff_t>(reinterpret_cast<std::uintptr_t>(to) -
                                         reinterpret_cast<std::uintptr_t>(from));
    };
    return {distance(first.source, next.source), distance(first.target, next.target)};
  }
  [[nodiscard]] bool fits(std::size_t row_bytes) const {
    // cudaDevAttrMaxPitch is 2^31 - 1 on every device so far.
    constexpr std::ptrdiff_t most = 0x7FFFFFFF;
    const auto least = static_cast<std::ptrdiff_t>(row_bytes);
    return source >= least && target >= least && source <= most && target <= most;
  }
  bool operator==(const CopyStep&) const = default;
};

/// The copies at the front of a batch that one pitched copy can make, taken as rows; one row where
/// none follows suit. copies: not empty, none of 0 bytes. O(rows).
[[nodiscard]] inline PitchedCopy leading_run(std::span<const layerkv::ByteCopy> copies) {
  const layerkv::ByteCopy& first = copies[0];
  PitchedCopy run{first.source, first.target, first.bytes, 1, first.bytes, first.bytes};
  if (copies.size() == 1 || copies[1].bytes != first.bytes) return run;
  const CopyStep step = CopyStep::between(first, copies[1]);
  if (!step.fits(first.bytes)) return run;
  run.source_pitch = static_cast<std::size_t>(step.source);
  run.target_pitch = static_cast<std::size_t>(step.target);
  while (run.rows < copies.size() && copies[run.rows].bytes == first.bytes &&
         CopyStep::between(copies[run.rows - 1], copies[run.rows]) == step) {
    ++run.rows;
  }
  return run;
}

}  // namespace lethe::gpu::detail
