// kernels/elementwise.h on a CUDA device: the same operations on the same layouts, with the same
// errors for what can be seen in the arguments.
//
// Device pointers on the current device; queued on `stream`, no wait on the host, may be captured
// into a graph. Results repeat to the bit. Strided operands of up to kDimsMax dimensions; 16-byte
// accesses where the innermost dimension allows them, transposed planes in tiles. f16 and bf16 are
// computed in f32 and rounded once; errors of the functions: kernels/functors/elementwise.h.
#pragma once

#include "kernels/cuda/stream.h"
#include "kernels/elementwise.h"

namespace weft::kernels::cuda {

void unary(UnaryOp op, DType dtype, Dims shape, Operand out, ConstOperand in, double scalar,
           Stream stream);
void binary(BinaryOp op, DType dtype, Dims shape, Operand out, ConstOperand a, ConstOperand b,
            double scalar, Stream stream);
void accumulate(DType dtype, Dims shape, Operand y, ConstOperand x, double alpha, Stream stream);
void fill(DType dtype, Dims shape, Operand out, double value, Stream stream);
void copy(Dims shape, Operand out, DType out_type, ConstOperand in, DType in_type, Stream stream);

void unary(UnaryOp op, DType dtype, Elems count, void* out, const void* in, double scalar,
           Stream stream);
void binary(BinaryOp op, DType dtype, Elems count, void* out, const void* a, const void* b,
            double scalar, Stream stream);
void accumulate(DType dtype, Elems count, void* y, const void* x, double alpha, Stream stream);
void fill(DType dtype, Elems count, void* out, double value, Stream stream);

// Sums are taken in a fixed tree of blocks, halves in f32; f64 across blocks.
void reduce_axis(AxisOp op, DType dtype, Axis axis, void* out, const void* in, Stream stream);
void max_axis(DType dtype, Axis axis, void* out, std::int64_t* indices, const void* in,
              Stream stream);
// An index out of range is told by check_faults() (kernels/cuda/faults.h).
void max_axis_backward(DType dtype, Axis axis, void* grad_in, const void* grad_out,
                       const std::int64_t* indices, Stream stream);

}  // namespace weft::kernels::cuda
