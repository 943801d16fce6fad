// Vector pieces that the operators' kernels share; read once for every SIMD target (Highway).
//
// Everything is a template over the lane type: float lanes use Highway's polynomials, double lanes
// the C library, one lane at a time, so that f64 is the exact reference of the same algorithm.
#if defined(WEFT_KERNELS_CPU_SIMD_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEFT_KERNELS_CPU_SIMD_MATH_INL_H_
#undef WEFT_KERNELS_CPU_SIMD_MATH_INL_H_
#else
#define WEFT_KERNELS_CPU_SIMD_MATH_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace weft::kernels {
namespace HWY_NAMESPACE {
namespace simd {

namespace hn = hwy::HWY_NAMESPACE;

// Whole vectors, and what is left of a row behind the last whole vector. Unused lanes load as 0.
template <class D>
struct WholeLanes {
  using T = hn::TFromD<D>;
  D d;
  HWY_INLINE hn::Vec<D> load(const T* p) const { return hn::LoadU(d, p); }
  HWY_INLINE void store(hn::Vec<D> v, T* p) const { hn::StoreU(v, d, p); }
  HWY_INLINE hn::Vec<D> used(hn::Vec<D> v, hn::Vec<D> /*otherwise*/) const { return v; }
};

template <class D>
struct SomeLanes {
  using T = hn::TFromD<D>;
  D d;
  std::size_t count;
#if HWY_MEM_OPS_MIGHT_FAULT
  HWY_INLINE hn::Vec<D> load(const T* p) const {
    HWY_ALIGN T lanes[hn::MaxLanes(D())] = {};
    std::memcpy(lanes, p, count * sizeof(T));
    return hn::Load(d, lanes);
  }
  HWY_INLINE void store(hn::Vec<D> v, T* p) const {
    HWY_ALIGN T lanes[hn::MaxLanes(D())];
    hn::Store(v, d, lanes);
    std::memcpy(p, lanes, count * sizeof(T));
  }
#else
  HWY_INLINE hn::Vec<D> load(const T* p) const {
    return hn::MaskedLoad(hn::FirstN(d, count), d, p);
  }
  HWY_INLINE void store(hn::Vec<D> v, T* p) const {
    hn::BlendedStore(v, hn::FirstN(d, count), d, p);
  }
#endif
  HWY_INLINE hn::Vec<D> used(hn::Vec<D> v, hn::Vec<D> otherwise) const {
    return hn::IfThenElse(hn::FirstN(d, count), v, otherwise);
  }
};

// body(lanes, i) over [0, n).
template <class D, class Body>
HWY_INLINE void for_lanes(D d, std::size_t n, const Body& body) {
  const std::size_t width = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + width <= n; i += width) body(WholeLanes<D>{d}, i);
  if (i < n) body(SomeLanes<D>{d, n - i}, i);
}

// fold(accumulated, term(lanes, i)) over [0, n) with four accumulators, then across lanes in a
// fixed order. Unused lanes count as `neutral`.
template <class D, class Term, class Fold>
HWY_INLINE hn::Vec<D> fold_lanes(D d, std::size_t n, hn::Vec<D> neutral, const Term& term,
                                 const Fold& fold) {
  const std::size_t width = hn::Lanes(d);
  auto a = neutral, b = neutral, c = neutral, e = neutral;
  const WholeLanes<D> whole{d};
  std::size_t i = 0;
  for (; i + 4 * width <= n; i += 4 * width) {
    a = fold(a, term(whole, i));
    b = fold(b, term(whole, i + width));
    c = fold(c, term(whole, i + 2 * width));
    e = fold(e, term(whole, i + 3 * width));
  }
  for (; i + width <= n; i += width) a = fold(a, term(whole, i));
  if (i < n) {
    const SomeLanes<D> some{d, n - i};
    b = fold(b, some.used(term(some, i), neutral));
  }
  return fold(fold(a, b), fold(c, e));
}

template <class D, class Term>
HWY_INLINE hn::TFromD<D> sum_lanes(D d, std::size_t n, const Term& term) {
  const auto fold = [](hn::Vec<D> a, hn::Vec<D> b) HWY_ATTR { return hn::Add(a, b); };
  return hn::GetLane(hn::SumOfLanes(d, fold_lanes(d, n, hn::Zero(d), term, fold)));
}

// The maximum of a row; -infinity for an empty one. Where a NaN stands, any element may come out.
template <class D>
HWY_INLINE hn::TFromD<D> max_of(D d, std::size_t n, const hn::TFromD<D>* x) {
  using T = hn::TFromD<D>;
  const auto lowest = hn::Set(d, -std::numeric_limits<T>::infinity());
  const auto term = [x](auto lanes, std::size_t i) HWY_ATTR { return lanes.load(x + i); };
  const auto fold = [](hn::Vec<D> a, hn::Vec<D> b) HWY_ATTR { return hn::Max(a, b); };
  return hn::GetLane(hn::MaxOfLanes(d, fold_lanes(d, n, lowest, term, fold)));
}

template <class D, class F>
HWY_INLINE hn::Vec<D> by_lane(D d, hn::Vec<D> x, const F& f) {
  HWY_ALIGN hn::TFromD<D> lanes[hn::MaxLanes(D())];
  hn::Store(x, d, lanes);
  for (std::size_t i = 0; i < hn::Lanes(d); ++i) lanes[i] = f(lanes[i]);
  return hn::Load(d, lanes);
}

// e^x: float within 2 ULP, 0 below -104, infinity above 89; NaN stays NaN.
template <class D>
HWY_INLINE hn::Vec<D> exp(D d, hn::Vec<D> x) {
  if constexpr (sizeof(hn::TFromD<D>) == 8) {
    return by_lane(d, x, [](double v) { return std::exp(v); });
  } else {
    // Highway's is defined up to 104, where the result has long been infinite, and maps NaN to 0.
    const auto y = hn::Exp(d, hn::Min(x, hn::Set(d, 104.0f)));
    return hn::IfThenElse(hn::IsNaN(x), x, y);
  }
}

// 1 / (1 + e^-x).
template <class D>
HWY_INLINE hn::Vec<D> sigmoid(D d, hn::Vec<D> x) {
  const auto one = hn::Set(d, hn::TFromD<D>(1));
  return hn::Div(one, hn::Add(one, exp(d, hn::Neg(x))));
}

}  // namespace simd
}  // namespace HWY_NAMESPACE
}  // namespace weft::kernels
HWY_AFTER_NAMESPACE();

#endif
