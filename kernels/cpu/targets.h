// Which instruction sets Highway compiles our kernels for. Include before any Highway header.
//
// On x86 that leaves the baseline, AVX2 with FMA and F16C, and AVX-512: those between cost build
// time and serve processors older than 2013.
#pragma once

#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#endif
