#include "kernels/cpu/attention_product.h"

#include <algorithm>

#include "kernels/cpu/operator_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_product.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "kernels/cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels {
namespace HWY_NAMESPACE {
namespace {

using namespace simd;

// Rows of c kept in registers, two vectors each: 16 of 32 registers, or 8 of 16.
#if HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int kRows = 8;
#else
constexpr int kRows = 4;
#endif

// c[i .. i + kM, j .. j + kN vectors] over the inner range [begin, end). The last vector has
// `lanes`.
template <int kM, int kN, class R, class Lanes>
HWY_INLINE void block(const TileProduct<R>& p, const Lanes& lanes, std::int64_t i, std::int64_t j,
                      std::int64_t begin, std::int64_t end) {
  const hn::ScalableTag<R> d;
  using V = hn::Vec<hn::ScalableTag<R>>;
  const auto width = static_cast<std::int64_t>(hn::Lanes(d));
  V sums[kM][kN];
  for (int r = 0; r < kM; ++r) {
    for (int v = 0; v < kN; ++v) sums[r][v] = hn::Zero(d);
  }
  const R* a = p.a + i * p.a_row + begin * p.a_inner;
  const R* b = p.b + begin * p.b_row + j;
  for (std::int64_t l = begin; l < end; ++l, a += p.a_inner, b += p.b_row) {
    V row[kN];
    for (int v = 0; v + 1 < kN; ++v) row[v] = hn::LoadU(d, b + v * width);
    row[kN - 1] = lanes.load(b + (kN - 1) * width);
    for (int r = 0; r < kM; ++r) {
      const V factor = hn::Set(d, a[r * p.a_row]);
      for (int v = 0; v < kN; ++v) sums[r][v] = hn::MulAdd(factor, row[v], sums[r][v]);
    }
  }
  const V alpha = hn::Set(d, p.alpha);
  for (int r = 0; r < kM; ++r) {
    R* c = p.c + (i + r) * p.c_row + j;
    for (int v = 0; v < kN; ++v) {
      R* to = c + v * width;
      const bool last = v + 1 == kN;
      V sum = hn::Mul(sums[r][v], alpha);
      if (p.accumulate) sum = hn::Add(sum, last ? lanes.load(to) : hn::LoadU(d, to));
      if (last) {
        lanes.store(sum, to);
      } else {
        hn::StoreU(sum, d, to);
      }
    }
  }
}

// kM rows of c, as far as the diagonal lets them matter.
template <int kM, class R>
HWY_INLINE void rows_of(const TileProduct<R>& p, std::int64_t i) {
  const hn::ScalableTag<R> d;
  using D = hn::ScalableTag<R>;
  const auto width = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t seen = p.first_visible + i + kM - 1;  // by the last row
  const std::int64_t columns = p.trim == Trim::columns ? std::min(p.n, seen) : p.n;
  const std::int64_t end = p.trim == Trim::inner ? std::min(p.k, seen) : p.k;
  const std::int64_t begin = p.trim == Trim::inner_start
                                 ? std::min(p.k, std::max<std::int64_t>(0, i - p.first_visible + 1))
                                 : 0;
  std::int64_t j = 0;
  for (; j + 2 * width <= columns; j += 2 * width) {
    block<kM, 2>(p, WholeLanes<D>{d}, i, j, begin, end);
  }
  if (j + width <= columns) {
    block<kM, 1>(p, WholeLanes<D>{d}, i, j, begin, end);
    j += width;
  }
  if (j < columns) {
    block<kM, 1>(p, SomeLanes<D>{d, static_cast<std::size_t>(columns - j)}, i, j, begin, end);
  }
}

template <class R>
HWY_INLINE void multiply(const TileProduct<R>& p) {
  std::int64_t i = 0;
  for (; i + kRows <= p.m; i += kRows) rows_of<kRows>(p, i);
  for (; i + 2 <= p.m; i += 2) rows_of<2>(p, i);
  if (i < p.m) rows_of<1>(p, i);
}

void multiply_f32(const TileProduct<float>& p) { multiply(p); }
void multiply_f64(const TileProduct<double>& p) { multiply(p); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace weft::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {
namespace {
HWY_EXPORT(multiply_f32);
HWY_EXPORT(multiply_f64);
}  // namespace

void tile_product(const TileProduct<float>& product) {
  HWY_DYNAMIC_DISPATCH(multiply_f32)(product);
}
void tile_product(const TileProduct<double>& product) {
  HWY_DYNAMIC_DISPATCH(multiply_f64)(product);
}

}  // namespace weft::kernels
#endif
