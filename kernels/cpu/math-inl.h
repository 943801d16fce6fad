// exp, log, tanh and sigmoid over vectors of f32 or f64: Highway's polynomials with the ends of
// the range, infinities and NaN put right. Included once for every target (no usual include guard).
#if defined(WEFT_KERNELS_CPU_MATH_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef WEFT_KERNELS_CPU_MATH_INL_H
#undef WEFT_KERNELS_CPU_MATH_INL_H
#else
#define WEFT_KERNELS_CPU_MATH_INL_H
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <limits>

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D, class V = hn::Vec<D>>
HWY_INLINE V vector_exp(D d, V x) {
  using T = hn::TFromD<D>;
  // Above, the exponent that Highway assembles would wrap; here the result is infinite already.
  const V capped = hn::Min(x, hn::Set(d, static_cast<T>(sizeof(T) == 4 ? 104.0 : 720.0)));
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Exp(d, capped));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V vector_log(D d, V x) {
  using T = hn::TFromD<D>;
  const V zero = hn::Zero(d);
  const V infinity = hn::Set(d, std::numeric_limits<T>::infinity());
  V y = hn::Log(d, x);
  y = hn::IfThenElse(hn::Eq(x, infinity), x, y);
  y = hn::IfThenElse(hn::Eq(x, zero), hn::Neg(infinity), y);
  y = hn::IfThenElse(hn::Lt(x, zero), hn::Set(d, std::numeric_limits<T>::quiet_NaN()), y);
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V vector_tanh(D d, V x) {
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Tanh(d, x));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V vector_sigmoid(D d, V x) {
  const V one = hn::Set(d, static_cast<hn::TFromD<D>>(1));
  return hn::Div(one, hn::Add(one, vector_exp(d, hn::Neg(x))));
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
