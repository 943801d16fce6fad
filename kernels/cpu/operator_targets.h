// The instruction sets for kernels that keep vectors in arrays and lambdas, which scalable vectors
// (SVE, RISC-V V) do not allow; NEON serves Arm there. Include before any Highway header.
#pragma once

#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
