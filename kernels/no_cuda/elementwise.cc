#include "kernels/cuda/elementwise.h"

#include "kernels/no_cuda/refuse.h"

namespace weft::kernels::cuda {

void unary(UnaryOp, DType, Dims, Operand, ConstOperand, double, Stream) {
  refuse_without_backend("CUDA unary");
}

void binary(BinaryOp, DType, Dims, Operand, ConstOperand, ConstOperand, double, Stream) {
  refuse_without_backend("CUDA binary");
}

void accumulate(DType, Dims, Operand, ConstOperand, double, Stream) {
  refuse_without_backend("CUDA accumulate");
}

void fill(DType, Dims, Operand, double, Stream) { refuse_without_backend("CUDA fill"); }

void copy(Dims, Operand, DType, ConstOperand, DType, Stream) {
  refuse_without_backend("CUDA copy");
}

void unary(UnaryOp, DType, Elems, void*, const void*, double, Stream) {
  refuse_without_backend("CUDA unary");
}

void binary(BinaryOp, DType, Elems, void*, const void*, const void*, double, Stream) {
  refuse_without_backend("CUDA binary");
}

void accumulate(DType, Elems, void*, const void*, double, Stream) {
  refuse_without_backend("CUDA accumulate");
}

void fill(DType, Elems, void*, double, Stream) { refuse_without_backend("CUDA fill"); }

void reduce_axis(AxisOp, DType, Axis, void*, const void*, Stream) {
  refuse_without_backend("CUDA reduce_axis");
}

void max_axis(DType, Axis, void*, std::int64_t*, const void*, Stream) {
  refuse_without_backend("CUDA max_axis");
}

void max_axis_backward(DType, Axis, void*, const void*, const std::int64_t*, Stream) {
  refuse_without_backend("CUDA max_axis_backward");
}

}  // namespace weft::kernels::cuda
