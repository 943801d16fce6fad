#include "kernels/gemm_check.h"

#include "kernels/base/error.h"

namespace weft::kernels {

void check_gemm(const Gemm& g, bool lacks_bias) {
  if (!is_floating(g.dtype)) {
    fail<InvalidArgument>("gemm: matrices of {}: expected a floating type.", name_of(g.dtype));
  }
  if (g.m < 0 || g.n < 0 || g.k < 0) {
    fail<InvalidArgument>("gemm: m={} n={} k={}: expected 0 or more.", g.m, g.n, g.k);
  }
  const std::int64_t width_a = g.transpose_a == Transpose::yes ? g.m : g.k;
  const std::int64_t width_b = g.transpose_b == Transpose::yes ? g.k : g.n;
  if (g.lda < width_a || g.ldb < width_b || g.ldc < g.n) {
    fail<InvalidArgument>(
        "gemm: m={} n={} k={}: lda={} ldb={} ldc={}: expected at least {}, {} and {}.", g.m, g.n,
        g.k, g.lda, g.ldb, g.ldc, width_a, width_b, g.n);
  }
  const bool reads = g.m > 0 && g.n > 0;
  if (reads && (g.c == nullptr || (g.k > 0 && (g.a == nullptr || g.b == nullptr)))) {
    fail<InvalidArgument>("gemm: m={} n={} k={}: a null matrix.", g.m, g.n, g.k);
  }
  if (reads && lacks_bias) {
    fail<InvalidArgument>("gemm: the epilogue adds a bias, which is null.");
  }
}

}  // namespace weft::kernels
