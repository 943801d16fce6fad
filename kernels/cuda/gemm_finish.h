// What gemm does where cuBLASLt does not fuse it: one pass over C, and sums along a matrix.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/cuda/stream.h"

namespace weft::kernels::cuda {

enum class Finish : std::uint8_t { none, bias, bias_gelu, gelu_backward };

// c (batch x rows x columns) = finish(c * scale); scale 0 does not read c.
struct GemmFinish {
  DType dtype = DType::f32;
  std::int64_t batch = 1, rows = 0, columns = 0;
  void* c = nullptr;
  std::int64_t ldc = 0, stride_c = 0;
  double scale = 1.0;
  Finish finish = Finish::none;
  const void* bias = nullptr;   // (columns)
  void* kept = nullptr;         // (rows, columns): the pre-activation, where it is wanted
  const void* saved = nullptr;  // (rows, columns): the pre-activation, for backward

  template <class Visit>
  void pointers(const Visit& visit) const {
    visit(c);
    visit(bias);
    visit(kept);
    visit(saved);
  }
};
void finish_gemm(const GemmFinish& work, Stream stream);

// to[i] = sum over l of data[i * output_stride + l * term_stride], in a fixed order; one of the
// strides is 1.
struct GemmSums {
  DType dtype = DType::f32;
  std::int64_t outputs = 0, terms = 0;
  const void* data = nullptr;
  std::int64_t output_stride = 0, term_stride = 0;
  void* to = nullptr;

  template <class Visit>
  void pointers(const Visit& visit) const {
    visit(data);
    visit(to);
  }
};
void sum_for_gemm(const GemmSums& sums, Stream stream);

}  // namespace weft::kernels::cuda
