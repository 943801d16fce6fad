// The one way to launch a kernel: the same source is compiled by nvcc for a device and by the C++
// compiler for tests/emulator.
//
//   launch(add_kernel<float>, Shape{grid_for(count, 256), 256}, stream, to, a, b, count);
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/reach.h"
#include "kernels/cuda/status.h"
#include "kernels/cuda/stream.h"

namespace weft::kernels::cuda {

inline constexpr unsigned kSharedBytesWithoutAsking = 48 << 10;
inline constexpr unsigned kWarp = 32;

struct Shape {
  dim3 grid = 1, block = 1;
  unsigned shared_bytes = 0;  // dynamic, see dynamic_shared() in hardware.cuh
  bool cooperative = false;   // all blocks run at the same time, or the launch fails
};

// Blocks of `threads` for `items`, one a thread: at least 1, at most `blocks_max`. Kernels stride
// over what is beyond.
inline unsigned grid_for(std::int64_t items, unsigned threads, std::int64_t blocks_max = 132 * 16) {
  return static_cast<unsigned>(std::clamp<std::int64_t>((items + threads - 1) / threads, 1,
                                                        std::max<std::int64_t>(blocks_max, 1)));
}

// Calls visit(pointer) for what a kernel is told by an argument: a pointer, or what the pointers()
// of a struct names (those that come from outside of this library; others need no check).
template <class T, class Visit>
void visit_pointers(const T& argument, const Visit& visit) {
  if constexpr (std::is_pointer_v<T>) {
    visit(static_cast<const void*>(argument));
  } else if constexpr (requires { argument.pointers(visit); }) {
    argument.pointers(visit);
  }
}

// Queues kernel(args...) on the stream; arguments are converted to the kernel's parameters and
// copied. A grid without blocks does nothing. Throws what check() does, and InvalidArgument for a
// pointer that kernels of the current device cannot follow.
template <class... Parameters, class... Args>
void launch(void (*kernel)(Parameters...), const Shape& shape, Stream stream, Args&&... args) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  const auto* const address = reinterpret_cast<const void*>(kernel);
  const LaunchShape told{{shape.grid.x, shape.grid.y, shape.grid.z},
                         {shape.block.x, shape.block.y, shape.block.z},
                         shape.shared_bytes,
                         shape.cooperative};
  int argument = 0;
  const auto check_argument = [&](const auto& value) {
    visit_pointers(value, [&](const void* data) { check_reachable(data, address, argument); });
    ++argument;
  };
  (check_argument(args), ...);
  if (shape.shared_bytes > kSharedBytesWithoutAsking) {
    check_launch(cudaFuncSetAttribute(address, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(shape.shared_bytes)),
                 address, told);
  }
  cudaLaunchAttribute cooperative{};
  cooperative.id = cudaLaunchAttributeCooperative;
  cooperative.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = &cooperative;
  config.numAttrs = shape.cooperative ? 1 : 0;
  check_launch(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(args)...), address,
               told);
}

// The most blocks of this kernel that run at the same time on the current device: the bound of a
// cooperative launch. 0 where not even one fits.
template <class... Parameters>
int resident_blocks(void (*kernel)(Parameters...), unsigned threads, unsigned shared_bytes = 0) {
  const auto* const address = reinterpret_cast<const void*>(kernel);
  if (shared_bytes > kSharedBytesWithoutAsking) {
    check(cudaFuncSetAttribute(address, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          "shared memory of a CUDA kernel");
  }
  int blocks = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, address, static_cast<int>(threads),
                                                      shared_bytes),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  return blocks * multiprocessors();
}

}  // namespace weft::kernels::cuda
