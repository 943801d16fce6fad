// kernels/activation.h on a CUDA device: device pointers on the current device, queued on `stream`,
// no wait on the host, may be captured into a graph. Results repeat to the bit. Error bounds:
// kernels/functors/activation.h, and one rounding where the type is a half.
#pragma once

#include "kernels/activation.h"
#include "kernels/cuda/stream.h"

namespace weft::kernels::cuda {

void gelu(GeluKind kind, DType dtype, Elems count, const void* x, void* y, Stream stream);
void gelu_backward(GeluKind kind, DType dtype, Elems count, const void* dy, const void* x, void* dx,
                   Stream stream);
void relu(DType dtype, Elems count, const void* x, void* y, Stream stream);
void relu_backward(DType dtype, Elems count, const void* dy, const void* y, void* dx,
                   Stream stream);

// dy and what was saved are read once, dx is written in the same pass; dbias is summed over fixed
// blocks of rows, then over the blocks in order.
void bias_activation_backward(const BiasActivationBackward& problem, Stream stream);

}  // namespace weft::kernels::cuda
