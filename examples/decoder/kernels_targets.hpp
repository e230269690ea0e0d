// Common settings of the files that Highway compiles once per instruction set.
#pragma once

// AVX-512 with VNNI is opt-in; scalable vectors cannot stand in arrays, so Arm runs NEON code.
#define HWY_WANT_AVX3_DL
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
