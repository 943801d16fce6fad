// kernels/softmax.h on a CUDA device: device pointers on the current device, queued on `stream`, no
// wait on the host, may be captured into a graph. Results repeat to the bit. Rows are read from
// memory once where one fits in a block's shared memory (the backward's dy; y is read twice, the
// second time from cache).
#pragma once

#include "kernels/cuda/stream.h"
#include "kernels/softmax.h"

namespace weft::kernels::cuda {

void softmax(SoftmaxKind kind, DType dtype, std::int64_t rows, std::int64_t columns, const void* x,
             void* y, Stream stream);
void softmax_backward(SoftmaxKind kind, DType dtype, std::int64_t rows, std::int64_t columns,
                      const void* dy, const void* y, void* dx, Stream stream);

}  // namespace weft::kernels::cuda
