// Element-wise kernels, copies and reductions on strided memory: what tensor/ops/basic.h stands on.
//
// Shapes and strides count elements; a stride of 0 repeats an element (broadcasting), negative ones
// walk backwards. Every operand has one stride for each dimension of `shape`; no dimension at all
// is one element, a dimension of 0 makes a call do nothing. An output may be one of the inputs
// itself (same pointer, type and strides) but must not overlap otherwise, and its strides must not
// make two indices share an element. Pointers must be aligned to their element.
//
// f16 and bf16 are computed in f32 and rounded once. Work runs over the current thread pool; every
// result depends on the arguments alone, not on the number of threads. InvalidArgument where an
// operation does not serve a dtype, where ranks differ, or for more than kDimsMax dimensions.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/base/dtype.h"
#include "kernels/base/units.h"

namespace weft::kernels {

inline constexpr int kDimsMax = 16;

using Dims = std::span<const std::int64_t>;

struct ConstOperand {
  const void* data = nullptr;
  Dims strides;
};
struct Operand {
  void* data = nullptr;
  Dims strides;
};

// x is the input, s the scalar argument.
enum class UnaryOp : std::uint8_t {
  neg,         // -x; integers too
  abs,         // |x|; integers too
  exp,         // within 2 ulp in f32 and f64, as is log; tanh and sigmoid within 4
  log,         //
  sqrt,        //
  tanh,        //
  sigmoid,     // 1 / (1 + exp(-x))
  relu,        // max(x, 0), NaN stays; integers too
  pow,         // x^s; s = 2, 1, 0.5, 0, -0.5, -1, -2, 3 are exact products, roots and quotients
  add_scalar,  // x + s; integers too (s truncated)
  mul_scalar,  // x * s; integers too (s truncated)
};

// out[i] = op(in[i]).
void unary(UnaryOp op, DType dtype, Dims shape, Operand out, ConstOperand in, double scalar = 0.0);

// The first four are arithmetic; the others are the backward forms of unary operators, a being the
// gradient that arrives and b what forward kept: its input x, or its output y.
enum class BinaryOp : std::uint8_t {
  add,               // a + b; integers too
  sub,               // a - b; integers too
  mul,               // a * b; integers too; exp's backward with b = y
  div,               // a / b; log's backward with b = x
  max,               // NaN where either is; integers too
  min,               //
  sqrt_backward,     // a / (2 y)
  tanh_backward,     // a (1 - y^2)
  sigmoid_backward,  // a y (1 - y)
  relu_backward,     // a where y > 0 (or x > 0), else 0
  pow_backward,      // a s x^(s-1)
  abs_backward,      // a sign(x)
};

// out[i] = a[i] op b[i].
void binary(BinaryOp op, DType dtype, Dims shape, Operand out, ConstOperand a, ConstOperand b,
            double scalar = 0.0);

// y[i] += alpha * x[i]; integers too (alpha truncated). y's strides must not be 0 where the shape
// is not 1: to sum a broadcast dimension away, use reduce_axis.
void accumulate(DType dtype, Dims shape, Operand y, ConstOperand x, double alpha = 1.0);

// out[i] = value, converted as kernels::cast does.
void fill(DType dtype, Dims shape, Operand out, double value);

// out[i] = in[i], converted as kernels::cast does. Transposed layouts are copied in tiles.
void copy(Dims shape, Operand out, DType out_type, ConstOperand in, DType in_type);

// The same on contiguous memory of `count` elements.
void unary(UnaryOp op, DType dtype, Elems count, void* out, const void* in, double scalar = 0.0);
void binary(BinaryOp op, DType dtype, Elems count, void* out, const void* a, const void* b,
            double scalar = 0.0);
void accumulate(DType dtype, Elems count, void* y, const void* x, double alpha = 1.0);
void fill(DType dtype, Elems count, void* out, double value);

// A contiguous input seen as (outer, reduced, inner): any one dimension, or several neighbouring
// ones, of a contiguous tensor. Outputs are contiguous (outer, inner).
struct Axis {
  std::int64_t outer = 1, reduced = 1, inner = 1;
};

enum class AxisOp : std::uint8_t {
  sum,   // 0 for reduced == 0; summed in blocks, f16 and bf16 in f32; integers wrap
  mean,  // NaN for reduced == 0; floating types only
};
void reduce_axis(AxisOp op, DType dtype, Axis axis, void* out, const void* in);

// The largest element and where it first stands; NaN counts as larger than all. `out` or `indices`
// may be nullptr. InvalidArgument for reduced == 0 (unless there is no output either).
void max_axis(DType dtype, Axis axis, void* out, std::int64_t* indices, const void* in);

// max_axis' backward: grad_in (outer, reduced, inner) = 0 but for grad_out at `indices`.
void max_axis_backward(DType dtype, Axis axis, void* grad_in, const void* grad_out,
                       const std::int64_t* indices);

}  // namespace weft::kernels
