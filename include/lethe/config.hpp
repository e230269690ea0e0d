/// What every header shares: assertions, error reporting, and exact floating-point loops.
#pragma once

#if __cplusplus < 202002L
#error "lethe needs C++20: compile with -std=c++20 or later"
#endif

#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

/// Checks for misuse in hot paths; define it before the first include to take over.
#if !defined(LETHE_ASSERT)
#define LETHE_ASSERT(condition) assert(condition)
#endif

#if defined(__CUDACC__)
#define LETHE_HOST_DEVICE __host__ __device__
#else
#define LETHE_HOST_DEVICE
#endif

// Scores must have the same bits under every optimisation flag, so a loop that makes them is
// marked LETHE_EXACT and opens with LETHE_EXACT_BODY: no fused multiply-add, no reassociation.
// Vectorisation stays on, for it changes nothing there.
#if defined(__clang__)
#define LETHE_EXACT
#define LETHE_EXACT_BODY _Pragma("clang fp contract(off)") _Pragma("clang fp reassociate(off)")
#elif defined(__GNUC__)
#define LETHE_EXACT \
  __attribute__((   \
      optimize("fp-contract=off", "no-fast-math", "tree-vectorize", "vect-cost-model=dynamic")))
#define LETHE_EXACT_BODY
#else
#define LETHE_EXACT
#define LETHE_EXACT_BODY
#endif

// A product that is then added. Under -ffast-math clang's back end fuses the two whatever the
// pragma says; a fence keeps them apart, at the cost of vectorisation.
#if defined(__CUDA_ARCH__)
// nvcc fuses too, unless the product is asked for by name.
#define LETHE_PRODUCT(a, b) ::lethe::detail::rounded_product(a, b)
namespace lethe::detail {
[[nodiscard]] __device__ inline float rounded_product(float a, float b) { return __fmul_rn(a, b); }
}  // namespace lethe::detail
#elif defined(__clang__) && defined(__FAST_MATH__) && defined(__FMA__) && defined(__x86_64__)
#define LETHE_PRODUCT(a, b) ::lethe::detail::fenced_product(a, b)
namespace lethe::detail {
[[nodiscard]] inline float fenced_product(float a, float b) { return __arithmetic_fence(a * b); }
[[nodiscard]] inline double fenced_product(double a, double b) { return __arithmetic_fence(a * b); }
}  // namespace lethe::detail
#else
#define LETHE_PRODUCT(a, b) ((a) * (b))
#endif

// Before a loop whose body is already a vector's work: clang would vectorise over its turns
// instead.
#if defined(__clang__)
#define LETHE_LOOP_AS_WRITTEN _Pragma("clang loop vectorize(disable)")
#else
#define LETHE_LOOP_AS_WRITTEN
#endif

// Before a loop of a few instructions: where they fall into two lines of the instruction cache,
// each turn would else wait for both. clang unrolls vectors itself, and told to, makes none.
#if defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
#define LETHE_LOOP_UNROLLED _Pragma("GCC unroll 4")
#else
#define LETHE_LOOP_UNROLLED
#endif

// Before a sum of products of 16-bit integers: clang would take four at a time, and then find no
// instruction that multiplies and adds.
#if defined(__clang__)
#define LETHE_LOOP_BY_EIGHT _Pragma("clang loop vectorize_width(8) interleave_count(1)")
#else
#define LETHE_LOOP_BY_EIGHT
#endif

#if defined(__GNUC__) || defined(__clang__)
#define LETHE_COLD __attribute__((noinline, cold))
#define LETHE_INLINE __attribute__((always_inline))
#define LETHE_RESTRICT __restrict__
#define LETHE_PREFETCH(address) __builtin_prefetch(address)
#else
#define LETHE_COLD
#define LETHE_INLINE
#define LETHE_RESTRICT
#define LETHE_PREFETCH(address) static_cast<void>(address)
#endif

namespace lethe::detail {

#if defined(__cpp_exceptions)
template <class Exception>
[[noreturn]] LETHE_COLD inline void raise(const std::string& message) {
  throw Exception(message);
}
#else
template <class Exception>
[[noreturn]] LETHE_COLD inline void raise(const std::string& message) {
  std::fprintf(stderr, "lethe: %s\n", message.c_str());
  std::abort();
}
#endif

/// Reports a bad setting: throws std::invalid_argument "field = value: remedy".
[[noreturn]] LETHE_COLD inline void refuse(const char* field, const std::string& value,
                                           const std::string& remedy) {
  raise<std::invalid_argument>("lethe: " + std::string(field) + " = " + value + ": " + remedy);
}

template <class Number>
inline void require(bool holds, const char* field, Number value, const char* remedy) {
  if (!holds) refuse(field, std::to_string(value), remedy);
}

}  // namespace lethe::detail
