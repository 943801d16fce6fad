// kernels/pool.h on a CUDA device: device pointers on the current device, queued on `stream`, no
// wait on the host, may be captured into a graph. A thread an element of the result: backward
// gathers, in the CPU's order of additions, so results repeat to the bit.
#pragma once

#include "kernels/cuda/stream.h"
#include "kernels/pool.h"

namespace weft::kernels::cuda {

void max_pool2d(const Pool2d& problem, const void* x, void* y, std::int32_t* winners,
                Stream stream);
void max_pool2d_backward(const Pool2d& problem, const void* dy, const std::int32_t* winners,
                         void* dx, Stream stream);
void avg_pool2d(const Pool2d& problem, const void* x, void* y, Stream stream);
void avg_pool2d_backward(const Pool2d& problem, const void* dy, void* dx, Stream stream);

}  // namespace weft::kernels::cuda
