// Softmax and its logarithm over rows, with the row's maximum taken out first. A row with a NaN or
// +infinity gives NaN.
//
// Contiguous (rows, columns); f64, f32, f16, bf16 (halves compute in f32 and round once). Runs on
// the current thread pool; results do not depend on its size.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

namespace weft::kernels {

enum class SoftmaxKind : bool { plain, log };

// y may be x.
void softmax(SoftmaxKind kind, DType dtype, std::int64_t rows, std::int64_t columns, const void* x,
             void* y);
// y: what softmax() gave. dx may be dy.
void softmax_backward(SoftmaxKind kind, DType dtype, std::int64_t rows, std::int64_t columns,
                      const void* dy, const void* y, void* dx);

}  // namespace weft::kernels
