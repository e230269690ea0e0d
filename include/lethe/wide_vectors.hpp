/// Loops in wider vectors than the compiler's flags have, where the processor has them.
#pragma once

#include <cstdint>

#include "lethe/config.hpp"

// Where the flags have them already, there is nothing to choose.
#if defined(__GNUC__) && defined(__x86_64__) && !defined(__AVX2__) && !defined(__CUDACC__)
#define LETHE_HAS_WIDE_VECTORS 1
#define LETHE_WIDE __attribute__((target("avx2"))) LETHE_EXACT
#else
#define LETHE_HAS_WIDE_VECTORS 0
#endif

// A lambda that is run in wide vectors carries this behind its parameters, and the functions that
// it calls are inlined, since one that stays by itself stays as the flags have it. g++ inlines
// these early, with the flags of whoever calls: only what is LETHE_EXACT may call them.
#define LETHE_VECTOR_BODY LETHE_INLINE LETHE_EXACT

namespace lethe::detail {

/// Vectors as the compiler's flags have them, or eight floats wide.
enum class Vectors : std::uint8_t { plain, wide };

/// What this processor runs; O(1), but not for each row.
[[nodiscard]] inline Vectors widest_vectors() {
#if LETHE_HAS_WIDE_VECTORS
  if (__builtin_cpu_supports("avx2")) return Vectors::wide;
#endif
  return Vectors::plain;
}

#if LETHE_HAS_WIDE_VECTORS
/// Without fused multiply-add: a body has the same bits here as anywhere.
template <class Body>
LETHE_WIDE __attribute__((flatten, noinline)) void run_wide(const Body& body) {
  body();
}
#endif

/// Calls body(), a LETHE_VECTOR_BODY.
template <class Body>
LETHE_EXACT void run(Vectors vectors, const Body& body) {
#if LETHE_HAS_WIDE_VECTORS
  if (vectors == Vectors::wide) return run_wide(body);
#endif
  static_cast<void>(vectors);
  body();
}

}  // namespace lethe::detail
