// General matrix product through CBLAS, row-major, shared out over the thread pool.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

namespace weft::kernels {

enum class Transpose : bool { no, yes };

// C[m,n] = alpha * op(A)[m,k] op(B)[k,n] + beta * C. f32, f64; f16 and bf16 are computed in f32
// (cast tile by tile) and rounded once. lda, ldb, ldc: elements between rows as stored. beta == 0
// does not read C. Any of m, n, k may be 0.
struct Gemm {
  DType dtype = DType::f32;
  Transpose transpose_a = Transpose::no;
  Transpose transpose_b = Transpose::no;
  std::int64_t m = 0, n = 0, k = 0;
  double alpha = 1.0;
  const void* a = nullptr;
  std::int64_t lda = 0;
  const void* b = nullptr;
  std::int64_t ldb = 0;
  double beta = 0.0;
  void* c = nullptr;
  std::int64_t ldc = 0;
};

enum class Epilogue : std::uint8_t { none, bias, bias_gelu };

// After each tile of C, while it is in cache: adds bias[n] to every row; with bias_gelu also keeps
// what stands before GELU (tanh form) in `pre_activation` (m x n, ld = n; may be nullptr) and
// leaves GELU of it in C.
void gemm(const Gemm& problem, Epilogue epilogue = Epilogue::none, const void* bias = nullptr,
          void* pre_activation = nullptr);

// `batch` products of one shape; matrix i starts at a + i * stride_a and so on (elements).
void gemm_batched(const Gemm& problem, std::int64_t batch, std::int64_t stride_a,
                  std::int64_t stride_b, std::int64_t stride_c);

}  // namespace weft::kernels
