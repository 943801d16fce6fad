#include "kernels/gemm.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/base/thread_pool.h"
#include "kernels/cast.h"

namespace weft::kernels {
namespace {

CBLAS_TRANSPOSE to_cblas(Transpose transpose) {
  return transpose == Transpose::yes ? CblasTrans : CblasNoTrans;
}

void product(const Gemm& g) {
  static const bool once = (openblas_set_num_threads(1), true);
  static_cast<void>(once);
  const auto ta = to_cblas(g.transpose_a), tb = to_cblas(g.transpose_b);
  const auto i = [](std::int64_t v) { return static_cast<blasint>(std::max<std::int64_t>(v, 1)); };
  const auto m = static_cast<blasint>(g.m), n = static_cast<blasint>(g.n),
             k = static_cast<blasint>(g.k);
  if (m == 0 || n == 0) return;
  if (g.dtype == DType::f64) {
    cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, g.alpha, static_cast<const double*>(g.a), i(g.lda),
                static_cast<const double*>(g.b), i(g.ldb), g.beta, static_cast<double*>(g.c),
                i(g.ldc));
  } else {
    cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, static_cast<float>(g.alpha),
                static_cast<const float*>(g.a), i(g.lda), static_cast<const float*>(g.b), i(g.ldb),
                static_cast<float>(g.beta), static_cast<float*>(g.c), i(g.ldc));
  }
}

void product_of_halves(const Gemm& g) {
  const std::int64_t rows_a = g.transpose_a == Transpose::yes ? g.k : g.m;
  const std::int64_t rows_b = g.transpose_b == Transpose::yes ? g.n : g.k;
  std::vector<float> a(static_cast<std::size_t>(rows_a * g.lda));
  std::vector<float> b(static_cast<std::size_t>(rows_b * g.ldb));
  std::vector<float> c(static_cast<std::size_t>(g.m * g.ldc));
  const auto widen = [&](std::vector<float>& to, const void* from, std::int64_t rows,
                         std::int64_t width, std::int64_t ld) {
    for (std::int64_t r = 0; r < rows; ++r) {
      cast(to.data() + r * ld, DType::f32, static_cast<const std::uint16_t*>(from) + r * ld,
           g.dtype, Elems(width));
    }
  };
  widen(a, g.a, rows_a, g.transpose_a == Transpose::yes ? g.m : g.k, g.lda);
  widen(b, g.b, rows_b, g.transpose_b == Transpose::yes ? g.k : g.n, g.ldb);
  if (g.beta != 0.0) widen(c, g.c, g.m, g.n, g.ldc);
  Gemm wide = g;
  wide.dtype = DType::f32;
  wide.a = a.data();
  wide.b = b.data();
  wide.c = c.data();
  product(wide);
  for (std::int64_t r = 0; r < g.m; ++r) {
    cast(static_cast<std::uint16_t*>(g.c) + r * g.ldc, g.dtype, c.data() + r * g.ldc, DType::f32,
         Elems(g.n));
  }
}

double gelu(double x) {
  return 0.5 * x * (1.0 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

}  // namespace

void gemm(const Gemm& problem, Epilogue epilogue, const void* bias, void* pre_activation) {
  if (is_half(problem.dtype)) {
    product_of_halves(problem);
  } else {
    product(problem);
  }
  if (epilogue == Epilogue::none) return;
  dispatch(problem.dtype, [&]<class T>() {
    if constexpr (!std::is_integral_v<T>) {
      for (std::int64_t r = 0; r < problem.m; ++r) {
        T* row = static_cast<T*>(problem.c) + r * problem.ldc;
        for (std::int64_t j = 0; j < problem.n; ++j) {
          using W = std::conditional_t<sizeof(T) == 8, double, float>;
          const W x = static_cast<W>(row[j]) + static_cast<W>(static_cast<const T*>(bias)[j]);
          if (epilogue == Epilogue::bias_gelu) {
            if (pre_activation != nullptr)
              static_cast<T*>(pre_activation)[r * problem.n + j] = T(x);
            row[j] = T(static_cast<W>(gelu(static_cast<double>(x))));
          } else {
            row[j] = T(x);
          }
        }
      }
    }
  });
}

void gemm_batched(const Gemm& problem, std::int64_t batch, std::int64_t stride_a,
                  std::int64_t stride_b, std::int64_t stride_c) {
  const std::int64_t size = size_of(problem.dtype).value;
  parallel_for(batch, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      Gemm one = problem;
      one.a = static_cast<const char*>(problem.a) + i * stride_a * size;
      one.b = static_cast<const char*>(problem.b) + i * stride_b * size;
      one.c = static_cast<char*>(problem.c) + i * stride_c * size;
      gemm(one);
    }
  });
}

}  // namespace weft::kernels
