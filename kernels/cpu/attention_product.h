// The products of attention's tiles: small, unpacked, and trimmed along the causal diagonal, which
// a general gemm would compute to throw away.
#pragma once

#include <cstdint>

namespace weft::kernels {

// Query q of a tile sees its first (first_visible + q) keys. What that spares:
enum class Trim : std::uint8_t {
  none,
  columns,      // rows are queries, columns keys: what a query does not see is not computed
  inner,        // rows are queries, the inner dimension keys: a is 0 where not seen
  inner_start,  // rows are keys, the inner dimension queries: likewise
};

// c[m, n] = alpha * a[m, k] b[k, n] (+ c).
template <class R>
struct TileProduct {
  std::int64_t m = 0, n = 0, k = 0;
  R alpha = 1;
  const R* a = nullptr;  // element (i, l) at i * a_row + l * a_inner
  std::int64_t a_row = 0, a_inner = 1;
  const R* b = nullptr;  // element (l, j) at l * b_row + j
  std::int64_t b_row = 0;
  R* c = nullptr;
  std::int64_t c_row = 0;
  bool accumulate = false;
  Trim trim = Trim::none;
  std::int64_t first_visible = 0;
};
void tile_product(const TileProduct<float>& product);
void tile_product(const TileProduct<double>& product);

}  // namespace weft::kernels
