// kernels/conv.h on a CUDA device: device pointers on the current device, queued on `stream`, no
// wait on the host, may be captured into a graph. Results repeat to the bit.
//
// Implicit GEMM: the column matrix is never written. Products run on the floating-point units (f32
// for f32, f16 and bf16), not on tensor cores. dweight is summed over fixed parts of batch x
// pixels, then over the parts in order.
#pragma once

#include "kernels/conv.h"
#include "kernels/cuda/stream.h"

namespace weft::kernels::cuda {

// InvalidArgument for 2^31 or more pixels in a batch, or filter elements.
void conv2d(const Conv2d& problem, const void* x, const void* weight, const void* bias, void* y,
            Stream stream);
void conv2d_backward(const Conv2d& problem, const void* dy, const void* x, const void* weight,
                     void* dx, void* dweight, void* dbias, Stream stream);

}  // namespace weft::kernels::cuda
