// CUDA C++ as the C++ compiler can have it: device code of weft compiles against this and runs on
// the CPU (tests/emulator/block.h says how). Launches go through cudaLaunchKernelEx, never <<<>>>;
// what is not here is in hardware.cuh or not used by weft.
#pragma once

#include <cuda_runtime_api.h>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
// Blocks of one OS thread run one after the other, so one copy an OS thread is one a block.
#define __shared__ static thread_local

#include "tests/emulator/device.h"
#include "tests/emulator/launch.h"
#include "tests/emulator/math.h"
