// Common settings of the files that Highway compiles once per instruction set.
#pragma once

// Three sets for x86 (SSE4, AVX2, AVX-512 with VNNI) and a portable one: more would double the
// build for little speed. Scalable vectors cannot stand in arrays, so Arm runs NEON code.
#define HWY_WANT_AVX3_DL
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_AVX3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
