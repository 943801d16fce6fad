// Element-wise arithmetic on contiguous runs in the calling thread: what the strided kernels call
// block by block. Types: f32, f64, i64, i32, u8 (halves come widened to f32). Outputs may be
// inputs. No checks: elementwise.cc has made them.
#pragma once

#include <cstddef>

#include "kernels/base/dtype.h"
#include "kernels/elementwise.h"

namespace weft::kernels::lanes {

bool serves(UnaryOp op, DType dtype);
bool serves(BinaryOp op, DType dtype);

void unary(UnaryOp op, DType dtype, void* out, const void* in, std::size_t count, double scalar);
void binary(BinaryOp op, DType dtype, void* out, const void* a, const void* b, std::size_t count,
            double scalar);
// y += alpha * x
void accumulate(DType dtype, void* y, const void* x, std::size_t count, double alpha);

}  // namespace weft::kernels::lanes
